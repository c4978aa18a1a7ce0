//! Time limits of calls that wait.

use std::time::{Duration, Instant};

/// The time that a client waits for a process that announces no limit.
pub(crate) const DEFAULT_WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// The time limit of a client that waits for other processes that start or stop the service.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// Until a deadline that the user has set.
    Until(Deadline),
    /// For each transition, the time that the process with the lock has announced, and [`MARGIN`] more.
    AsAnnounced,
}

/// The time that a client waits in addition to the announced time. When the announced time is up, the other
/// process still has to be scheduled and to clean up.
const MARGIN: Duration = Duration::from_secs(10);

impl Patience {
    /// Returns the patience of a client for the limit that its user has set, if there is one.
    pub(crate) fn of(chosen: Option<Duration>) -> Self {
        chosen.map_or(Self::AsAnnounced, |limit| {
            Self::Until(Deadline::after(limit))
        })
    }

    /// Returns the deadline of a wait that begins now.
    pub(crate) fn deadline(self, announced: Option<Duration>) -> Deadline {
        match (self, announced) {
            (Self::Until(deadline), _) => deadline,
            (Self::AsAnnounced, Some(limit)) => Deadline::after(limit.saturating_add(MARGIN)),
            (Self::AsAnnounced, None) => Deadline::after(DEFAULT_WAIT_TIMEOUT),
        }
    }

    /// Returns `true` if a client whose time is up must wait again, because the announced limit has changed.
    pub(crate) fn is_renewed(self, before: Option<Duration>, now: Option<Duration>) -> bool {
        matches!(self, Self::AsAnnounced) && before != now
    }
}

/// The end of a wait, and its limit.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    start: Instant,
    limit: Duration,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self {
            start: Instant::now(),
            limit,
        }
    }

    pub(crate) fn limit(self) -> Duration {
        self.limit
    }

    pub(crate) fn left(self) -> Duration {
        self.limit.saturating_sub(self.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_the_users_limit_or_the_announced_one_and_a_margin() {
        let second = Duration::from_secs(1);
        let chosen = Patience::of(Some(second));
        assert_eq!(chosen.deadline(Some(Duration::MAX)).limit(), second);
        assert_eq!(chosen.deadline(None).limit(), second);
        assert!(!chosen.is_renewed(None, Some(second)));

        let none = Patience::of(None);
        let limits = [
            (None, DEFAULT_WAIT_TIMEOUT),
            (Some(second), second + MARGIN),
            (Some(300 * second), 300 * second + MARGIN),
            (Some(Duration::MAX), Duration::MAX),
        ];
        for (announced, waited) in limits {
            assert_eq!(none.deadline(announced).limit(), waited, "{announced:?}");
        }
        assert!(none.is_renewed(None, Some(second)));
        assert!(none.is_renewed(Some(second), Some(2 * second)));
        assert!(!none.is_renewed(Some(second), Some(second)));
    }
}
