//! A launch on Linux: by a forked supervisor, or by a keeper.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use procref_supervisor::spec::StopSpec;
use rustix::event::epoll;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

pub(crate) use super::unix::{
    CAN_CANCEL, Cancel, ExecFailure, ExecStage, LaunchedProcess, cancellation,
};
use super::unix::{Pipes, launch_in_keeper, start_in_keeper};
use super::{LaunchSpec, ResumeFn};
use crate::command::Prepared;
use crate::error::Result;
use crate::kernel::NativeSet;
use crate::key::ServiceKey;
use crate::supervisor::failed;
use crate::supervisor::spawn::{self, ServiceLaunch, fork_supervisor};

/// Starts a supervisor for a service. Returns when it is registered. Blocks for about a millisecond, and longer if this
/// process has much memory.
pub(crate) fn start(set: NativeSet, key: &ServiceKey, stop: StopSpec) -> Result<()> {
    match set {
        NativeSet::SystemV(set) => spawn::start(set, key, stop),
        NativeSet::Keeper(object) => start_in_keeper(&object, key, stop),
    }
}

/// Starts a supervisor and, as its child, the service. Returns when the instance is published as not ready and its
/// process waits at the gate.
///
/// Blocks like [`start`], and also until the processes of an older instance have exited.
pub(crate) fn launch(
    set: NativeSet,
    key: &ServiceKey,
    program: &Prepared,
    spec: LaunchSpec,
    resume: ResumeFn,
) -> Result<LaunchedProcess> {
    let set = match set {
        NativeSet::SystemV(set) => set,
        NativeSet::Keeper(object) => return launch_in_keeper(&object, key, program, spec, resume),
    };
    let pipes = Pipes::new().map_err(failed(key, "make a pipe"))?;
    let launch = ServiceLaunch {
        spec,
        program,
        gate: pipes.gate.0.as_fd(),
        exec_status: pipes.exec_status.1.as_fd(),
        confirm: [pipes.confirm.0.as_fd(), pipes.confirm.1.as_fd()],
        starter: pipes.starter.as_ref().map(|fd| fd.as_fd()),
    };
    let attendant = fork_supervisor(set, key, spec.stop, &pipes.report.1, Some(&launch))?;
    let receive = move |report: &OwnedFd, deadline| attendant.receive(report, deadline);
    pipes.wait_launched(key, Box::new(receive), &spec, resume)
}

/// Returns the pidfd of this process, or `None` if this kernel has no pidfds.
pub(super) fn starter() -> Option<OwnedFd> {
    pidfd_open(getpid(), PidfdFlags::empty()).ok()
}

/// Returns the file mode creation mask. There is no system call that only reads it.
pub(super) fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

/// Returns a descriptor that is readable when one of these is readable.
pub(super) fn any_of<'a>(fds: impl Iterator<Item = &'a OwnedFd>) -> io::Result<OwnedFd> {
    let any = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, fd) in (0..).zip(fds) {
        epoll::add(
            &any,
            fd,
            epoll::EventData::new_u64(number),
            epoll::EventFlags::IN,
        )?;
    }
    Ok(any)
}
