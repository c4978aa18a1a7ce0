//! G4 while a waiting process is suspended.

#![cfg(target_os = "linux")]

use procref_testkit::protocol::{Callback, Gate, Outcome, Via};
use procref_testkit::scene;
use rustix::process::Signal;

const START: Gate = Gate::Before(Callback::Start);

/// A suspended waiter cannot use the lock, so it must not keep the lock from other waiters.
#[test]
fn g4_suspended_waiter_does_not_delay_other_waiters() {
    let scene = scene!();
    let spec = scene.service("slow");
    let failing = [Outcome::Fail("no".to_owned())];
    let (starter, key, starting) =
        scene.client_at_gate(&spec.clone().with_starts(failing), START, Via::TokioMulti);
    let waiters = scene.clients(4, &spec);
    let requests = waiters.iter().zip(Via::ALL);
    let requests = requests.map(|(waiter, via)| waiter.begin_acquire(via));
    let mut waiting = requests.collect::<Vec<_>>().into_iter();
    scene.wait_sleepers(key, 4);
    let (suspended, running) = waiters.split_at(1);
    suspended[0].identity().signal(Signal::STOP);
    starter.proceed(START);
    assert!(starter.finish_acquire(starting).is_err());
    let pending = waiting.next().expect("the first waiter");
    let mut held = Vec::new();
    for (waiter, pending) in running.iter().zip(waiting) {
        held.push(waiter.finish_acquire(pending).expect("acquire"));
    }
    assert!(!suspended[0].has_replied(&pending));
    assert_eq!(running[0].count(), 3);
    suspended[0].identity().signal(Signal::CONT);
    held.push(suspended[0].finish_acquire(pending).expect("acquire"));
    assert_eq!(running[0].count(), 4);
    let order = running.iter().chain(suspended);
    for (waiter, held) in order.zip(&held) {
        assert_eq!(held.got.pid, scene.only_instance().pid);
        waiter.release(held);
    }
    assert_eq!(scene.started().len(), 1);
}
