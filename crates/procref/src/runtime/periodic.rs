//! A call that a thread repeats while it waits.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A call that is due again and again while a thread waits for something else.
///
/// The thread that waits makes the call, so no other thread is necessary.
pub(crate) struct Periodic<'a> {
    call: &'a dyn Fn(),
    interval: Duration,
    due: Cell<Instant>,
}

impl<'a> Periodic<'a> {
    /// The call is due for the first time after one interval.
    pub(crate) fn new(interval: Duration, call: &'a dyn Fn()) -> Self {
        Self {
            call,
            interval,
            due: Cell::new(Instant::now() + interval),
        }
    }

    /// Makes the call if it is due. Returns the time until it is due again.
    pub(crate) fn run(&self) -> Duration {
        let now = Instant::now();
        if self.due.get() <= now {
            (self.call)();
            self.due.set(now + self.interval);
        }
        self.due.get().saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periodic_call_is_made_when_it_is_due() {
        let calls = Cell::new(0);
        let count = || calls.set(calls.get() + 1);
        let often = Periodic::new(Duration::ZERO, &count);
        assert_eq!((often.run(), often.run()), (Duration::ZERO, Duration::ZERO));
        assert_eq!(calls.get(), 2);
        let hour = Duration::from_secs(3600);
        let seldom = Periodic::new(hour, &count);
        assert!((Duration::from_secs(1)..=hour).contains(&seldom.run()));
        assert_eq!(calls.get(), 2);
    }
}
