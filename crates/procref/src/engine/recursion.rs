//! A start that waits for itself.
//!
//! A process that belongs to the start of an instance, and asks for that same service, would wait for its own
//! end. It gets an error at once.
//!
//! | who asks | how it is told |
//! |---|---|
//! | the program, what it has started, its readiness command | by a variable of its environment that names the instance |
//! | a callback of this process | by the thread that polls the callback |
//!
//! The variable stays in the environment of processes that outlive the start. So it names service and generation, and
//! counts only while that very instance is locked and not ready. It is a list: where the program of one
//! service starts another one, both starts have to end before either service can be joined. A process that a
//! callback has started by itself has no such variable, and neither is a task known that a callback has spawned:
//! the start timeout ends what they wait for.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use super::client::Client;
use super::platform::Platform;
use crate::error::{Error, Result};

thread_local! {
    /// The seats whose callbacks this thread polls just now, the innermost last.
    static CALLING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// An error if a callback of this service's asks for it, on the thread that polls the callback.
pub(crate) fn check_callback<W: Platform>(client: &Arc<Client<W>>) -> Result<()> {
    let own = Arc::as_ptr(client).addr();
    let calling = CALLING.try_with(|calling| calling.borrow().contains(&own));
    if !calling.unwrap_or(false) {
        return Ok(());
    }
    Err(Error::Recursion {
        service: client.key.name().to_owned(),
        reason: "its own callback acquires it, and would wait for itself (use what the callback is given)",
    })
}

/// A callback's future, which is known as such to what it calls.
pub(crate) async fn calling<W: Platform, F: Future>(client: &Client<W>, future: F) -> F::Output {
    /// Also where the callback panics.
    struct Called;

    impl Drop for Called {
        fn drop(&mut self) {
            let _ = CALLING.try_with(|calling| calling.borrow_mut().pop());
        }
    }

    let own = std::ptr::from_ref(client).addr();
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let _ = CALLING.try_with(|calling| calling.borrow_mut().push(own));
        let _called = Called;
        future.as_mut().poll(context)
    })
    .await
}
