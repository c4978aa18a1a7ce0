//! Detects a start that waits for itself.
//!
//! If a process that belongs to the start of a service acquired the same service, it would wait for itself.
//! Such a process gets an error immediately.
//!
//! | caller | how it is recognized |
//! |---|---|
//! | the program, processes that it started, its readiness command | by an environment variable that names the instance (`launch/own_start.rs`) |
//! | a callback of this process | by the thread that polls the callback (this file) |
//!
//! A process that a callback starts has no such variable, and a task that a callback spawns runs on another thread. If
//! they acquire the service, they wait until the start timeout ends the start.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use super::client::Client;
use super::platform::Platform;
use crate::error::{Error, Result};

thread_local! {
    /// Addresses of the clients whose callbacks this thread polls at the moment, the innermost last.
    static CALLING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Returns an error if a callback of this client acquires the service on the thread that polls the callback.
pub(crate) fn check_callback<W: Platform>(client: &Arc<Client<W>>) -> Result<()> {
    let own = Arc::as_ptr(client).addr();
    let calling = CALLING.try_with(|calling| calling.borrow().contains(&own));
    if !calling.unwrap_or(false) {
        return Ok(());
    }
    Err(Error::Recursion {
        service: client.key.name().to_owned(),
        reason: "its own callback acquires it, and would wait for itself (use the callback's argument instead)",
    })
}

/// Runs a callback's future, and marks the client while the future is polled.
pub(crate) async fn calling<W: Platform, F: Future>(client: &Client<W>, future: F) -> F::Output {
    /// Removes the mark, even if the callback panics.
    struct Mark;

    impl Drop for Mark {
        fn drop(&mut self) {
            let _ = CALLING.try_with(|calling| calling.borrow_mut().pop());
        }
    }

    let own = std::ptr::from_ref(client).addr();
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let _ = CALLING.try_with(|calling| calling.borrow_mut().push(own));
        let _mark = Mark;
        future.as_mut().poll(context)
    })
    .await
}
