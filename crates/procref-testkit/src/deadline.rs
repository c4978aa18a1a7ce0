//! Waiting, with an end.
//!
//! Everything that can be an event is one, and is waited for on a pipe. What
//! only shows in `/proc` has no event: for that, and only for that, there is
//! [`until`].

use std::time::{Duration, Instant};

/// How long anything at all may take before a test gives up.
///
/// It only has to be longer than the slowest machine under the worst load: a
/// test that passes never waits for it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Looks at outside state until `look` finds what it wants.
///
/// # Panics
///
/// When [`DEADLINE`] has passed, naming `what`.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain for: {what}"
        );
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// [`until`] for a plain condition.
///
/// # Panics
///
/// When [`DEADLINE`] has passed, naming `what`.
#[track_caller]
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(()));
}
