//! The starter's side of a launch: what the supervisor and the child say, and the gate.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::attendant::Attendant;
use super::{failed, pipe};
use crate::crash::{self, Point};
use crate::error::{self, Result};
use crate::kernel::Ended;
use crate::name::ServiceKey;
use crate::process::{self, BareProcess, Identity};

/// After what time it is looked whether a program is executed. Mostly it is after less than a millisecond.
const TO_EXECUTE: Duration = Duration::from_secs(1);

/// How much longer than itself a supervisor is waited for.
const MARGIN: Duration = Duration::from_secs(30);

/// What a supervisor says on its pipe: one message at a time, whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// An older service's processes are still there, or the starter has let go.
    NotInPlace,
    /// It is counted, is this process, and waits for its starter's word if a service is to be executed.
    Counted(Identity),
    /// With this error.
    NotForked(i32),
    /// The child waits at the gate, and is published.
    InPlace(Identity),
    /// The child has ended before it was ready.
    Ended(Ended),
    /// No process of a service that could not be used is left.
    Gone,
    /// The supervisor was killed by this signal before it was in place.
    Killed(i32),
    /// The supervisor has given up before it was in place.
    Quit,
}

impl Message {
    pub(super) const SIZE: usize = 16;

    pub(super) fn encode(self) -> [u8; Self::SIZE] {
        let (kind, value, start) = match self {
            Self::NotInPlace => (1_u32, 0, 0),
            Self::NotForked(errno) => (2, errno as u32, 0),
            Self::InPlace(Identity { pid, start }) => (3, pid, start),
            Self::Ended(Ended::Exited(code)) => (4, code.into(), 0),
            Self::Ended(Ended::Killed(signal)) => (5, signal.into(), 0),
            Self::Counted(Identity { pid, start }) => (6, pid, start),
            Self::Gone => (7, 0, 0),
            Self::Killed(signal) => (8, signal as u32, 0),
            Self::Quit => (9, 0, 0),
        };
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&value.to_ne_bytes());
        bytes[8..].copy_from_slice(&start.to_ne_bytes());
        bytes
    }

    pub(super) fn decode(bytes: [u8; Self::SIZE]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, start @ ..] = bytes;
        let (kind, value) = (
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
        );
        let start = u64::from_ne_bytes(start);
        match kind {
            1 => Some(Self::NotInPlace),
            2 => Some(Self::NotForked(value as i32)),
            3 => Some(Self::InPlace(Identity { pid: value, start })),
            4 => Some(Self::Ended(Ended::Exited(value as u8))),
            5 => Some(Self::Ended(Ended::Killed(value as u8))),
            6 => Some(Self::Counted(Identity { pid: value, start })),
            7 => Some(Self::Gone),
            8 => Some(Self::Killed(value as i32)),
            9 => Some(Self::Quit),
            _ => None,
        }
    }

    /// Why a supervisor that says this is not in place.
    pub(super) fn ended_early(self) -> io::Error {
        match self {
            Self::NotForked(errno) => io::Error::from_raw_os_error(errno),
            Self::NotInPlace => io::ErrorKind::TimedOut.into(),
            Self::Killed(signal) => {
                // The kernel's signals fit.
                let status = Ended::Killed(signal as u8).status();
                let advice = match signal {
                    libc::SIGSYS => " (a sandbox does not allow one of its system calls)",
                    libc::SIGKILL => " (by a person, or for want of memory)",
                    _ => "",
                };
                io::Error::other(format!("it {}{advice}", error::ended(status)))
            }
            _ => io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it ended before it was in place",
            ),
        }
    }
}

/// What comes out of a supervisor's pipe.
pub(super) enum Received {
    Message(Message),
    /// There is no supervisor any more, and nothing that it has not been heard of.
    End,
    /// Nothing before the deadline.
    Late,
}

/// Where the child was when something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Descriptors,
    Directory,
    Execute,
}

/// Why the program was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) stage: Stage,
    pub(crate) errno: i32,
}

impl Refusal {
    pub(super) fn new(stage: Stage, errno: i32) -> Self {
        Self { stage, errno }
    }

    pub(super) fn encode(self) -> [u8; 5] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.stage as u8, a, b, c, d]
    }

    pub(super) fn decode([stage, a, b, c, d]: [u8; 5]) -> Self {
        let stage = match stage {
            0 => Stage::Descriptors,
            1 => Stage::Directory,
            _ => Stage::Execute,
        };
        Self {
            stage,
            errno: i32::from_ne_bytes([a, b, c, d]),
        }
    }
}

/// Each with the end to read from and the end to write to.
pub(super) struct Pipes {
    pub(super) report: (OwnedFd, OwnedFd),
    pub(super) gate: (OwnedFd, OwnedFd),
    pub(super) exec: (OwnedFd, OwnedFd),
    pub(super) word: (OwnedFd, OwnedFd),
    /// This process, where there are pidfds.
    pub(super) starter: Option<OwnedFd>,
}

impl Pipes {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            report: pipe()?,
            gate: pipe()?,
            exec: pipe()?,
            word: pipe()?,
            starter: pidfd_open(getpid(), PidfdFlags::empty()).ok(),
        })
    }

    /// Once the supervisor is forked: keeps what is the starter's, and waits until the child is published.
    pub(super) fn wait_in_place(
        self,
        key: &ServiceKey,
        attendant: &Attendant,
        patience: Duration,
    ) -> Result<Launched> {
        let begun = Instant::now();
        let report = self.report.0;
        drop(self.report.1);
        // It gives up by itself earlier.
        let limit = begun.checked_add(patience.saturating_add(MARGIN));
        let next = || attendant.receive(&report, limit);
        let mut message = next();
        let mut supervisor = None;
        if let Ok(Message::Counted(identity)) = message {
            supervisor = Some(identity);
            // The lock is ours, so it shares it with nobody else.
            message = match rustix::io::write(&self.word.1, &[1]) {
                Ok(_) => {
                    crash::point(Point::WordGiven);
                    next()
                }
                Err(error) => Err(error.into()),
            };
        }
        Err(match message {
            Ok(Message::InPlace(identity)) => {
                let (supervisor, alarm) =
                    alarm(&report, supervisor).map_err(failed(key, "listen to it"))?;
                return Ok(Launched {
                    identity,
                    begun,
                    report,
                    supervisor,
                    alarm,
                    exec: self.exec.0,
                    gate: Mutex::new(Some(self.gate)),
                    ended: Mutex::new(None),
                });
            }
            Ok(message @ Message::NotForked(_)) => {
                failed(key, "fork the service")(message.ended_early())
            }
            Ok(message @ Message::NotInPlace) => failed(
                key,
                "wait until the processes of the last instance are gone",
            )(message.ended_early()),
            // Killed, or the set was removed under it.
            Ok(message) => failed(key, "hear from it")(message.ended_early()),
            Err(error) => failed(key, "hear from it")(error),
        })
    }
}

/// The supervisor's pidfd, if it has one, and one descriptor that is readable when the supervisor has something to
/// say, or has ended.
fn alarm(report: &OwnedFd, supervisor: Option<Identity>) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
    // If it has ended by now, its pipe ends as well, but for copies of it in processes that were forked meanwhile. What
    // it has said on the way to its end is read in any case.
    let find = |identity| BareProcess::find(identity).ok().flatten();
    let supervisor = supervisor.and_then(find).map(BareProcess::into_pidfd);
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
pub(crate) struct Launched {
    pub(crate) identity: Identity,
    pub(crate) begun: Instant,
    /// The supervisor speaks here as long as the service is not ready.
    report: OwnedFd,
    /// Readable when it has ended. `None`: there are no pidfds.
    supervisor: Option<OwnedFd>,
    /// Readable when either of the two is.
    alarm: OwnedFd,
    /// Ends when the program is executed.
    exec: OwnedFd,
    /// Both ends: in a program that does not ignore SIGPIPE, writing to a child that is dead already
    /// would end it otherwise.
    gate: Mutex<Option<(OwnedFd, OwnedFd)>>,
    /// What the supervisor has said of the service's end: maybe nothing, at its own.
    ended: Mutex<Option<Option<Ended>>>,
}

impl Launched {
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
        let ends = [self.exec.as_fd(), self.alarm()];
        loop {
            let look = Instant::now().checked_add(TO_EXECUTE).unwrap_or(end);
            if any_readable(&ends, Some(look.min(end)))? || process::has_executed(self.identity) {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
        }
    }

    /// Why the program was not executed, if it was not.
    pub(crate) fn refusal(&self) -> io::Result<Option<Refusal>> {
        if !readable(self.exec.as_fd(), Some(Instant::now()))? {
            return Ok(None);
        }
        let mut bytes = [0; 5];
        let length = (&std::fs::File::from(self.exec.try_clone()?)).read(&mut bytes)?;
        Ok((length == bytes.len()).then(|| Refusal::decode(bytes)))
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

    /// How the service ended, after the alarm. `None`: the supervisor ended without a word.
    pub(crate) fn exit_status(&self) -> io::Result<Option<ExitStatus>> {
        // It is said once, and several may ask: who waits for the alarm, and who was told by it.
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            *ended = Some(match self.receive(None)? {
                Received::Message(Message::Ended(ended)) => Some(ended),
                _ => None,
            });
        }
        Ok(ended.flatten().map(Ended::status))
    }

    /// Waits until no process of a service that could not be used is left; false if that takes longer.
    ///
    /// The supervisor says so, or has ended. Its pipe alone would not do: processes that were forked during the start
    /// have copies of it.
    pub(crate) fn wait_gone(&self, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now().checked_add(limit);
        loop {
            match self.receive(deadline)? {
                Received::Message(Message::Gone) | Received::End => return Ok(true),
                Received::Message(Message::Ended(how)) => {
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

/// The next message. `process` is readable when no message can come any more.
pub(super) fn receive(
    pipe: &OwnedFd,
    process: Option<BorrowedFd<'_>>,
    deadline: Option<Instant>,
) -> io::Result<Received> {
    let fds = [Some(pipe.as_fd()), process];
    let fds: Vec<_> = fds.into_iter().flatten().collect();
    loop {
        if !any_readable(&fds, deadline)? {
            return Ok(Received::Late);
        }
        // In this order: what a process has said before it ended is there when its end is seen.
        if !readable(pipe.as_fd(), Some(Instant::now()))? {
            return Ok(Received::End);
        }
        let mut bytes = [0; Message::SIZE];
        match rustix::io::read(pipe, &mut bytes) {
            Ok(0) => return Ok(Received::End),
            Ok(_) => {
                // What is no message says that something is wrong with the supervisor.
                let message = Message::decode(bytes);
                return Ok(message.map_or(Received::End, Received::Message));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether there is something to read, or the other end is closed, before the deadline. `None`: however
/// long that takes.
fn readable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    any_readable(&[fd], deadline)
}

/// The same for several.
fn any_readable(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    let mut fds: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut fds, limit.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let identity = Identity {
            pid: 4_194_303,
            start: u64::MAX,
        };
        for message in [
            Message::NotInPlace,
            Message::Counted(identity),
            Message::Gone,
            Message::Killed(31),
            Message::Quit,
            Message::NotForked(11),
            Message::InPlace(identity),
            Message::Ended(Ended::Exited(255)),
            Message::Ended(Ended::Killed(9)),
        ] {
            assert_eq!(Message::decode(message.encode()), Some(message));
        }
        assert_eq!(Message::decode([0; Message::SIZE]), None);
        for stage in [Stage::Descriptors, Stage::Directory, Stage::Execute] {
            let refusal = Refusal::new(stage, 13);
            assert_eq!(Refusal::decode(refusal.encode()), refusal);
        }
    }
}
