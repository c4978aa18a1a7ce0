//! One thread that waits for something, on behalf of however many futures.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::platform::Platform;
use crate::error::{Error, Result};
use crate::runtime::wakers::Wakers;
use crate::runtime::{self, BoxFuture};

/// What only a blocking call can wait for, shared by all futures of this process that wait for it.
///
/// The call cannot be called off, so it is made by a thread of ours, one for all: a future that is
/// dropped leaves the thread behind, and the next one joins it. Nor is it known what the world is like by
/// the time a future runs again, so this tells when to look again, and nothing else.
#[derive(Clone, Default)]
pub(crate) struct SharedWait(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The thread is there.
    watched: bool,
    /// How often it has ended.
    rounds: u64,
    /// The futures to wake then.
    sleepers: Wakers,
}

impl SharedWait {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the thread that waits now, if need be with `event`, has ended. An error is the
    /// event's, told to the one future that started it: all others look, and start another.
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
            let start = !std::mem::replace(&mut state.watched, true);
            let sleep = Sleep {
                watch: self,
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
        let (watch, told) = (self.clone(), Arc::clone(&failure));
        let thread = Box::pin(async move {
            let end = event.await;
            *told.lock().unwrap_or_else(PoisonError::into_inner) = end.err();
            watch.end();
        });
        if let Err(error) = spawn(thread) {
            // Somebody may have come to rely on it meanwhile.
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
            state.watched = false;
            state.rounds += 1;
            state.sleepers.take()
        };
        sleepers.into_iter().for_each(runtime::wake);
    }
}

struct Sleep<'a> {
    watch: &'a SharedWait,
    number: u64,
    /// The round that it waits for to end.
    round: u64,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Cloning and dropping a waker may run foreign code, so both happen without the lock.
        let waker = context.waker().clone();
        let mut state = self.watch.state();
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
        // Kept until the mutex is free: dropping the last of a waker may run code of a user's.
        let waker = self.watch.state().sleepers.remove(self.number);
        drop(waker);
    }
}

#[cfg(test)]
mod tests;
