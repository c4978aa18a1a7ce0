//! Waits for one descriptor, the alarm and the clock.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use procref_supervisor::process::poll_limit;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::ready::ATTEMPT;
use crate::runtime::periodic::Periodic;

/// The result of one probe.
#[derive(Debug)]
pub(in crate::ready) enum ProbeResult {
    Ready,
    Alarm,
    /// Not ready yet, with the reason for the error message.
    NotYet(String),
    /// The service sent something that cannot be used, with the reason.
    Invalid(String),
    /// The probe cannot work, with the reason. A repetition would not help.
    Unusable(String),
}

/// The reason why a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ready) enum WakeReason {
    Event,
    Alarm,
    Time,
}

/// The alarm: a descriptor that becomes readable or hung up when the service has exited.
#[derive(Clone, Copy)]
pub(crate) struct Alarm<'a> {
    fd: BorrowedFd<'a>,
    /// A call that is repeated during each wait.
    periodic: Option<&'a Periodic<'a>>,
}

impl<'a> Alarm<'a> {
    pub(crate) fn new(fd: BorrowedFd<'a>, periodic: &'a Periodic<'a>) -> Self {
        let periodic = Some(periodic);
        Self { fd, periodic }
    }

    /// Returns an alarm without a periodic call.
    #[cfg(test)]
    pub(crate) fn only(fd: BorrowedFd<'a>) -> Self {
        Self { fd, periodic: None }
    }
}

/// The deadline of a wait, and the alarm that ends it early.
pub(in crate::ready) struct ReadinessWait<'a> {
    /// With `None`, a wait ends only at its deadline.
    alarm: Option<Alarm<'a>>,
    until: Instant,
    /// The time limit of one attempt.
    attempt: Duration,
}

impl<'a> ReadinessWait<'a> {
    pub(in crate::ready) fn new(alarm: Alarm<'a>, until: Instant) -> Self {
        Self {
            alarm: Some(alarm),
            until,
            attempt: ATTEMPT,
        }
    }

    /// Creates a wait without an alarm. Its single attempt may use all of the time.
    pub(in crate::ready) fn patient(until: Instant) -> Self {
        Self {
            alarm: None,
            until,
            attempt: Duration::MAX,
        }
    }

    /// Returns a wait with the time limit of one attempt, or with `least` if that is longer.
    pub(in crate::ready) fn one_attempt(&self, least: Duration) -> Self {
        self.at_most(self.attempt.max(least))
    }

    /// Returns a wait with the same alarm and a shorter limit.
    pub(in crate::ready) fn at_most(&self, time: Duration) -> Self {
        // An instant that the clock cannot represent is later than any other one.
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
        self.at_most(Duration::ZERO).rest() == WakeReason::Alarm
    }

    /// Waits until the deadline or the alarm.
    pub(in crate::ready) fn rest(&self) -> WakeReason {
        self.poll([])
    }

    /// Waits until the descriptor is ready for `flags`, or has failed.
    pub(in crate::ready) fn wait_for(&self, fd: &OwnedFd, flags: PollFlags) -> WakeReason {
        self.poll([PollFd::from_borrowed_fd(fd.as_fd(), flags)])
    }

    /// Waits until one of the descriptors is readable, or has failed.
    pub(in crate::ready) fn wait_readable<'b>(
        &self,
        fds: impl IntoIterator<Item = &'b OwnedFd>,
    ) -> WakeReason {
        let fds = fds.into_iter().map(AsFd::as_fd);
        self.poll(fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)))
    }

    /// The alarm is the first descriptor and takes precedence: data that a service sent before it died does
    /// not make it ready.
    fn poll<'b>(&'b self, watched: impl IntoIterator<Item = PollFd<'b>>) -> WakeReason {
        let alarm = self.alarm.iter();
        let alarm = alarm.map(|alarm| PollFd::from_borrowed_fd(alarm.fd, PollFlags::IN));
        let mut fds: Vec<PollFd<'_>> = alarm.chain(watched).collect();
        let periodic = self.alarm.and_then(|alarm| alarm.periodic);
        loop {
            let left = self.left();
            let left = periodic.map_or(left, |periodic| periodic.run().min(left));
            let timeout = poll_limit(left);
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) if self.is_over() => return WakeReason::Time,
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) if self.alarm.is_some() && !fds[0].revents().is_empty() => {
                    return WakeReason::Alarm;
                }
                Ok(_) => return WakeReason::Event,
                // The kernel may have no memory, for example. The caller retries.
                Err(error) => {
                    tracing::debug!(%error, "could not poll");
                    thread::sleep(left.min(Duration::from_millis(5)));
                    return WakeReason::Time;
                }
            }
        }
    }
}
