//! Blocks a thread until a future is ready, its caller cancels, or a time limit expires.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::cancel::{Cancel, Sleep};
use crate::error::Failure;

/// The end of a wait.
pub(crate) enum Waited<T> {
    Ready(T),
    Elapsed,
}

impl<T> Waited<T> {
    /// Returns the value of a wait without a time limit.
    pub(crate) fn value(self) -> Result<T, Failure> {
        match self {
            Self::Ready(value) => Ok(value),
            Self::Elapsed => Err(Failure::timeout(
                "the wait ended without a limit".to_owned(),
            )),
        }
    }
}

/// Polls a future on this thread. An error means that the future was dropped, because of `cancel` or because the thread
/// could not sleep.
///
/// A future that is ready wins over a cancellation, because its result may be a reference.
pub(crate) fn wait<T>(
    future: impl Future<Output = T>,
    cancel: Option<&Cancel>,
    limit: Option<Duration>,
) -> Result<Waited<T>, Failure> {
    if let Some(cancel) = cancel {
        cancel.check()?;
    }
    let sleep = Arc::new(Sleep::new()?);
    let waker = Waker::from(Arc::clone(&sleep));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    // A limit that the clock cannot represent does not expire.
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Ok(Waited::Ready(value));
        }
        if let Some(cancel) = cancel {
            cancel.check()?;
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(Waited::Elapsed);
        }
        sleep.until_woken(cancel.map(|cancel| &cancel.signal), left)?;
    }
}
