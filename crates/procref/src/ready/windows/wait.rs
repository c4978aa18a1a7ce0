//! Waits for the alarm and the clock.

use std::time::{Duration, Instant};

use procref_winsys::handle::wait_timeout;

use crate::ready::{ATTEMPT, Alarm};

/// The result of one probe.
#[derive(Debug)]
pub(in crate::ready) enum ProbeResult {
    Ready,
    Alarm,
    /// Not ready yet, with the reason for the error message.
    NotYet(String),
    /// The probe cannot work, with the reason. A repetition would not help.
    Unusable(String),
}

/// The reason why a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ready) enum WakeReason {
    Alarm,
    Time,
}

/// The deadline of a wait, and the alarm that ends it early: the service's process, which is signaled when it
/// has exited.
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
        let Some(alarm) = self.alarm else {
            std::thread::sleep(self.left());
            return WakeReason::Time;
        };
        match wait_timeout(alarm, self.left()) {
            Ok(true) => WakeReason::Alarm,
            Ok(false) => WakeReason::Time,
            Err(error) => {
                tracing::debug!(%error, "could not wait for the service's process");
                std::thread::sleep(self.left().min(Duration::from_millis(5)));
                WakeReason::Time
            }
        }
    }
}
