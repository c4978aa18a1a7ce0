//! The starter's side of a launch on Linux: the pipes, the gate, and the launched process.
//!
//! The supervisor is a forked process or a thread of the keeper. Both use the same pipes.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use procref_supervisor::channel::Message;
use procref_supervisor::spec::StopSpec;
use rustix::event::epoll;
use rustix::process::{PidfdFlags, getpid, getrlimit, pidfd_open};

use super::{CHECK_SUSPENDED, LaunchSpec, ResumeFn};
use crate::command::Prepared;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::kernel::counted::order::{LaunchOrder, RESOURCES};
use crate::kernel::{Ended, Fault, Instance, NativeSet, exit_status};
use crate::key::ServiceKey;
use crate::process::{self, Identity, SignalSafeProcess};
use crate::ready::Alarm;
use crate::runtime::periodic::Periodic;
use crate::supervisor::receive::{Received, any_readable, not_registered, readable, receive};
use crate::supervisor::spawn::{self, Attendant, ServiceLaunch, failed, fork_supervisor, pipe};
pub(crate) use procref_supervisor::channel::{ExecFailure, ExecStage};

/// Time after which `/proc` is checked for an executed program. Most programs are executed within a millisecond.
const TO_EXECUTE: Duration = Duration::from_secs(1);

/// Time to wait for a supervisor after its own time limit.
const MARGIN: Duration = Duration::from_secs(30);

/// Starts a supervisor for a service. Returns when it is registered. Blocks for about a millisecond, and longer if this
/// process has much memory.
pub(crate) fn start(set: NativeSet, key: &ServiceKey, stop: StopSpec) -> Result<()> {
    match set {
        NativeSet::SystemV(set) => spawn::start(set, key, stop),
        NativeSet::Keeper(object) => {
            let started = object.start_supervisor(stop);
            crash::point(Point::SupervisorForked);
            started.map_err(|fault| keeper_failed(key, fault))
        }
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
    let pipes = Pipes::new().map_err(failed(key, "make a pipe"))?;
    let reporter = match set {
        NativeSet::SystemV(set) => {
            let launch = ServiceLaunch {
                spec,
                program,
                gate: pipes.gate.0.as_fd(),
                exec_status: pipes.exec_status.1.as_fd(),
                confirm: [pipes.confirm.0.as_fd(), pipes.confirm.1.as_fd()],
                starter: pipes.starter.as_ref().map(|fd| fd.as_fd()),
            };
            let stop = spec.stop;
            let forked = fork_supervisor(set, key, stop, &pipes.report.1, Some(&launch))?;
            Reporter::Attendant(forked)
        }
        NativeSet::Keeper(object) => {
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
            Reporter::Keeper(found.map(SignalSafeProcess::into_pidfd))
        }
    };
    pipes.wait_launched(key, reporter, &spec, resume)
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
        umask: umask(),
        limits: RESOURCES.map(getrlimit),
    }
}

/// Returns the file mode creation mask. There is no system call that only reads it.
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

/// The process that reports how a launch continues.
enum Reporter {
    Attendant(Attendant),
    /// The keeper's pidfd. `None` if it has exited, or if this kernel has no pidfds.
    Keeper(Option<OwnedFd>),
}

impl Reporter {
    /// Receives the next message, and continues a suspended supervisor while it waits.
    fn receive(
        &self,
        report: &OwnedFd,
        deadline: Option<Instant>,
        resume: &ResumeFn,
    ) -> io::Result<Message> {
        loop {
            let check = Instant::now() + CHECK_SUSPENDED;
            let end = deadline.map_or(check, |deadline| deadline.min(check));
            match self.receive_until(report, Some(end)) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && Some(end) != deadline => {
                    resume();
                }
                received => return received,
            }
        }
    }

    fn receive_until(&self, report: &OwnedFd, deadline: Option<Instant>) -> io::Result<Message> {
        let pidfd = match self {
            Self::Attendant(attendant) => return attendant.receive(report, deadline),
            Self::Keeper(pidfd) => pidfd.as_ref().map(|fd| fd.as_fd()),
        };
        match receive(report, pidfd, deadline)? {
            Received::Message(message) => Ok(message),
            Received::End => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "its keeper was killed",
            )),
            Received::Late => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// The pipes of a launch, each with its read end and its write end.
struct Pipes {
    /// The pipe from the supervisor and the attendant to the starter.
    report: (OwnedFd, OwnedFd),
    /// The pipe from the starter to the service's process. A byte opens the gate.
    gate: (OwnedFd, OwnedFd),
    /// The pipe from the service's process to the starter. A successful `execve` closes it.
    exec_status: (OwnedFd, OwnedFd),
    /// The pipe from the starter to the supervisor. A byte confirms that the starter holds the lock.
    confirm: (OwnedFd, OwnedFd),
    /// The pidfd of this process. `None` if this kernel has no pidfds.
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

    /// Waits until the instance is published. Call this after the fork: it closes the supervisor's ends.
    fn wait_launched(
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
        let next = || reporter.receive(&report, limit, &resume);
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

/// Returns the supervisor's pidfd, if this kernel has pidfds, and a descriptor that is readable when the supervisor has
/// written a report or exited.
fn alarm(report: &OwnedFd, supervisor: Option<Identity>) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
    // If the supervisor has already exited, its pipe has reached EOF, unless a forked process has a copy of
    // the pipe. The starter reads all reports that were written before the exit.
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
    /// The pidfd of the supervisor. `None` if this kernel has no pidfds.
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
    /// the process in `/proc`. A time limit of a second would be wrong, because on a busy machine a service
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
