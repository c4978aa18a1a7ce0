//! The fuse: a process that ends a link which does not renew its reference in time.
//!
//! ```text
//! link ── pipe: two times ──► fuse      at the first time:  SIGKILL to the link, if it lives
//!                                       at the second time: SIGKILL to what is left of the service
//! ```
//!
//! The fuse kills the link and does not signal the service, for two reasons. First, local clients see the exit of the
//! link, so that they know that the reference is lost, even if the link is suspended. Second, the link is the only client
//! of the local service, so the kernel takes its reference, and the supervisor stops the service with its stop signal
//! and its grace. The fuse needs only to make sure that this ends in time.
//!
//! The times are of `CLOCK_BOOTTIME`, because `CLOCK_MONOTONIC` stops while the host is suspended. If the pipe is closed,
//! the link is dead, and the fuse watches the end of the service at once.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::process::Child;

use crate::error::{Error, Result};
use crate::timing::Millis;

mod process;
mod tree;

pub use process::run;

/// The hidden command of the program.
pub(crate) const COMMAND: &str = "fuse";

/// How much later than the link itself the fuse ends the link. This is part of the time for the latency.
const STUCK: Millis = 200;

/// A time that no clock reaches. The fuse can add to it.
pub(crate) const NEVER: Millis = Millis::MAX / 2;

/// The fuse of this link.
#[derive(Debug)]
pub(crate) struct Fuse {
    child: Child,
    pipe: OwnedFd,
}

impl Fuse {
    /// Starts the process. `instance` is the name of the local service.
    pub(crate) fn start(runtime_dir: &Path, instance: &str, grace: Duration) -> Result<Self> {
        let start = || -> io::Result<Self> {
            // A suspended fuse does not read. Then the link must not wait for it.
            let (read, pipe) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            let mut command = Command::new("/proc/self/exe");
            command
                .arg0("procref-etcd")
                .arg(COMMAND)
                .arg("--runtime-dir")
                .arg(runtime_dir)
                .args(["--grace", &format!("{}ms", grace.as_millis())])
                .args(["--link", &std::process::id().to_string()])
                .args(["--", instance])
                // The fuse ignores the signals of a terminal, see `process`, and must not die with the terminal.
                .process_group(0)
                .stdin(Stdio::from(read));
            let child = tokio::process::Command::from(command).spawn()?;
            Ok(Self { child, pipe })
        };
        start().map_err(|cause| Error::new(format!("start the fuse of `{instance}`: {cause}")))
    }

    /// Sets when the link must have exited, and when the service must be dead.
    pub(crate) fn arm(&self, link: Millis, kill: Millis) -> Result<()> {
        let message = [link.to_le_bytes(), kill.to_le_bytes()].concat();
        match rustix::io::write(&self.pipe, &message) {
            Ok(length) if length == message.len() => Ok(()),
            Ok(length) => Err(Error::new(format!(
                "arm the fuse: only {length} bytes were written"
            ))),
            Err(cause) => Err(Error::new(format!("arm the fuse: {cause}"))),
        }
    }

    /// Waits until the fuse has exited, which it does only after the link.
    pub(crate) async fn exited(&mut self) -> Error {
        let how = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(cause) => cause.to_string(),
        };
        Error::new(format!(
            "the fuse has exited ({how}), so nothing would stop the service if this link hung"
        ))
    }
}
