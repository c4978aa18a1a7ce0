//! Waiting with a deadline.
//!
//! A test waits for an event on a pipe if there is one. Facts that only `/proc` shows have no event. Use
//! [`until`], which polls, only for such facts.

use std::time::{Duration, Instant};

/// Time after which a wait fails.
///
/// The time must be sufficient for a slow machine under heavy load. A test that passes never waits this long.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Polls until `check` returns a value.
///
/// # Panics
///
/// Panics with `what` after [`DEADLINE`].
#[track_caller]
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "not within {DEADLINE:?}: {what}"
        );
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Polls until `condition` returns `true`.
///
/// # Panics
///
/// Panics with `what` after [`DEADLINE`].
#[track_caller]
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(()));
}
