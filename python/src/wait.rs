//! Polls the library's futures, on the calling thread or on a thread for asyncio.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::interpreter;

/// The time between two checks for signals.
pub(crate) const CHECK: Duration = Duration::from_millis(50);

/// A waker that unparks a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

fn own_waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// Polls a future on this thread until it is ready. Returns `None` if the limit passes first.
///
/// Checks for signals every 50 ms. If a signal handler raises an exception, such as `KeyboardInterrupt`, this drops the
/// future and returns the exception. Dropping the future releases everything that it held.
///
/// Python's own handler of a signal only sets a flag, and the standard library resumes an interrupted park. So without
/// this check, the exception would be raised after the wait.
pub(crate) fn wait_within<F>(
    py: Python<'_>,
    limit: Option<Duration>,
    future: F,
) -> PyResult<Option<F::Output>>
where
    F: Future<Output: Send> + Send,
{
    let waker = own_waker();
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut future = Box::pin(future);
    loop {
        let polled = py.detach(|| poll_for(future.as_mut(), &waker, end));
        let ended = match polled {
            Poll::Ready(output) => Ok(Some(output)),
            Poll::Pending => match py.check_signals() {
                Ok(()) if end.is_none_or(|end| Instant::now() < end) => continue,
                Ok(()) => Ok(None),
                Err(raised) => Err(raised),
            },
        };
        // Dropping the future can wait, too.
        py.detach(|| drop(future));
        return ended;
    }
}

/// Polls a future on this thread until it is ready. See [`wait_within`].
pub(crate) fn wait<F>(py: Python<'_>, future: F) -> PyResult<F::Output>
where
    F: Future<Output: Send> + Send,
{
    let output = wait_within(py, None, future)?;
    Ok(output.expect("a wait without a limit ends with an output"))
}

/// Polls a future until the next check for signals, or until `end`.
fn poll_for<F: Future>(
    mut future: Pin<&mut F>,
    waker: &Waker,
    end: Option<Instant>,
) -> Poll<F::Output> {
    let check = Instant::now() + CHECK;
    let end = end.map_or(check, |end| end.min(check));
    loop {
        let polled = future.as_mut().poll(&mut Context::from_waker(waker));
        let left = end.saturating_duration_since(Instant::now());
        if polled.is_ready() || left.is_zero() {
            return polled;
        }
        thread::park_timeout(left);
    }
}

/// A call that a thread makes for asyncio.
#[pyclass(frozen, module = "procref._native")]
pub(crate) struct Pending {
    cancelled: Arc<AtomicBool>,
    thread: Thread,
}

#[pymethods]
impl Pending {
    /// Cancels the call. The thread drops the future, which releases everything that it held.
    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Pending {
    /// Polls a future on a new thread. When it is ready, calls `done(result, None)` or `done(None, error)` there.
    ///
    /// `done` is not called after the call was cancelled, or when the interpreter is exiting.
    pub(crate) fn start<F, R>(
        future: F,
        done: Py<PyAny>,
        convert: impl FnOnce(Python<'_>, F::Output) -> PyResult<R> + Send + 'static,
    ) -> PyResult<Self>
    where
        F: Future<Output: Send> + Send + 'static,
        R: for<'py> IntoPyObject<'py>,
    {
        let cancelled = Arc::new(AtomicBool::new(false));
        let is_cancelled = Arc::clone(&cancelled);
        let run = move || {
            let Some(output) = poll_until(future, &is_cancelled) else {
                return;
            };
            if interpreter::is_exiting() {
                return;
            }
            Python::try_attach(|py| report(py, &done, convert(py, output)));
        };
        let builder = thread::Builder::new().name("procref-asyncio".to_owned());
        let started = builder.spawn(run).map_err(|error| {
            PyRuntimeError::new_err(format!("could not start a thread for asyncio: {error}"))
        })?;
        let thread = started.thread().clone();
        Ok(Self { cancelled, thread })
    }
}

/// Polls a future until it is ready. Returns `None` if the call is cancelled first.
fn poll_until<F: Future>(future: F, cancelled: &AtomicBool) -> Option<F::Output> {
    let waker = own_waker();
    let mut future = Box::pin(future);
    while !cancelled.load(Ordering::Acquire) {
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        // A release checks from time to time whether it still has to wait.
        thread::park_timeout(CHECK);
    }
    None
}

fn report<R>(py: Python<'_>, done: &Py<PyAny>, result: PyResult<R>)
where
    R: for<'py> IntoPyObject<'py>,
{
    let called = match result {
        Ok(result) => done.call1(py, (result, py.None())),
        Err(error) => done.call1(py, (py.None(), error)),
    };
    if let Err(error) = called {
        error.write_unraisable(py, Some(done.bind(py)));
    }
}
