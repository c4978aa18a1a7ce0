//! The starter's side of a launch on Unix: the pipes, the gate, and the launched process.
//!
//! The supervisor is a thread of the keeper, or on Linux a forked process. Both use the same pipes.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use procref_supervisor::channel::Message;
use procref_supervisor::spec::StopSpec;
use rustix::process::getrlimit;

use super::sys;
use super::{CHECK_SUSPENDED, LaunchSpec, ResumeFn};
use crate::command::Prepared;
use crate::crash::{self, Point};
use crate::descriptor::pipe;
use crate::error::{Error, Result};
use crate::kernel::counted::RemoteArray;
use crate::kernel::counted::order::{LaunchOrder, RESOURCES};
use crate::kernel::{Ended, Fault, Instance, exit_status};
use crate::key::ServiceKey;
use crate::process::{self, Identity, SignalSafeProcess};
use crate::ready::Alarm;
use crate::runtime::periodic::Periodic;
use crate::supervisor::failed;
use crate::supervisor::receive::{Received, any_readable, not_registered, readable, receive};
pub(crate) use procref_supervisor::channel::{ExecFailure, ExecStage};

/// Time after which the process is checked for an executed program. Most programs are executed within a millisecond.
const TO_EXECUTE: Duration = Duration::from_secs(1);

/// Time to wait for a supervisor after its own time limit.
const MARGIN: Duration = Duration::from_secs(30);

/// Starts a supervisor in the keeper of a service. Returns when it is registered.
pub(super) fn start_in_keeper(
    object: &RemoteArray,
    key: &ServiceKey,
    stop: StopSpec,
) -> Result<()> {
    let started = object.start_supervisor(stop);
    crash::point(Point::SupervisorForked);
    started.map_err(|fault| keeper_failed(key, fault))
}

/// Starts a supervisor in the keeper and, as the keeper's child, the service. Returns when the instance is published as not
/// ready and its process waits at the gate.
pub(super) fn launch_in_keeper(
    object: &RemoteArray,
    key: &ServiceKey,
    program: &Prepared,
    spec: LaunchSpec,
    resume: ResumeFn,
) -> Result<LaunchedProcess> {
    let pipes = Pipes::new().map_err(failed(key, "make a pipe"))?;
    let ends = [
        pipes.report.1.as_fd(),
        pipes.gate.0.as_fd(),
        pipes.exec_status.1.as_fd(),
        pipes.confirm.0.as_fd(),
        program.null.as_fd(),
        program.log.file.as_fd(),
    ];
    let keeper = object.launch(
        &order(program, spec),
        &ends,
        program.listeners.first().map(|fd| fd.as_fd()),
        pipes.starter.as_ref().map(|fd| fd.as_fd()),
    );
    crash::point(Point::SupervisorForked);
    let keeper = keeper.map_err(|fault| keeper_failed(key, fault))?;
    let found = SignalSafeProcess::find(keeper).ok().flatten();
    let keeper = found.map(SignalSafeProcess::into_exit_fd);
    let receive = move |report: &OwnedFd, deadline| {
        let keeper = keeper.as_ref().map(|fd| fd.as_fd());
        match receive(report, keeper, deadline)? {
            Received::Message(message) => Ok(message),
            Received::End => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "its keeper was killed",
            )),
            Received::Late => Err(io::ErrorKind::TimedOut.into()),
        }
    };
    pipes.wait_launched(key, Box::new(receive), &spec, resume)
}

fn keeper_failed(key: &ServiceKey, fault: Fault) -> Error {
    match fault {
        Fault::Refused(error) => error,
        Fault::Removed => failed(key, "ask its keeper for it")(io::ErrorKind::NotFound.into()),
    }
}

/// Returns the order for a keeper.
fn order(program: &Prepared, spec: LaunchSpec) -> LaunchOrder {
    LaunchOrder {
        spec,
        port: program.port,
        program: program.program.clone(),
        args: program.args.clone(),
        env: program.env.clone(),
        listen_pid: program.listen_pid,
        dir: program.dir.clone(),
        log_texts: program.supervised_log.texts.clone(),
        log_limit: program.supervised_log.limit,
        umask: sys::umask(),
        limits: RESOURCES.map(getrlimit),
    }
}

/// Receives the next message of the process that reports how a launch continues. Owns what belongs to that process.
pub(super) type Reporter =
    Box<dyn Fn(&OwnedFd, Option<Instant>) -> io::Result<Message> + Send + Sync>;

/// Receives the next message, and continues a suspended supervisor while it waits.
fn receive_and_resume(
    reporter: &Reporter,
    report: &OwnedFd,
    deadline: Option<Instant>,
    resume: &ResumeFn,
) -> io::Result<Message> {
    loop {
        let check = Instant::now() + CHECK_SUSPENDED;
        let end = deadline.map_or(check, |deadline| deadline.min(check));
        match reporter(report, Some(end)) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut && Some(end) != deadline => {
                resume();
            }
            received => return received,
        }
    }
}

/// The pipes of a launch, each with its read end and its write end.
pub(super) struct Pipes {
    /// The pipe from the supervisor and the attendant to the starter.
    pub(super) report: (OwnedFd, OwnedFd),
    /// The pipe from the starter to the service's process. A byte opens the gate.
    pub(super) gate: (OwnedFd, OwnedFd),
    /// The pipe from the service's process to the starter. A successful `execve` closes it.
    pub(super) exec_status: (OwnedFd, OwnedFd),
    /// The pipe from the starter to the supervisor. A byte confirms that the starter holds the lock.
    pub(super) confirm: (OwnedFd, OwnedFd),
    /// A descriptor that is readable when this process has exited. `None` if this kernel has none for the use of another
    /// process.
    pub(super) starter: Option<OwnedFd>,
}

impl Pipes {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            report: pipe()?,
            gate: pipe()?,
            exec_status: pipe()?,
            confirm: pipe()?,
            starter: sys::starter(),
        })
    }

    /// Waits until the instance is published. Call this after the fork: it closes the supervisor's ends.
    pub(super) fn wait_launched(
        self,
        key: &ServiceKey,
        reporter: Reporter,
        spec: &LaunchSpec,
        resume: ResumeFn,
    ) -> Result<LaunchedProcess> {
        let begun = Instant::now();
        let report = self.report.0;
        drop(self.report.1);
        // The supervisor's own time limit is shorter.
        let limit = begun.checked_add(spec.patience.saturating_add(MARGIN));
        let next = || receive_and_resume(&reporter, &report, limit, &resume);
        let mut message = next();
        let mut supervisor = None;
        if let Ok(Message::Registered(identity)) = message {
            supervisor = Some(identity);
            // This process holds the lock, so the supervisor shares it with this process and no other.
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
                    alarm(&report, supervisor).map_err(failed(key, "watch it"))?;
                return Ok(LaunchedProcess {
                    instance: spec.launched(identity, port),
                    begun,
                    report,
                    supervisor,
                    alarm,
                    exec_status: self.exec_status.0,
                    gate: Mutex::new(Some(self.gate)),
                    ended: Mutex::new(None),
                    resume,
                    reporter: Mutex::new(Some(reporter)),
                });
            }
            Ok(message @ Message::ForkFailed(_)) => {
                failed(key, "fork the service")(not_registered(message))
            }
            Ok(message @ Message::Blocked) => failed(
                key,
                "wait until the processes of the last instance have exited",
            )(not_registered(message)),
            // The supervisor was killed, or the set was removed.
            Ok(message) => failed(key, "read its report")(not_registered(message)),
            Err(error) => failed(key, "read its report")(error),
        })
    }
}

/// Returns a descriptor that is readable when the supervisor has exited, if this kernel has one, and one that is readable
/// when the supervisor has written a report or exited.
fn alarm(report: &OwnedFd, supervisor: Option<Identity>) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
    // If the supervisor has already exited, its pipe has reached EOF, unless a forked process has a copy of
    // the pipe. The starter reads all reports that were written before the exit.
    let find = |identity| SignalSafeProcess::find(identity).ok().flatten();
    let supervisor = supervisor
        .and_then(find)
        .map(SignalSafeProcess::into_exit_fd);
    let alarm = sys::any_of([Some(report), supervisor.as_ref()].into_iter().flatten())?;
    Ok((supervisor, alarm))
}

/// The write end of a pipe. The wait ends when it is closed.
pub(crate) type Cancel = OwnedFd;

/// `true` if a wait can be cancelled.
pub(crate) const CAN_CANCEL: bool = true;

/// Returns a value that cancels a wait when it is dropped, and the descriptor for the wait.
pub(crate) fn cancellation() -> io::Result<(Cancel, OwnedFd)> {
    let (reader, writer) = pipe()?;
    Ok((writer, reader))
}

/// The process of a service that is published as not ready. Its program is executed when the gate is opened.
/// If this value is dropped before that, the program is never executed.
pub(crate) struct LaunchedProcess {
    /// The instance that the supervisor has published.
    pub(crate) instance: Instance,
    /// The time of the launch.
    pub(crate) begun: Instant,
    /// The pipe on which the supervisor reports until the service is ready.
    report: OwnedFd,
    /// Readable when the supervisor has exited. `None` if this kernel has no such descriptor.
    supervisor: Option<OwnedFd>,
    /// Readable when one of these two is readable.
    alarm: OwnedFd,
    /// Reaches EOF when the program is executed.
    exec_status: OwnedFd,
    /// Both ends of the gate. If this process had only the write end, a write after the child's death would
    /// kill a program that does not ignore SIGPIPE.
    gate: Mutex<Option<(OwnedFd, OwnedFd)>>,
    /// The exit status of the service, after the supervisor has exited or reported the status. The inner
    /// `None` means that the supervisor exited without a report.
    ended: Mutex<Option<Option<Ended>>>,
    /// Continues a suspended supervisor, which would not report the exit of the service.
    resume: ResumeFn,
    /// The process that reported the launch. It is kept until the program is executed: see [`execute`](Self::execute).
    reporter: Mutex<Option<Reporter>>,
}

impl LaunchedProcess {
    /// Opens the gate. Returns `true` when the program is executed, could not be executed, or has exited.
    /// Returns `false` if none of these happens before `end`.
    ///
    /// A successful `execve` closes a pipe. A child that another thread forks during the start may have a
    /// copy of it. While that child lives and executes no program, the pipe has no EOF, so this also checks
    /// the process itself. A time limit of a second would be wrong, because on a busy machine a service
    /// would count as ready although its program cannot be executed.
    pub(crate) fn execute(&self, end: Instant) -> io::Result<bool> {
        if let Some((_reader, writer)) = self.close_gate() {
            rustix::io::write(&writer, &[1])?;
            crash::point(Point::GateOpened);
            // Reap the attendant while the program is executed. If it were reaped before, the program would have to wait
            // until the attendant has exited.
            let reporter = self.reporter.lock();
            drop(reporter.unwrap_or_else(PoisonError::into_inner).take());
        }
        let ends = [self.exec_status.as_fd(), self.alarm()];
        loop {
            let next_check = Instant::now().checked_add(TO_EXECUTE).unwrap_or(end);
            if any_readable(&ends, Some(next_check.min(end)))?
                || process::has_executed(self.instance.identity)
            {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            (self.resume)();
        }
    }

    /// Returns the reason why the program was not executed, if there is one.
    pub(crate) fn exec_failure(&self) -> io::Result<Option<ExecFailure>> {
        if !readable(self.exec_status.as_fd(), Some(Instant::now()))? {
            return Ok(None);
        }
        let mut bytes = [0; ExecFailure::SIZE];
        let length = (&std::fs::File::from(self.exec_status.try_clone()?)).read(&mut bytes)?;
        Ok((length == bytes.len()).then(|| ExecFailure::decode(bytes)))
    }

    /// Closes the gate and returns its ends. A program that was not executed yet is never executed.
    pub(crate) fn close_gate(&self) -> Option<(OwnedFd, OwnedFd)> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.take()
    }

    /// Returns a descriptor that is readable when the service has exited before it was ready, or when its supervisor
    /// has exited.
    pub(crate) fn alarm(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }

    /// Calls `wait` with the alarm, and continues a suspended supervisor during the wait.
    pub(crate) fn with_alarm<T>(&self, wait: impl FnOnce(Alarm<'_>) -> T) -> T {
        let resume = Periodic::new(CHECK_SUSPENDED, &*self.resume);
        wait(Alarm::new(self.alarm(), &resume))
    }

    /// Waits until the alarm is readable. Returns `false` if the wait is cancelled before that.
    pub(crate) fn wait_alarm(&self, cancelled: &OwnedFd) -> io::Result<bool> {
        any_readable(&[self.alarm(), cancelled.as_fd()], None)?;
        readable(self.alarm(), Some(Instant::now()))
    }

    /// Returns the exit status of the service, after the alarm. Returns `None` if the supervisor exited
    /// without a report.
    pub(crate) fn exit_status(&self) -> io::Result<Option<ExitStatus>> {
        // The supervisor reports the status once, and several callers may need it.
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            *ended = Some(match self.receive(None)? {
                Received::Message(Message::Exited(ended)) => Some(ended),
                _ => None,
            });
        }
        Ok(ended.flatten().map(exit_status))
    }

    /// Waits until all processes of the service have exited. Returns `false` if that takes longer than `limit`.
    ///
    /// Wait for the supervisor's report or for its exit. EOF on its pipe is not sufficient, because processes
    /// that were forked during the start may have copies of the pipe.
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
