//! The starter's side of a launch: what the supervisor and the child say, and the gate.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::{failed, pipe};
use crate::crash::{self, Point};
use crate::error::Result;
use crate::kernel::Ended;
use crate::name::ServiceKey;
use crate::process::{self, Identity};

/// After what time it is looked whether a program is executed. Mostly it is after less than a millisecond.
const TO_EXECUTE: Duration = Duration::from_secs(1);

/// How much longer than itself a supervisor is waited for.
const MARGIN: Duration = Duration::from_secs(30);

/// What a supervisor says on its pipe: one message at a time, whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// An older service's processes are still there, or the starter has let go.
    NotInPlace,
    /// It is counted, and waits for its starter's word.
    Counted,
    /// With this error.
    NotForked(i32),
    /// The child waits at the gate, and is published.
    InPlace(Identity),
    /// The child has ended before it was ready.
    Ended(Ended),
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
            Self::Counted => (6, 0, 0),
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
            6 => Some(Self::Counted),
            _ => None,
        }
    }
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
    pub(super) presence: (OwnedFd, OwnedFd),
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
            presence: pipe()?,
            gate: pipe()?,
            exec: pipe()?,
            word: pipe()?,
            starter: pidfd_open(getpid(), PidfdFlags::empty()).ok(),
        })
    }

    /// Once the supervisor is forked: keeps what is the starter's, and waits until the child is published.
    pub(super) fn wait_in_place(self, key: &ServiceKey, patience: Duration) -> Result<Launched> {
        let begun = Instant::now();
        let report = self.report.0;
        drop(self.report.1);
        // It gives up by itself earlier.
        let limit = begun.checked_add(patience.saturating_add(MARGIN));
        let next = || match readable(report.as_fd(), limit) {
            Ok(true) => receive(&report),
            Ok(false) => Err(io::ErrorKind::TimedOut.into()),
            Err(error) => Err(error),
        };
        let mut message = next();
        if let Ok(Some(Message::Counted)) = message {
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
            Ok(Some(Message::InPlace(identity))) => {
                return Ok(Launched {
                    identity,
                    begun,
                    report,
                    presence: self.presence.0,
                    exec: self.exec.0,
                    gate: Mutex::new(Some(self.gate)),
                    ended: Mutex::new(None),
                });
            }
            Ok(Some(Message::NotForked(errno))) => {
                failed(key, "fork the service")(io::Error::from_raw_os_error(errno))
            }
            Ok(Some(Message::NotInPlace)) => failed(
                key,
                "wait until the processes of the last instance are gone",
            )(io::ErrorKind::TimedOut.into()),
            // It ended without a word: killed, or the set was removed under it.
            Ok(_) => failed(key, "hear from it")(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => failed(key, "hear from it")(error),
        })
    }
}

/// A service that was forked, and published as not ready. Its program is executed when the gate is opened;
/// when this is dropped before, never.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) identity: Identity,
    pub(crate) begun: Instant,
    /// The supervisor speaks here as long as the service is not ready.
    report: OwnedFd,
    /// Ends with the last process of a service that could not be used.
    presence: OwnedFd,
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

    /// Readable, or at its end, when the service has ended before it was ready, or its supervisor.
    pub(crate) fn alarm(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
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
            *ended = Some(match receive(&self.report)? {
                Some(Message::Ended(ended)) => Some(ended),
                _ => None,
            });
        }
        Ok(ended.flatten().map(Ended::status))
    }

    /// Waits until no process of a service that could not be used is left; false if that takes longer.
    pub(crate) fn wait_gone(&self, limit: Duration) -> io::Result<bool> {
        readable(self.presence.as_fd(), Instant::now().checked_add(limit))
    }
}

/// `None`: the other side has ended.
fn receive(pipe: &OwnedFd) -> io::Result<Option<Message>> {
    let mut bytes = [0; Message::SIZE];
    loop {
        match rustix::io::read(pipe, &mut bytes) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Message::decode(bytes)),
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
            Message::Counted,
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
