//! Who waits for a start burns no CPU meanwhile, and does not wait longer than
//! the start takes.

#![cfg(target_os = "linux")]

use std::time::Duration;

use procref_testkit::protocol::{Callback, Event, Gate, StopOutcome, Via};
use procref_testkit::scene;

const WAITERS: usize = 100;

/// From the starter's callback returning to the last waiter having its handle.
const AT_MOST: Duration = Duration::from_millis(100);

/// What all waiters together may use in [`WATCHED`]. A poll every 10 ms by
/// each of them would be thousands of wakeups, and far more than this.
const CPU: Duration = Duration::from_millis(50);
const WATCHED: Duration = Duration::from_millis(1500);

/// The machine runs other things, too: a library that polls misses the bound
/// each time, a busy machine only sometimes.
const ATTEMPTS: usize = 5;

const START: Gate = Gate::Before(Callback::Start);

/// CPU time that `WAITERS` sleeping processes used, and how long the last one
/// took to return once the service was ready.
fn attempt(via: Via) -> (Duration, Duration) {
    let scene = scene!();
    let spec = scene.service("slow");
    let starter = scene.client(&spec.clone().gated([START]));
    let key = starter.build_as(1, &spec);
    let starting = starter.begin_acquire(via);
    starter.event(&Event::Running(Callback::Start));

    let waiters = scene.clients(WAITERS, &spec);
    let waiting: Vec<_> = waiters.iter().map(|it| it.begin_acquire(via)).collect();
    scene.wait_sleepers(key, u32::try_from(WAITERS).expect("few"));
    let used = || -> Duration { waiters.iter().map(|it| it.identity().cpu_time()).sum() };

    // Not to order anything: this is the time in which nothing may happen.
    let before = used();
    std::thread::sleep(WATCHED);
    let cpu = used() - before;

    starter.proceed(START);
    let returning = Event::Returning(Callback::Start);
    let ((), ready) = starter.event_at("the callback to return", |event| {
        (*event == returning).then_some(())
    });
    let held = starter.finish_acquire(starting).expect("acquire");
    let mut last = 0;
    let mut all = Vec::new();
    for (waiter, pending) in waiters.iter().zip(waiting) {
        let joined = waiter.finish_acquire(pending).expect("acquire");
        assert_eq!(joined.got.pid, held.got.pid);
        last = last.max(joined.got.at);
        all.push(joined);
    }
    assert_eq!(starter.count() as usize, WAITERS + 1);
    starter.release(&held);
    for (waiter, joined) in waiters.iter().zip(&all) {
        waiter.release_via(joined, Via::Blocking);
    }
    assert_eq!(scene.calls("on_first_acquire"), 1);
    (cpu, Duration::from_nanos(last.saturating_sub(ready)))
}

fn wait_cheaply_and_briefly(via: Via) {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let (cpu, latency) = attempt(via);
        seen.push((cpu, latency));
        if cpu <= CPU && latency <= AT_MOST {
            return;
        }
    }
    panic!(
        "{WAITERS} waiters via {via:?}: CPU within {WATCHED:?} (at most {CPU:?}) and time to \
         return (at most {AT_MOST:?}), in {ATTEMPTS} attempts: {seen:?}"
    );
}

/// One test and not several: they would measure each other.
#[test]
fn a_hundred_processes() {
    wait_cheaply_and_briefly(Via::Pollster);
    wait_cheaply_and_briefly(Via::Blocking);
    a_stop_is_slept_through();
}

/// Who blocks its thread anyway waits on that one, is woken there, and takes over there.
#[test]
fn who_blocks_needs_no_other_thread_to_wait() {
    for dies in [false, true] {
        let scene = scene!();
        let spec = scene.service("slow");
        let starter = scene.client(&spec.clone().gated([START]));
        let key = starter.build_as(1, &spec);
        let starting = starter.begin_acquire(Via::Blocking);
        starter.event(&Event::Running(Callback::Start));
        let waiter = scene.client(&spec);
        let waiting = waiter.begin_acquire(Via::Blocking);
        scene.wait_sleepers(key, 1);
        assert_eq!(waiter.identity().threads_named("procref"), 0);
        if dies {
            starter.kill();
        } else {
            starter.proceed(START);
            let held = starter.finish_acquire(starting).expect("acquire");
            starter.release(&held);
        }
        let held = waiter.finish_acquire(waiting).expect("acquire");
        assert_eq!(waiter.count(), 1);
        waiter.release_via(&held, Via::Blocking);
    }
}

/// The same for the wait for a stop: who comes meanwhile sleeps, and so does
/// the one that waits for the service to end.
fn a_stop_is_slept_through() {
    let scene = scene!();
    let mut spec = scene.service("slow").stopping(StopOutcome::Terminate);
    spec.fake.slow_stop_ms = 1_500;
    let stopper = scene.client(&spec);
    let key = stopper.build_as(1, &spec);
    let held = stopper.acquire_via(Via::Blocking);
    let old = scene.only_living();
    let releasing = stopper.begin(procref_testkit::protocol::Command::Release {
        handle: held.handle,
        via: Via::Blocking,
    });
    stopper.event(&Event::Returning(Callback::Stop));
    let waiter = scene.client(&spec);
    let waiting = waiter.begin_acquire(Via::Blocking);
    scene.wait_sleepers(key, 1);
    let used = || stopper.identity().cpu_time() + waiter.identity().cpu_time();
    let before = used();
    assert!(!old.gone_within(Duration::from_millis(700)));
    let cpu = used() - before;
    assert!(cpu < Duration::from_millis(20), "{cpu:?} in 700 ms");
    assert_eq!(
        stopper.reply(releasing),
        procref_testkit::protocol::Reply::Done
    );
    let held = waiter.finish_acquire(waiting).expect("acquire");
    waiter.release_via(&held, Via::Blocking);
}
