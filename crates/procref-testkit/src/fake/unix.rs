//! The fake service on Unix: stop signals, Unix sockets and `sd_notify`.

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

/// The stop signals.
pub(super) struct StopRequests(Signals);

impl StopRequests {
    pub(super) fn register() -> io::Result<Self> {
        Signals::new([SIGTERM, SIGINT]).map(Self)
    }

    /// Waits for a stop signal and returns the reason for the log.
    pub(super) fn wait(&mut self, ignore_sigterm: bool) -> String {
        let mut signals = self.0.forever();
        let signal = signals.find(|signal| !(ignore_sigterm && *signal == SIGTERM));
        format!("signal {}", signal.expect("an endless iterator"))
    }
}

/// Moves this process to a new session.
pub(super) fn leave_session() {
    let _ = rustix::process::setsid();
}

/// Returns a shell that starts the program and exits, so that the program's parent is dead.
pub(super) fn launcher(program: &Path, args: &[OsString]) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "\"$0\" \"$@\" &"])
        .arg(program)
        .args(args);
    command
}

pub(super) fn finish_launcher(mut launcher: Child) -> io::Result<()> {
    launcher.wait().map(drop)
}

/// Locks a file for this process. Returns `None` if another live instance has locked it.
pub(super) fn lock_exclusively(path: &Path, own: Identity) -> io::Result<Option<File>> {
    let witness = File::options().append(true).create(true).open(path)?;
    while flock(&witness, FlockOperation::NonBlockingLockExclusive).is_err() {
        // A killed instance can leave the lock for a moment to a child that it was about to execute. Only a live
        // instance is an overlap.
        let holder = std::fs::read_to_string(path)?;
        if holder.parse().is_ok_and(Identity::is_live) {
            std::fs::write(path, own.to_string())?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::write(path, own.to_string())?;
    Ok(Some(witness))
}

pub(super) fn listen_local(path: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    std::thread::spawn(move || listener.incoming().for_each(drop));
    Ok(())
}

/// Reports readiness as `sd_notify(3)` does, with further lines.
pub(super) fn notify(lines: &[String]) -> io::Result<()> {
    let socket = std::env::var("NOTIFY_SOCKET").map_err(io::Error::other)?;
    let name = socket.strip_prefix('@').ok_or_else(|| {
        let reason = "not an abstract socket";
        io::Error::new(io::ErrorKind::InvalidInput, reason)
    })?;
    let address = SocketAddr::from_abstract_name(name)?;
    let socket = UnixDatagram::unbound()?;
    let message = format!("STATUS=ready to serve\nREADY=1\n{}", lines.join("\n"));
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}
