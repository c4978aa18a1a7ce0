//! A watch by itself: its thread is real, and waits for whatever a test says.

use std::pin::pin;
use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::host::Host;
use crate::runtime::poll_once;

const PURPOSE: &str = "test a watch";

/// Something that ends as it is told.
fn event() -> (
    Sender<Result<()>>,
    impl Future<Output = Result<()>> + Send + 'static,
) {
    let (end, ended) = channel();
    (end, async move { ended.recv().expect("it is told") })
}

#[test]
fn a_failure_is_told_to_who_began_and_to_nobody_else() {
    let watch = SharedWait::default();
    let (end, first) = event();
    let mut first = pin!(watch.wait(&Host, PURPOSE, first));
    let mut second = pin!(watch.wait(&Host, PURPOSE, async { unreachable!() }));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    end.send(Err(Error::from("it broke"))).expect("a thread");
    let failure = pollster::block_on(first).expect_err("it broke");
    assert_eq!(failure.to_string(), "it broke");
    pollster::block_on(second).expect("it may look again");

    let again = watch.wait(&Host, PURPOSE, async { Ok(()) });
    pollster::block_on(again).expect("another thread");
}

#[test]
fn a_future_that_is_dropped_is_not_remembered() {
    let watch = SharedWait::default();
    let (end, first) = event();
    let mut first = pin!(watch.wait(&Host, PURPOSE, first));
    assert!(poll_once(first.as_mut()).is_pending());
    for _ in 0..3 {
        let mut other = Box::pin(watch.wait(&Host, PURPOSE, async { unreachable!() }));
        assert!(poll_once(other.as_mut()).is_pending());
        assert_eq!(watch.state().sleepers.len(), 2);
    }
    assert_eq!(watch.state().sleepers.len(), 1);
    end.send(Ok(())).expect("a thread");
    pollster::block_on(first).expect("it has ended");
}

#[test]
fn where_no_thread_can_begin_nobody_waits_for_one() {
    let watch = SharedWait::default();
    let mut second = pin!(watch.wait(&Host, PURPOSE, async { unreachable!() }));
    let spawn = |_| {
        // Whoever comes now relies on the thread that is about to begin.
        assert!(poll_once(second.as_mut()).is_pending());
        Err(Error::from("no threads are left"))
    };
    let first = watch.wait_for_thread(spawn, async { unreachable!() });
    let failure = pollster::block_on(first).expect_err("no thread");
    assert_eq!(failure.to_string(), "no threads are left");
    assert!(poll_once(second.as_mut()).is_ready());

    let again = watch.wait(&Host, PURPOSE, async { Ok(()) });
    pollster::block_on(again).expect("a thread of its own");
}
