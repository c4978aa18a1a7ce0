//! A service that is asked by its stop event, and opens named pipes.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use procref::process::StopEvent;

use crate::observe::Identity;
use crate::process::serve_pipe;

pub(super) const STOP_REASON: &str = "stop event";

/// What opening a file says that somebody has for himself alone (`ERROR_SHARING_VIOLATION`).
const SHARED_WITH_NOBODY: i32 = 32;

/// How it hears that it shall end.
pub(super) struct Asks(StopEvent);

impl Asks {
    pub(super) fn listen() -> io::Result<Self> {
        StopEvent::create().map(Self).map_err(io::Error::other)
    }

    /// Why it shall end. Who is stubborn hears it, and stays.
    pub(super) fn wait(&mut self, stubborn: bool) -> String {
        self.0.wait(Duration::MAX).expect("wait for the event");
        while stubborn {
            std::thread::park();
        }
        STOP_REASON.to_owned()
    }
}

/// There are no sessions of processes, and nobody is found by them.
pub(super) fn go_apart() {}

/// The parent may live: that it has started the program is of no use to anybody here.
pub(super) fn starter(program: &Path, args: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

pub(super) fn started(_: Child) -> io::Result<()> {
    Ok(())
}

/// A file that this process shares with nobody: while it has it open no other process can open it. `None`:
/// another one has it. The kernel closes what a process has open before it tells that the process has ended.
pub(super) fn have_alone(path: &Path, _: Identity) -> io::Result<Option<File>> {
    let witness = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .share_mode(0)
        .open(path);
    match witness {
        Ok(witness) => Ok(Some(witness)),
        Err(error) if error.raw_os_error() == Some(SHARED_WITH_NOBODY) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A named pipe, for one client.
pub(super) fn listen_locally(name: &Path) -> io::Result<()> {
    serve_pipe(&name.to_string_lossy())
}

pub(super) fn notify() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn passed_listener() -> io::Result<TcpListener> {
    Err(io::ErrorKind::Unsupported.into())
}
