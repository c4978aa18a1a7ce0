//! Time limits without a runtime: one thread per process, only while somebody waits.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// Who wants to be woken when. Belongs to one process: a forked child has none of its threads.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The number keeps two sleepers of one instant apart.
    sleepers: BTreeMap<(Instant, u64), Waker>,
    next: u64,
    running: bool,
}

impl Timer {
    pub(crate) const fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                sleepers: BTreeMap::new(),
                next: 0,
                running: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: sleeps until the first is due or a new one comes, and ends with the last.
    fn run(&self) {
        let mut queue = self.queue();
        while let Some(entry) = queue.sleepers.first_entry() {
            let left = entry.key().0.saturating_duration_since(Instant::now());
            if left.is_zero() {
                entry.remove().wake();
            } else {
                queue = match self.changed.wait_timeout(queue, left) {
                    Ok((queue, _)) => queue,
                    Err(poisoned) => poisoned.into_inner().0,
                };
            }
        }
        queue.running = false;
    }
}

/// The future's output, or `None` if it takes longer than `limit`. A future that is ready at once
/// costs no thread.
///
/// `timer` finds this process's timer: in a child that was forked meanwhile it is another one.
pub(crate) async fn within<F: Future>(
    timer: fn() -> &'static Timer,
    limit: Duration,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let deadline = Instant::now().checked_add(limit);
    let mut sleep = pin!(Sleep {
        timer,
        deadline,
        entry: None,
    });
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        sleep.as_mut().poll(context).map(|()| None)
    })
    .await
}

struct Sleep {
    timer: fn() -> &'static Timer,
    /// `None`: beyond what the clock can tell, so never.
    deadline: Option<Instant>,
    entry: Option<(Instant, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        let timer = (self.timer)();
        let mut queue = timer.queue();
        let entry = *self.entry.get_or_insert_with(|| {
            queue.next += 1;
            (deadline, queue.next)
        });
        queue.sleepers.insert(entry, context.waker().clone());
        if queue.running {
            timer.changed.notify_one();
            return Poll::Pending;
        }
        let started = thread::Builder::new()
            .name("procref-timer".to_owned())
            .spawn(move || timer.run());
        match started {
            Ok(_) => queue.running = true,
            // What is timed still ends by itself, just not early.
            Err(error) => tracing::warn!(%error, "no thread for time limits"),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            let timer = (self.timer)();
            timer.queue().sleepers.remove(&entry);
            timer.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ready_in_time_comes_through_and_the_rest_does_not() {
        static TIMER: Timer = Timer::new();
        let never = std::future::pending::<()>;
        fn within<F: Future>(
            limit: Duration,
            future: F,
        ) -> impl Future<Output = Option<F::Output>> {
            super::within(|| &TIMER, limit, future)
        }
        pollster::block_on(async {
            assert_eq!(within(Duration::ZERO, async { 7 }).await, Some(7));
            assert_eq!(within(Duration::from_millis(20), never()).await, None);
            // The shorter one set later is not held up by the longer one.
            let slow = within(Duration::from_secs(1000), async {
                within(Duration::from_millis(20), never()).await
            });
            assert_eq!(slow.await, Some(None));
        });
    }
}
