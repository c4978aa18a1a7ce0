//! The end of the standard input or of another process, which ends `hold`.
//!
//! Each of both has a thread that sleeps in the kernel. The threads also run while the service is acquired, because the
//! start of a service may take minutes.

use std::future::{Future, poll_fn};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use procref::process::Process;

use super::sys;
use crate::args::HoldArgs;
use crate::error::{Error, Result};
use crate::signals::Unsuspended;

/// The events that end `hold`, besides stop signals and the exit of the service.
pub(super) struct Ending(Arc<Mutex<State>>);

enum State {
    /// Contains a function that is called when an event has occurred.
    Waiting(Option<Box<dyn FnOnce() + Send>>),
    /// Contains the first event as a clause.
    Reached(Result<String>),
}

impl Ending {
    /// Starts to wait for the events of these arguments. Fails if the process does not run.
    pub(super) fn watch(args: &HoldArgs) -> Result<Self> {
        let ending = Self(Arc::new(Mutex::new(State::Waiting(None))));
        // The threads never get a signal that suspends this process, because the process may hold the service's lock.
        let _unsuspended = Unsuspended::begin();
        if let Some(pid) = args.for_pid {
            let process = Process::open(pid).map_err(|error| match error {
                procref::Error::Process { source, .. } => {
                    Error::io(format!("hold a service for process {pid}"), source)
                }
                other => other.into(),
            })?;
            ending.spawn("wait for the process of --for-pid", move || {
                process.wait(Duration::MAX)?;
                Ok(format!("process {pid} exited"))
            })?;
        }
        if args.stdin {
            let reading = "read the standard input";
            ending.spawn(reading, move || {
                sys::wait_end_of_input().map_err(|error| Error::io(reading, error))?;
                Ok("the standard input ended".to_owned())
            })?;
        }
        Ok(ending)
    }

    /// Waits on a thread, which runs until this process exits.
    fn spawn(
        &self,
        doing: &'static str,
        wait: impl FnOnce() -> Result<String> + Send + 'static,
    ) -> Result<()> {
        let shared = Self(Arc::clone(&self.0));
        let thread = thread::Builder::new().name("procref: hold".to_owned());
        let spawned = thread.spawn(move || shared.reach(wait()));
        spawned.map_err(|error| Error::io(doing, error))?;
        Ok(())
    }

    /// Stores the first event.
    fn reach(&self, event: Result<String>) {
        let mut state = self.lock();
        if let State::Waiting(notify) = &mut *state {
            let notify = notify.take();
            *state = State::Reached(event);
            drop(state);
            if let Some(notify) = notify {
                notify();
            }
        }
    }

    /// Calls a function when an event has occurred, instead of the previous function.
    pub(super) fn notify(&self, function: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        match &mut *state {
            State::Waiting(notify) => *notify = Some(Box::new(function)),
            State::Reached(_) => {
                drop(state);
                function();
            }
        }
    }

    /// Returns `true` if an event has occurred.
    pub(super) fn has_occurred(&self) -> bool {
        matches!(&*self.lock(), State::Reached(_))
    }

    /// Returns a future that is ready when an event has occurred.
    pub(super) fn reached(&self) -> impl Future<Output = ()> {
        poll_fn(|context| {
            if self.has_occurred() {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            self.notify(move || waker.wake());
            Poll::Pending
        })
    }

    /// Returns the first event as a clause, or the error of waiting for it.
    pub(super) fn reason(self) -> Result<String> {
        match mem::replace(&mut *self.lock(), State::Waiting(None)) {
            State::Reached(event) => event,
            State::Waiting(_) => Ok("nothing happened".to_owned()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
