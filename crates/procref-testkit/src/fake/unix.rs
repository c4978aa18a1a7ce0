//! A service that is asked by signals, and opens sockets of several kinds.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::observe::Identity;
pub(super) use crate::process::passed_listener;

pub(super) const STOP_REASON: &str = "signal 15";

/// How it hears that it shall end.
pub(super) struct Asks(Signals);

impl Asks {
    pub(super) fn listen() -> io::Result<Self> {
        Signals::new([SIGTERM, SIGINT]).map(Self)
    }

    /// Why it shall end. Who is stubborn passes over SIGTERM.
    pub(super) fn wait(&mut self, stubborn: bool) -> String {
        let mut signals = self.0.forever();
        let heard = signals.find(|signal| !(stubborn && *signal == SIGTERM));
        format!("signal {}", heard.expect("for ever"))
    }
}

/// Into a session of its own.
pub(super) fn go_apart() {
    let _ = rustix::process::setsid();
}

/// A parent that ends at once, so that nobody who is still alive is the program's parent.
pub(super) fn starter(program: &Path, args: &[OsString]) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "\"$0\" \"$@\" &"])
        .arg(program)
        .args(args);
    command
}

pub(super) fn started(mut starter: Child) -> io::Result<()> {
    starter.wait().map(drop)
}

/// A file that is locked for this process. `None`: another one that lives has it.
pub(super) fn have_alone(path: &Path, me: Identity) -> io::Result<Option<File>> {
    let witness = File::options().append(true).create(true).open(path)?;
    while flock(&witness, FlockOperation::NonBlockingLockExclusive).is_err() {
        // One that was killed may have left the lock, for a moment, to a process that it was about to
        // execute. It is the instance that must not live any more.
        let holder = std::fs::read_to_string(path)?;
        if holder.parse().is_ok_and(Identity::is_live) {
            std::fs::write(path, me.to_string())?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::write(path, me.to_string())?;
    Ok(Some(witness))
}

pub(super) fn listen_locally(path: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    std::thread::spawn(move || listener.incoming().for_each(drop));
    Ok(())
}

/// `sd_notify(3)`
pub(super) fn notify() -> io::Result<()> {
    let socket = std::env::var("NOTIFY_SOCKET").map_err(io::Error::other)?;
    let name = socket.strip_prefix('@').ok_or_else(|| {
        let reason = "not an abstract socket";
        io::Error::new(io::ErrorKind::InvalidInput, reason)
    })?;
    let address = SocketAddr::from_abstract_name(name)?;
    let socket = UnixDatagram::unbound()?;
    socket
        .send_to_addr(b"STATUS=all well\nREADY=1", &address)
        .map(drop)
}
