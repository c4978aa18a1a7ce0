use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::task::Wake;
use std::time::Duration;

use crate::error::Failure;

/// A signal that stays raised. Windows calls console handlers on a separate thread, so the signal may use locks.
pub(crate) struct Signal(Mutex<State>);

#[derive(Default)]
struct State {
    raised: bool,
    sleeping: Vec<Weak<Inner>>,
}

impl Signal {
    #[expect(clippy::unnecessary_wraps, reason = "it can fail on other systems")]
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self(Mutex::default()))
    }

    pub(crate) fn raise(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.raised = true;
        for sleep in state.sleeping.drain(..).filter_map(|sleep| sleep.upgrade()) {
            sleep.wake();
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it can fail on other systems")]
    pub(crate) fn is_raised(&self) -> Result<bool, Failure> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.raised)
    }

    /// Adds a thread that `raise` wakes. Wakes it now if the signal is raised.
    fn add(&self, sleep: &Arc<Inner>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.raised {
            sleep.wake();
        } else {
            state.sleeping.retain(|other| other.strong_count() > 0);
            state.sleeping.push(Arc::downgrade(sleep));
        }
    }
}

/// A thread that sleeps until a waker or a signal wakes it.
pub(crate) struct Sleep(Arc<Inner>);

#[derive(Default)]
struct Inner {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Inner {
    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

impl Sleep {
    #[expect(clippy::unnecessary_wraps, reason = "it can fail on other systems")]
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self(Arc::default()))
    }

    /// Returns at a wake-up, at the signal, after `limit`, or without a reason.
    #[expect(clippy::unnecessary_wraps, reason = "it can fail on other systems")]
    pub(crate) fn until_woken(
        &self,
        signal: Option<&Signal>,
        limit: Option<Duration>,
    ) -> Result<(), Failure> {
        if let Some(signal) = signal {
            signal.add(&self.0);
        }
        let woken = self.0.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = limit.unwrap_or(Duration::MAX);
        let (mut woken, _) = self
            .0
            .changed
            .wait_timeout_while(woken, limit, |woken| !*woken)
            .unwrap_or_else(PoisonError::into_inner);
        *woken = false;
        Ok(())
    }
}

impl Wake for Sleep {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}
