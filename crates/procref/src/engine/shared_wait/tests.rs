//! Tests of shared waits alone. The thread is real, and waits for an event that the test sends.

use std::pin::pin;
use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::host::Host;
use crate::runtime::poll_once;

const PURPOSE: &str = "test a shared wait";

/// Returns an event, and the sender that ends it with a result.
fn event() -> (
    Sender<Result<()>>,
    impl Future<Output = Result<()>> + Send + 'static,
) {
    let (end, ended) = channel();
    (end, async move {
        ended.recv().expect("the sender sends a result")
    })
}

#[test]
fn shared_wait_error_goes_only_to_the_future_that_started_it() {
    let shared = SharedWait::default();
    let (end, first) = event();
    let mut first = pin!(shared.wait(&Host, PURPOSE, first));
    let mut second = pin!(shared.wait(&Host, PURPOSE, async { unreachable!() }));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    end.send(Err(Error::from("it broke")))
        .expect("the thread runs");
    let failure = pollster::block_on(first).expect_err("the event fails");
    assert_eq!(failure.to_string(), "it broke");
    pollster::block_on(second).expect("the second future wakes without an error");

    let again = shared.wait(&Host, PURPOSE, async { Ok(()) });
    pollster::block_on(again).expect("another thread runs");
}

#[test]
fn shared_wait_drops_the_waker_of_a_dropped_future() {
    let shared = SharedWait::default();
    let (end, first) = event();
    let mut first = pin!(shared.wait(&Host, PURPOSE, first));
    assert!(poll_once(first.as_mut()).is_pending());
    for _ in 0..3 {
        let mut other = Box::pin(shared.wait(&Host, PURPOSE, async { unreachable!() }));
        assert!(poll_once(other.as_mut()).is_pending());
        assert_eq!(shared.state().sleepers.len(), 2);
    }
    assert_eq!(shared.state().sleepers.len(), 1);
    end.send(Ok(())).expect("the thread runs");
    pollster::block_on(first).expect("the event has ended");
}

#[test]
fn shared_wait_wakes_all_futures_when_no_thread_starts() {
    let shared = SharedWait::default();
    let mut second = pin!(shared.wait(&Host, PURPOSE, async { unreachable!() }));
    let spawn = |_| {
        // This future relies on the thread that has not started yet.
        assert!(poll_once(second.as_mut()).is_pending());
        Err(Error::from("no threads are available"))
    };
    let first = shared.wait_for_thread(spawn, async { unreachable!() });
    let failure = pollster::block_on(first).expect_err("no thread starts");
    assert_eq!(failure.to_string(), "no threads are available");
    assert!(poll_once(second.as_mut()).is_ready());

    let again = shared.wait(&Host, PURPOSE, async { Ok(()) });
    pollster::block_on(again).expect("its own thread runs");
}
