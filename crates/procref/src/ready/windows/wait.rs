//! Waiting with an eye on the alarm and on the clock.

use std::time::{Duration, Instant};

use procref_winsys::handle::wait_timeout;

use crate::ready::{ATTEMPT, Alarm};

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
    Alarm,
    Time,
}

/// Until when to wait, and what ends every wait at once: the service's process, which is signalled when it
/// has ended.
pub(in crate::ready) struct Watch<'a> {
    /// `None`: nothing ends a wait but the time.
    alarm: Option<Alarm<'a>>,
    until: Instant,
    /// How long one attempt may take.
    attempt: Duration,
}

impl<'a> Watch<'a> {
    pub(in crate::ready) fn new(alarm: Alarm<'a>, until: Instant) -> Self {
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
        let Some(alarm) = self.alarm else {
            std::thread::sleep(self.left());
            return Woken::Time;
        };
        match wait_timeout(alarm, self.left()) {
            Ok(true) => Woken::Alarm,
            Ok(false) => Woken::Time,
            Err(error) => {
                tracing::debug!(%error, "could not wait for the service's process");
                std::thread::sleep(self.left().min(Duration::from_millis(5)));
                Woken::Time
            }
        }
    }
}
