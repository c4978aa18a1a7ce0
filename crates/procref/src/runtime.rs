//! Runs futures without an async runtime: in `Drop`, in the blocking calls, and on procref's own threads.
//!
//! procref starts its own threads for blocking calls. The crate `blocking` and similar crates keep a global
//! pool of threads for that. A forked child has no threads of the pool, so its calls would never return.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use crate::error::{Error, Result};

pub(crate) mod deadline;
pub(crate) mod helpers;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(unix)]
pub(crate) mod periodic;
pub(crate) mod process_local;
pub(crate) mod timer;
pub(crate) mod wakers;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;
#[cfg(windows)]
use windows as sys;

use helpers::{Helper, LastAct};

/// The standard library's default size of a thread's stack.
const DEFAULT_STACK: usize = 2 << 20;

/// Thread-local data smaller than this fits on a default stack.
const SMALL_THREAD_DATA: usize = 64 << 10;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs a future on this thread until it is ready. With feature `tokio`, a tokio runtime is entered, because
/// callbacks may need one.
///
/// If this thread is already inside a runtime (a blocking call from async code), it cannot enter a second
/// one. In this case, another thread runs the future while this thread waits.
pub(crate) fn block_on<F: Future<Output: Send> + Send>(future: F) -> F::Output {
    #[cfg(feature = "tokio")]
    {
        if tokio::runtime::Handle::try_current().is_ok() {
            return run_on_scoped_thread(future);
        }
    }
    run(future)
}

/// Runs a future on a new thread while this one waits. If no thread is available, runs it on this one, without a
/// runtime.
#[cfg(feature = "tokio")]
fn run_on_scoped_thread<F: Future<Output: Send> + Send>(future: F) -> F::Output {
    let future = pin!(future);
    let future = Mutex::new(future);
    let locked = || future.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let helper = Arc::new(Helper::default());
        let started = thread_builder("procref").spawn_scoped(scope, || {
            let mut output = None;
            helper.run(LastAct::Other, || output = Some(run(locked().as_mut())));
            output.expect("the work has returned")
        });
        match started.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(output)) => output,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => {
                tracing::warn!(%error, "no thread is available; running the future on the caller's thread");
                pollster::block_on(locked().as_mut())
            }
        }
    })
}

#[cfg(feature = "tokio")]
fn run<F: Future>(future: F) -> F::Output {
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let relay = Arc::new(WakerRelay::default());
            // Dropped before the runtime, also if the future panics.
            let _disconnect = Disconnect(&relay);
            let waker = Waker::from(Arc::clone(&relay));
            let mut future = pin!(future);
            runtime.block_on(std::future::poll_fn(|context| {
                relay.connect(context.waker());
                future.as_mut().poll(&mut Context::from_waker(&waker))
            }))
        }
        Err(error) => {
            // There may be no free descriptor, for example. Callbacks that need no runtime still work.
            tracing::warn!(%error, "could not create a tokio runtime for callbacks");
            pollster::block_on(future)
        }
    }
}

/// Passes wake-ups to the waker of a runtime until the runtime is dropped.
///
/// A thread of procref may hold a waker a little longer than the future exists. A waker of tokio keeps the descriptors
/// of its runtime open, so that thread would close them after the blocking call has returned. If the host closed all
/// descriptors in between, the thread would close another file with the same number.
#[cfg(feature = "tokio")]
#[derive(Default)]
struct WakerRelay(Mutex<Option<Waker>>);

#[cfg(feature = "tokio")]
impl WakerRelay {
    fn connect(&self, waker: &Waker) {
        let mut target = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !target.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *target = Some(waker.clone());
        }
    }
}

#[cfg(feature = "tokio")]
impl std::task::Wake for WakerRelay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    // The lock is held during the call, so that the runtime is not dropped in its middle. The waker is that of a runtime
    // that blocks its thread: it only unparks this thread, and runs no foreign code.
    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(waker) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }
}

/// Disconnects a relay when it is dropped.
#[cfg(feature = "tokio")]
struct Disconnect<'a>(&'a WakerRelay);

#[cfg(feature = "tokio")]
impl Drop for Disconnect<'_> {
    fn drop(&mut self) {
        let waker = self
            .0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(waker);
    }
}

#[cfg(not(feature = "tokio"))]
fn run<F: Future>(future: F) -> F::Output {
    pollster::block_on(future)
}

/// Runs a future on a new thread, with a runtime. If no thread is available, runs it on this one, without a runtime.
pub(crate) fn spawn_or_run(purpose: &'static str, future: BoxFuture<()>) {
    let shared = Arc::new(Mutex::new(Some(future)));
    let take = |shared: &Mutex<Option<BoxFuture<()>>>| {
        shared.lock().unwrap_or_else(PoisonError::into_inner).take()
    };
    let sent = Arc::clone(&shared);
    let started = start_thread(purpose, LastAct::Other, move || {
        if let Some(future) = take(&sent) {
            run(future);
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread is available; running the future on the caller's thread");
        if let Some(future) = take(&shared) {
            pollster::block_on(future);
        }
    }
}

/// Runs a future on a new thread. The future may block its thread, and needs no runtime. If it calls wakers, it does so
/// at its end.
pub(crate) fn spawn_thread(purpose: &'static str, future: BoxFuture<()>) -> Result<()> {
    start_thread(purpose, LastAct::Wake, || pollster::block_on(future)).map(drop)
}

fn start_thread(
    purpose: &'static str,
    last_act: LastAct,
    work: impl FnOnce() + Send + 'static,
) -> Result<Arc<Helper>> {
    let helper = Arc::new(Helper::default());
    let own = Arc::clone(&helper);
    thread_builder("procref")
        .spawn(move || own.run(last_act, work))
        .map_err(|source| Error::Thread { purpose, source })?;
    Ok(helper)
}

/// Returns a builder for a thread of this name, with the stack that the thread would have without thread-local data.
pub(crate) fn thread_builder(name: &str) -> thread::Builder {
    let builder = thread::Builder::new().name(name.to_owned());
    let data = sys::thread_data_size();
    if data < SMALL_THREAD_DATA {
        return builder;
    }
    // The size that the standard library would use.
    let chosen = std::env::var("RUST_MIN_STACK").ok();
    let stack = chosen
        .and_then(|size| size.parse().ok())
        .unwrap_or(DEFAULT_STACK);
    builder.stack_size(data.saturating_add(stack))
}

/// Runs a blocking call on a new thread.
pub(crate) async fn spawn_blocking<T: Send + 'static>(
    purpose: &'static str,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    Ok(start_blocking(purpose, call)?.output().await)
}

/// Begins a blocking call on a new thread.
pub(crate) fn start_blocking<T: Send + 'static>(
    purpose: &'static str,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<Blocking<T>> {
    let slot = Arc::new(Mutex::new((None, None::<Waker>)));
    let filled = Arc::clone(&slot);
    let helper = start_thread(purpose, LastAct::Wake, move || {
        let output = call();
        let waker = {
            let mut slot = filled.lock().unwrap_or_else(PoisonError::into_inner);
            slot.0 = Some(output);
            // The thread exits now. A task that takes the output without having waited must find the thread in the list.
            helpers::about_to_wake();
            slot.1.take()
        };
        waker.into_iter().for_each(wake);
    })?;
    Ok(Blocking { slot, helper })
}

/// A blocking call on a thread of procref.
pub(crate) struct Blocking<T> {
    /// The output, and the waker of the task that waits for it.
    slot: Arc<Mutex<(Option<T>, Option<Waker>)>>,
    helper: Arc<Helper>,
}

impl<T> Blocking<T> {
    /// Returns the thread that makes the call.
    pub(crate) fn helper(&self) -> &Arc<Helper> {
        &self.helper
    }

    /// Waits until the call returns.
    pub(crate) async fn output(self) -> T {
        std::future::poll_fn(|context| {
            // Cloning and dropping a waker may run foreign code, so both happen without the lock.
            let waker = context.waker().clone();
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            match slot.0.take() {
                Some(output) => Poll::Ready(output),
                None => {
                    let replaced = slot.1.replace(waker);
                    drop(slot);
                    drop(replaced);
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// Wakes a task. The caller must not hold a lock, because a waker is foreign code that may poll at once, or drop
/// handles.
///
/// Catch a panic of the waker. Otherwise the remaining tasks would never be woken.
pub(crate) fn wake(waker: Waker) {
    helpers::about_to_wake();
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        tracing::error!("a waker panicked");
    }
}

/// Polls a future once. Use this for a future that is ready at the first poll unless it must wait.
pub(crate) fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Returns `Pending` once. So if a future is polled in `Drop`, its remaining part runs on the thread that
/// receives the future.
pub(crate) async fn yield_once() {
    let mut polled = false;
    std::future::poll_fn(|context| {
        if polled {
            return Poll::Ready(());
        }
        polled = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Returns the future's output, or the message of its panic.
pub(crate) async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    catch(future).await.map_err(|panic| panic_message(&*panic))
}

/// The payload of a panic.
pub(crate) type Panic = Box<dyn std::any::Any + Send>;

/// Returns the future's output, or its panic.
pub(crate) async fn catch<F: Future>(future: F) -> Result<F::Output, Panic> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        // This is unwind safe, because the future is not polled again after a panic.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

/// Runs a future without a `tracing` subscriber. Use this for work that must be done even after a subscriber
/// has panicked.
pub(crate) async fn run_without_subscriber<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|context| without_subscriber(|| future.as_mut().poll(context))).await
}

/// Calls a function without a `tracing` subscriber.
pub(crate) fn without_subscriber<T>(call: impl FnOnce() -> T) -> T {
    tracing::dispatcher::with_default(&tracing::Dispatch::none(), call)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "(no message)".to_owned())
}
