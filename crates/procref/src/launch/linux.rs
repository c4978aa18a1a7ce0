//! The starter's side of a launch: what the supervisor and the child say, and the gate.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::LaunchSpec;
use crate::command::Prepared;
use crate::crash::{self, Point};
use crate::error::Result;
use crate::kernel::NativeSet;
use crate::kernel::{Ended, Instance, exit_status};
use crate::key::ServiceKey;
use crate::process::{self, Identity, SignalSafeProcess};
use crate::supervisor::receive::{Received, any_readable, not_registered, readable, receive};
pub(crate) use crate::supervisor::spawn::start;
use crate::supervisor::spawn::{Attendant, ServiceLaunch, failed, fork_supervisor, pipe};
use procref_supervisor::channel::Message;
pub(crate) use procref_supervisor::channel::{ExecFailure, ExecStage};

/// After what time it is looked whether a program is executed. Mostly it is after less than a millisecond.
const TO_EXECUTE: Duration = Duration::from_secs(1);

/// How much longer than itself a supervisor is waited for.
const MARGIN: Duration = Duration::from_secs(30);

/// Starts a supervisor and, as its child, the service: up to the point where the program is executed. By
/// then the instance is published, not as ready.
///
/// Blocks as [`start`], and until an older service's processes are gone.
pub(crate) fn launch(
    set: NativeSet,
    key: &ServiceKey,
    program: &Prepared,
    spec: LaunchSpec,
) -> Result<LaunchedProcess> {
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
    pipes.wait_in_place(key, &attendant, &spec)
}

/// Each with the end to read from and the end to write to.
struct Pipes {
    report: (OwnedFd, OwnedFd),
    gate: (OwnedFd, OwnedFd),
    exec_status: (OwnedFd, OwnedFd),
    confirm: (OwnedFd, OwnedFd),
    /// This process, where there are pidfds.
    starter: Option<OwnedFd>,
}

impl Pipes {
    fn new() -> io::Result<Self> {
        Ok(Self {
            report: pipe()?,
            gate: pipe()?,
            exec_status: pipe()?,
            confirm: pipe()?,
            starter: pidfd_open(getpid(), PidfdFlags::empty()).ok(),
        })
    }

    /// Once the supervisor is forked: keeps what is the starter's, and waits until the child is published.
    fn wait_in_place(
        self,
        key: &ServiceKey,
        attendant: &Attendant,
        spec: &LaunchSpec,
    ) -> Result<LaunchedProcess> {
        let begun = Instant::now();
        let report = self.report.0;
        drop(self.report.1);
        // It gives up by itself earlier.
        let limit = begun.checked_add(spec.patience.saturating_add(MARGIN));
        let next = || attendant.receive(&report, limit);
        let mut message = next();
        let mut supervisor = None;
        if let Ok(Message::Registered(identity)) = message {
            supervisor = Some(identity);
            // The lock is ours, so it shares it with nobody else.
            message = match rustix::io::write(&self.confirm.1, &[1]) {
                Ok(_) => {
                    crash::point(Point::Confirmed);
                    next()
                }
                Err(error) => Err(error.into()),
            };
        }
        Err(match message {
            Ok(Message::Launched { identity, port }) => {
                let (supervisor, alarm) =
                    alarm(&report, supervisor).map_err(failed(key, "listen to it"))?;
                return Ok(LaunchedProcess {
                    instance: spec.launched(identity, port),
                    begun,
                    report,
                    supervisor,
                    alarm,
                    exec_status: self.exec_status.0,
                    gate: Mutex::new(Some(self.gate)),
                    ended: Mutex::new(None),
                });
            }
            Ok(message @ Message::ForkFailed(_)) => {
                failed(key, "fork the service")(not_registered(message))
            }
            Ok(message @ Message::Blocked) => failed(
                key,
                "wait until the processes of the last instance are gone",
            )(not_registered(message)),
            // Killed, or the set was removed under it.
            Ok(message) => failed(key, "hear from it")(not_registered(message)),
            Err(error) => failed(key, "hear from it")(error),
        })
    }
}

/// The supervisor's pidfd, if it has one, and one descriptor that is readable when the supervisor has something to
/// say, or has ended.
fn alarm(report: &OwnedFd, supervisor: Option<Identity>) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
    // If it has ended by now, its pipe ends as well, but for copies of it in processes that were forked meanwhile. What
    // it has said on the way to its end is read in any case.
    let find = |identity| SignalSafeProcess::find(identity).ok().flatten();
    let supervisor = supervisor.and_then(find).map(SignalSafeProcess::into_pidfd);
    let alarm = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, fd) in [Some(report), supervisor.as_ref()]
        .into_iter()
        .flatten()
        .enumerate()
    {
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&alarm, fd, data, epoll::EventFlags::IN)?;
    }
    Ok((supervisor, alarm))
}

/// A service that was forked, and published as not ready. Its program is executed when the gate is opened;
/// when this is dropped before, never.
#[derive(Debug)]
pub(crate) struct LaunchedProcess {
    /// As its supervisor has published it.
    pub(crate) instance: Instance,
    pub(crate) begun: Instant,
    /// The supervisor speaks here as long as the service is not ready.
    report: OwnedFd,
    /// Readable when it has ended. `None`: there are no pidfds.
    supervisor: Option<OwnedFd>,
    /// Readable when either of the two is.
    alarm: OwnedFd,
    /// Ends when the program is executed.
    exec_status: OwnedFd,
    /// Both ends: in a program that does not ignore SIGPIPE, writing to a child that is dead already
    /// would end it otherwise.
    gate: Mutex<Option<(OwnedFd, OwnedFd)>>,
    /// What the supervisor has said of the service's end: maybe nothing, at its own.
    ended: Mutex<Option<Option<Ended>>>,
}

impl LaunchedProcess {
    /// Lets the program be executed, and returns when it was, could not be, or has ended. False: not until `end`.
    ///
    /// A successful `exec` closes a pipe. A child that another thread forks during the start, and that executes
    /// nothing, has a copy, and as long as that child lives the end of the pipe is not to be seen. So the
    /// process is looked at as well. To let that be after a second, whatever it has come to, would on a busy machine
    /// take a service for ready whose program cannot even be executed.
    pub(crate) fn execute(&self, end: Instant) -> io::Result<bool> {
        if let Some((_reader, writer)) = self.close_gate() {
            rustix::io::write(&writer, &[1])?;
            crash::point(Point::GateOpened);
        }
        let ends = [self.exec_status.as_fd(), self.alarm()];
        loop {
            let look = Instant::now().checked_add(TO_EXECUTE).unwrap_or(end);
            if any_readable(&ends, Some(look.min(end)))?
                || process::has_executed(self.instance.identity)
            {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
        }
    }

    /// Why the program was not executed, if it was not.
    pub(crate) fn exec_failure(&self) -> io::Result<Option<ExecFailure>> {
        if !readable(self.exec_status.as_fd(), Some(Instant::now()))? {
            return Ok(None);
        }
        let mut bytes = [0; 5];
        let length = (&std::fs::File::from(self.exec_status.try_clone()?)).read(&mut bytes)?;
        Ok((length == bytes.len()).then(|| ExecFailure::decode(bytes)))
    }

    /// From now on the program will not be executed, if it was not yet.
    pub(crate) fn close_gate(&self) -> Option<(OwnedFd, OwnedFd)> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.take()
    }

    /// Readable when the service has ended before it was ready, or its supervisor has ended.
    pub(crate) fn alarm(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }

    /// Waits for the alarm.
    pub(crate) fn wait_alarm(&self) -> io::Result<()> {
        readable(self.alarm(), None).map(drop)
    }

    /// How the service ended, after the alarm. `None`: the supervisor ended without a confirm.
    pub(crate) fn exit_status(&self) -> io::Result<Option<ExitStatus>> {
        // It is said once, and several may ask: who waits for the alarm, and who was told by it.
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            *ended = Some(match self.receive(None)? {
                Received::Message(Message::Exited(ended)) => Some(ended),
                _ => None,
            });
        }
        Ok(ended.flatten().map(exit_status))
    }

    /// Waits until no process of a service that could not be used is left; false if that takes longer.
    ///
    /// The supervisor says so, or has ended. Its pipe alone would not do: processes that were forked during the start
    /// have copies of it.
    pub(crate) fn wait_gone(&self, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now().checked_add(limit);
        loop {
            match self.receive(deadline)? {
                Received::Message(Message::TreeExited) | Received::End => return Ok(true),
                Received::Message(Message::Exited(how)) => {
                    let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
                    ended.get_or_insert(Some(how));
                }
                Received::Message(_) => {}
                Received::Late => return Ok(false),
            }
        }
    }

    fn receive(&self, deadline: Option<Instant>) -> io::Result<Received> {
        let supervisor = self.supervisor.as_ref().map(|fd| fd.as_fd());
        receive(&self.report, supervisor, deadline)
    }
}
