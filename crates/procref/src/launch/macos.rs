//! A launch on macOS: by a keeper.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use procref_supervisor::kqueue::{self, Source};
use procref_supervisor::spec::StopSpec;

pub(crate) use super::unix::{
    CAN_CANCEL, Cancel, ExecFailure, ExecStage, LaunchedProcess, cancellation,
};
use super::unix::{launch_in_keeper, start_in_keeper};
use super::{LaunchSpec, ResumeFn};
use crate::command::Prepared;
use crate::error::Result;
use crate::kernel::NativeSet;
use crate::kernel::counted::sys::private_path;
use crate::key::ServiceKey;

/// Starts a supervisor for a service. Returns when it is registered.
pub(crate) fn start(object: NativeSet, key: &ServiceKey, stop: StopSpec) -> Result<()> {
    start_in_keeper(&object, key, stop)
}

/// Starts a supervisor and, as its child, the service. Returns when the instance is published as not ready and its
/// process waits at the gate.
///
/// Blocks until the processes of an older instance have exited.
pub(crate) fn launch(
    object: NativeSet,
    key: &ServiceKey,
    program: &Prepared,
    spec: LaunchSpec,
    resume: ResumeFn,
) -> Result<LaunchedProcess> {
    launch_in_keeper(&object, key, program, spec, resume)
}

/// Returns `None`, because a queue reports an exit only to the process that has made the queue. The keeper watches the
/// starter itself.
pub(super) fn starter() -> Option<OwnedFd> {
    None
}

/// Returns the file mode creation mask, from the mode of a new file. A call of umask(2) would change the mask for a moment,
/// also for the other threads of this process.
pub(super) fn umask() -> Option<u32> {
    let path = private_path();
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o777).open(&path);
    let metadata = file.and_then(|file| file.metadata());
    let _ = fs::remove_file(&path);
    metadata.ok().map(|metadata| !metadata.mode() & 0o777)
}

/// Returns a descriptor that is readable when one of these is readable.
pub(super) fn any_of<'a>(fds: impl Iterator<Item = &'a OwnedFd>) -> io::Result<OwnedFd> {
    let any = kqueue::new()?;
    for (number, fd) in (0..).zip(fds) {
        kqueue::add(&any, Source::Readable(fd.as_fd()), number)?;
    }
    Ok(any)
}
