//! Waiting for one thing with an eye on the alarm and on the clock.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::ready::ATTEMPT;

/// What one look at the service found.
#[derive(Debug)]
pub(in crate::ready) enum Found {
    Ready,
    Alarm,
    /// Why not yet, for the error that says so when time is up.
    NotYet(String),
    /// Why it cannot be found out at all. Asking again would not help.
    Unusable(String),
}

/// What ended a wait.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ready) enum Woken {
    Event,
    Alarm,
    Time,
}

/// Until when to wait, and what ends every wait at once.
pub(in crate::ready) struct Watch<'a> {
    /// `None`: nothing ends a wait but the time.
    alarm: Option<BorrowedFd<'a>>,
    until: Instant,
    /// How long one attempt may take.
    attempt: Duration,
}

impl<'a> Watch<'a> {
    pub(in crate::ready) fn new(alarm: BorrowedFd<'a>, until: Instant) -> Self {
        Self {
            alarm: Some(alarm),
            until,
            attempt: ATTEMPT,
        }
    }

    /// Without an alarm, and with all of the time for one attempt.
    pub(in crate::ready) fn patient(until: Instant) -> Self {
        Self {
            alarm: None,
            until,
            attempt: Duration::MAX,
        }
    }

    /// The part of the time that one attempt may take, if it takes `least` at the most otherwise.
    pub(in crate::ready) fn one_attempt(&self, least: Duration) -> Self {
        self.at_most(self.attempt.max(least))
    }

    /// The same for a part of the time.
    pub(in crate::ready) fn at_most(&self, time: Duration) -> Self {
        // An instant that the clock cannot tell is later than any other one.
        let until = Instant::now().checked_add(time);
        let until = until.map_or(self.until, |until| until.min(self.until));
        Self { until, ..*self }
    }

    pub(in crate::ready) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    pub(in crate::ready) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    pub(in crate::ready) fn has_alarm(&self) -> bool {
        self.at_most(Duration::ZERO).rest() == Woken::Alarm
    }

    /// Waits for nothing but the end of the time.
    pub(in crate::ready) fn rest(&self) -> Woken {
        self.poll(None)
    }

    /// Waits until the descriptor is ready for what `flags` say, or has failed.
    pub(in crate::ready) fn wait_for(&self, fd: &OwnedFd, flags: PollFlags) -> Woken {
        self.poll(Some(PollFd::from_borrowed_fd(fd.as_fd(), flags)))
    }

    /// The alarm is the first of the descriptors, and wins: what a dead service sent before it died
    /// does not make it ready.
    fn poll(&self, fd: Option<PollFd<'_>>) -> Woken {
        let alarm = self.alarm.iter();
        let alarm = alarm.map(|alarm| PollFd::from_borrowed_fd(*alarm, PollFlags::IN));
        let mut fds: Vec<PollFd<'_>> = alarm.chain(fd).collect();
        loop {
            let left = self.left();
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) if self.is_over() => return Woken::Time,
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) if self.alarm.is_some() && !fds[0].revents().is_empty() => {
                    return Woken::Alarm;
                }
                Ok(_) => return Woken::Event,
                // No memory, say. The caller looks again.
                Err(error) => {
                    tracing::debug!(%error, "could not poll");
                    thread::sleep(left.min(Duration::from_millis(5)));
                    return Woken::Time;
                }
            }
        }
    }
}
