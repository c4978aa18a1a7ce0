//! The fake service on Windows: the stop event and named pipes.

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

/// `ERROR_SHARING_VIOLATION`: another process has opened the file exclusively.
const SHARING_VIOLATION: i32 = 32;

/// The stop event.
pub(super) struct StopRequests(StopEvent);

impl StopRequests {
    pub(super) fn register() -> io::Result<Self> {
        StopEvent::create().map(Self).map_err(io::Error::other)
    }

    /// Waits for the stop event and returns the reason for the log. With `ignore`, does not return.
    pub(super) fn wait(&mut self, ignore: bool) -> String {
        self.0.wait(Duration::MAX).expect("wait for the event");
        if ignore {
            loop {
                std::thread::park();
            }
        }
        STOP_REASON.to_owned()
    }
}

/// Does nothing, because Windows has no sessions of processes.
pub(super) fn leave_session() {}

/// Returns the program itself. On Windows procref does not find processes by their parents, so the parent may live.
pub(super) fn launcher(program: &Path, args: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

pub(super) fn finish_launcher(_: Child) -> io::Result<()> {
    Ok(())
}

/// Opens a file exclusively for this process. Returns `None` if another process has opened it. The kernel closes the
/// files of a process before it reports the process's exit.
pub(super) fn lock_exclusively(path: &Path, _: Identity) -> io::Result<Option<File>> {
    let witness = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .share_mode(0)
        .open(path);
    match witness {
        Ok(witness) => Ok(Some(witness)),
        Err(error) if error.raw_os_error() == Some(SHARING_VIOLATION) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates a named pipe for one client.
pub(super) fn listen_local(name: &Path) -> io::Result<()> {
    serve_pipe(&name.to_string_lossy())
}

pub(super) fn notify(_lines: &[String]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn passed_listener() -> io::Result<TcpListener> {
    Err(io::ErrorKind::Unsupported.into())
}
