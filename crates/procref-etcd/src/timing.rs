//! The arithmetic of a lease's lifetime, the margin for clocks, and the grace of a stop.
//!
//! ```text
//! proof ──────────────────────────────── fuse ─────── kill ── lost ── proof + TTL
//!   │ before the grant of the last         │  grace     │  1 s  │ margin   │ the earliest moment at which
//!   │ renewal that etcd confirmed          │  SIGTERM   │       │          │ etcd may end the lease
//! ```

use std::fmt;
use std::time::Duration;

/// A time of this host's `CLOCK_BOOTTIME`, in milliseconds. That clock also runs while the host is suspended.
pub type Millis = u64;

/// The time that the fuse and the kernel may need to run and to end a process.
const LATENCY: Millis = 1_000;

/// A watch can hang on a member that is cut off.
const REREAD: Millis = 2_000;

/// The default time to live of a lease, for a grace of at most 5 s.
const DEFAULT_TTL: Millis = 15_000;

/// How long a reference lasts, and when each side must give it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The time to live of a lease.
    pub ttl: Millis,
    /// The bound on what two clocks may differ during one time to live.
    pub margin: Millis,
    /// The time between SIGTERM and SIGKILL.
    pub grace: Millis,
    /// The time that the fuse and the kernel may need.
    pub latency: Millis,
    /// How long a link relies on a watch before it reads the keys again.
    pub reread: Millis,
}

impl Timing {
    /// Calculates the times for a grace and a time to live. Without a time to live, takes the smallest safe one, but
    /// at least 15 s.
    ///
    /// # Errors
    /// [`TtlTooShort`] if the time to live leaves less than half of it for failed renewals.
    pub fn new(ttl: Option<Duration>, grace: Duration) -> Result<Self, TtlTooShort> {
        let grace = millis(grace);
        let smallest = smallest_ttl(grace);
        let ttl = ttl.map_or(smallest.max(DEFAULT_TTL), millis);
        if ttl < smallest {
            return Err(TtlTooShort {
                ttl,
                grace,
                smallest,
            });
        }
        Ok(Self {
            ttl,
            margin: margin(ttl),
            grace,
            latency: LATENCY,
            reread: REREAD,
        })
    }

    /// Returns when a holder must treat its reference as lost.
    #[must_use]
    pub fn lost(&self, proof: Millis) -> Millis {
        proof + self.ttl - self.margin
    }

    /// Returns when a link whose host runs the service must exit, so that the service begins to stop.
    #[must_use]
    pub fn fuse(&self, proof: Millis) -> Millis {
        self.lost(proof) - self.latency - self.grace
    }

    /// Returns when the fuse kills what is left of the service, and when a link without a service must exit.
    #[must_use]
    pub fn kill(&self, proof: Millis) -> Millis {
        self.lost(proof) - self.latency
    }

    /// Returns when the next renewal is due.
    #[must_use]
    pub fn renewal(&self, proof: Millis) -> Millis {
        proof + self.ttl / 5
    }
}

fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 1_000)
}

fn margin(ttl: Millis) -> Millis {
    ttl / 100 + 200
}

/// Returns the smallest `ttl`, in whole seconds as etcd counts, with `ttl >= 2 * (grace + latency + margin(ttl))`.
fn smallest_ttl(grace: Millis) -> Millis {
    let exact = (2 * (grace + LATENCY + 200) * 100).div_ceil(98);
    exact.div_ceil(1_000) * 1_000
}

/// The error of [`Timing::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlTooShort {
    ttl: Millis,
    grace: Millis,
    smallest: Millis,
}

impl fmt::Display for TtlTooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the lease's time to live of {} ms is too short for a grace of {} ms (set it to at least {} s, or shorten \
             the grace)",
            self.ttl,
            self.grace,
            self.smallest / 1_000
        )
    }
}

impl std::error::Error for TtlTooShort {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_ttl_is_15_s_and_grows_with_the_grace() {
        let ttl = |grace| Timing::new(None, Duration::from_secs(grace)).map(|timing| timing.ttl);
        assert_eq!(
            [ttl(5), ttl(6), ttl(10)],
            [Ok(15_000), Ok(15_000), Ok(23_000)]
        );
    }

    #[test]
    fn ttl_too_short_for_the_grace_is_refused_with_both_values() {
        let error = Timing::new(Some(Duration::from_secs(15)), Duration::from_secs(10))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("15000 ms") && error.contains("10000 ms") && error.contains("23 s"),
            "{error}"
        );
    }

    #[test]
    fn every_accepted_ttl_allows_two_failed_renewals() {
        for grace in 0..60 {
            let timing = Timing::new(None, Duration::from_secs(grace)).unwrap();
            assert!(
                timing.fuse(0) >= 2 * timing.renewal(0),
                "grace {grace} s: {timing:?}"
            );
            assert!(
                timing.ttl >= 2 * (timing.grace + timing.latency + timing.margin),
                "grace {grace} s: {timing:?}"
            );
        }
    }
}
