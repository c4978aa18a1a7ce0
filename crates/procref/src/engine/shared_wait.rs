//! A thread that waits for one event, for any number of futures.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::platform::Platform;
use crate::error::{Error, Result};
use crate::runtime::wakers::Wakers;
use crate::runtime::{self, BoxFuture};

/// A wait that needs a blocking call, shared by all futures of this process that wait for the same event.
///
/// The call cannot be cancelled. So one thread of procref makes the call for all futures. A future that is
/// dropped leaves the thread running, and the next future joins it. When a future runs again, the state may
/// have changed after the event. So the end of the wait only means that the future must read the state again.
#[derive(Clone, Default)]
pub(crate) struct SharedWait(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// `true` while the thread is running.
    running: bool,
    /// Number of threads that have ended.
    rounds: u64,
    /// The futures to wake when the thread ends.
    sleepers: Wakers,
}

impl SharedWait {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the running thread has ended. If none is running, this starts one, which waits for `event`. The
    /// event's error goes to the future that started the thread. All others wake without an error, read the state
    /// again, and start another thread.
    pub(crate) async fn wait<W: Platform>(
        &self,
        platform: &W,
        purpose: &'static str,
        event: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        let spawn = |thread| platform.spawn_thread(purpose, thread);
        self.wait_for_thread(spawn, event).await
    }

    async fn wait_for_thread(
        &self,
        spawn: impl FnOnce(BoxFuture<()>) -> Result<()>,
        event: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        let (mut sleep, start) = {
            let mut state = self.state();
            let start = !std::mem::replace(&mut state.running, true);
            let sleep = Sleep {
                shared: self,
                number: state.sleepers.register(),
                round: state.rounds,
            };
            (sleep, start)
        };
        if !start {
            (&mut sleep).await;
            return Ok(());
        }
        let failure = Arc::new(Mutex::new(None::<Error>));
        let (shared, slot) = (self.clone(), Arc::clone(&failure));
        let thread = Box::pin(async move {
            let result = event.await;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = result.err();
            shared.end();
        });
        if let Err(error) = spawn(thread) {
            // Other futures may have begun to wait for this thread.
            self.end();
            return Err(error);
        }
        (&mut sleep).await;
        let failure = failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        failure.map_or(Ok(()), Err)
    }

    fn end(&self) {
        let sleepers = {
            let mut state = self.state();
            state.running = false;
            state.rounds += 1;
            state.sleepers.take()
        };
        sleepers.into_iter().for_each(runtime::wake);
    }
}

struct Sleep<'a> {
    shared: &'a SharedWait,
    number: u64,
    /// The round whose end this future waits for.
    round: u64,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Cloning and dropping a waker may run foreign code, so both happen without the lock.
        let waker = context.waker().clone();
        let mut state = self.shared.state();
        if state.rounds != self.round {
            return Poll::Ready(());
        }
        let replaced = state.sleepers.insert(self.number, waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        // The waker is dropped after the mutex is released, because that may run foreign code.
        let waker = self.shared.state().sleepers.remove(self.number);
        drop(waker);
    }
}

#[cfg(test)]
mod tests;
