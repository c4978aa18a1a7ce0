//! Who waits for a start burns no CPU meanwhile, and does not wait longer than
//! the start takes.

#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use procref_testkit::actor::Pending;
use procref_testkit::protocol::{Callback, Command, Event, Gate, Outcome, Reply, StopOutcome, Via};
use procref_testkit::{Actor, Scene, deadline, kernel, scene};

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
    let starter = scene.client(&spec.clone().with_gates([START]));
    let key = starter.build_as(1, &spec);
    let starting = starter.begin_acquire(via);
    starter.event(&Event::Running(Callback::Start));

    let waiters = scene.clients(WAITERS, &spec);
    let waiting: Vec<_> = waiters.iter().map(|it| it.begin_acquire(via)).collect();
    scene.wait_sleepers(key, u32::try_from(WAITERS).expect("the number is small"));
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
fn g4_hundred_waiters_use_no_cpu_and_return_promptly() {
    wait_cheaply_and_briefly(Via::Pollster);
    wait_cheaply_and_briefly(Via::Blocking);
    a_stop_is_slept_through();
}

/// The slots of the limit, lowest bits first.
const LIMIT: usize = 28;
const LIMIT_BITS: u32 = 15;

fn announced_ms(set: &kernel::Set) -> u32 {
    let slot = |nth| set.value(LIMIT + nth).expect("read a semaphore");
    slot(0) | slot(1) << LIMIT_BITS
}

/// In place of a start that takes minutes: a limit that is up at once, of which a waiter still waits the
/// margin of 10 s.
fn announce_1_ms(set: &kernel::Set) {
    for (nth, value) in [1, 0].into_iter().enumerate() {
        set.set_value(LIMIT + nth, value).expect("write");
    }
}

/// A starter in its callback, and a waiter that has no limit of its own and has read a limit of 1 ms.
struct Impatient {
    scene: Scene,
    set: kernel::Set,
    starter: Actor,
    starting: Pending,
    waiter: Actor,
    waiting: Pending,
}

fn impatient(via: Via) -> Impatient {
    let scene = scene!();
    let mut spec = scene.service("slow");
    spec.start_timeout_ms = Some(600_000);
    let starter = scene.client(&spec.clone().with_gates([START]));
    let key = starter.build_as(1, &spec);
    let starting = starter.begin_acquire(via);
    starter.event(&Event::Running(Callback::Start));
    let set = kernel::find(key).expect("the semaphore set exists");
    // The end of a start that fails included: twice the grace of 10 s, and 5 s to die.
    assert_eq!(announced_ms(&set), 600_000 + 2 * 15_000);
    announce_1_ms(&set);
    let waiter = scene.client(&spec);
    let waiting = waiter.begin_acquire(via);
    scene.wait_sleepers(key, 1);
    Impatient {
        scene,
        set,
        starter,
        starting,
        waiter,
        waiting,
    }
}

/// The default of 120 s plays no part: neither does it end a wait that may take longer, nor is it waited
/// for where a shorter time was announced.
#[test]
fn g4_waiter_gives_up_after_the_announced_limit() {
    for via in [Via::Blocking, Via::TokioMulti] {
        let it = impatient(via);
        let start = Instant::now();
        let failure = it
            .waiter
            .finish_acquire(it.waiting)
            .expect_err("the wait times out");
        assert!(start.elapsed() < Duration::from_secs(60), "{failure:?}");
        assert!(failure.text.contains("10.001s"), "{failure:?}");
        it.starter.proceed(START);
        let held = it.starter.finish_acquire(it.starting).expect("acquire");
        it.starter.release(&held);
        it.scene.assert_clean();
    }
}

/// The lock is taken before the limit is announced, so a waiter may have read an older one.
#[test]
fn g4_waiter_rereads_the_limit_before_it_gives_up() {
    for via in [Via::Blocking, Via::TokioMulti] {
        let it = impatient(via);
        it.set.set_value(LIMIT + 1, 1000).expect("write");
        // The waiter would have given up after 10 s. Its patience is what this waits for.
        std::thread::sleep(Duration::from_millis(11_500));
        assert!(!it.waiter.has_replied(&it.waiting));
        it.starter.proceed(START);
        let held = it.starter.finish_acquire(it.starting).expect("acquire");
        let joined = it.waiter.finish_acquire(it.waiting).expect("acquire");
        it.starter.release(&held);
        it.waiter.release_via(&joined, Via::Blocking);
        it.scene.assert_clean();
    }
}

/// A service that may take ten minutes to stop is waited for as long as that.
#[test]
fn g4_stop_announces_the_grace() {
    let scene = scene!();
    let mut spec = scene
        .service("slow")
        .with_gates([Gate::Before(Callback::Stop)])
        .with_stop(StopOutcome::Terminate);
    spec.stop_timeout_ms = Some(600_000);
    let stopper = scene.client(&spec);
    let key = stopper.build_as(1, &spec);
    let held = stopper.acquire_via(Via::Blocking);
    let releasing = stopper.begin(Command::Release {
        handle: held.handle,
        via: Via::Blocking,
    });
    stopper.event(&Event::Running(Callback::Stop));
    let set = kernel::find(key).expect("the semaphore set exists");
    assert_eq!(announced_ms(&set), 2 * 605_000);
    stopper.proceed(Gate::Before(Callback::Stop));
    assert_eq!(stopper.reply(releasing), Reply::Done);
    scene.assert_clean();
}

/// Who blocks its thread anyway waits on that one, is woken there, and takes over there.
#[test]
fn g4_blocking_waiter_needs_no_other_thread() {
    for dies in [false, true] {
        let scene = scene!();
        let spec = scene.service("slow");
        let starter = scene.client(&spec.clone().with_gates([START]));
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
    let mut spec = scene.service("slow").with_stop(StopOutcome::Terminate);
    spec.fake.slow_stop_ms = 1_500;
    let stopper = scene.client(&spec);
    let key = stopper.build_as(1, &spec);
    let held = stopper.acquire_via(Via::Blocking);
    let old = scene.only_instance();
    let releasing = stopper.begin(Command::Release {
        handle: held.handle,
        via: Via::Blocking,
    });
    stopper.event(&Event::Returning(Callback::Stop));
    let waiter = scene.client(&spec);
    let waiting = waiter.begin_acquire(Via::Blocking);
    scene.wait_sleepers(key, 1);
    let used = || stopper.identity().cpu_time() + waiter.identity().cpu_time();
    let before = used();
    assert!(!old.exits_within(Duration::from_millis(700)));
    let cpu = used() - before;
    assert!(cpu < Duration::from_millis(20), "{cpu:?} in 700 ms");
    assert_eq!(stopper.reply(releasing), Reply::Done);
    let held = waiter.finish_acquire(waiting).expect("acquire");
    waiter.release_via(&held, Via::Blocking);
}

/// Each client that waited learns how many starts failed meanwhile, and why the last one did.
#[test]
fn g4_error_of_a_waiter_counts_the_failed_starts() {
    for via in [Via::Blocking, Via::TokioMulti] {
        let scene = scene!();
        let fails = |reason: &str| {
            let spec = scene.service("slow").with_gates([START]);
            spec.with_starts([Outcome::Fail(reason.to_owned())])
        };
        let first = scene.client(&fails("no disk space"));
        let key = first.build_as(1, &fails("no disk space"));
        let starting = first.begin_acquire(via);
        first.event(&Event::Running(Callback::Start));
        let second = scene.client(&fails("no memory"));
        let waiting = second.begin_acquire(via);
        scene.wait_sleepers(key, 1);

        first.proceed(START);
        let alone = first.finish_acquire(starting).expect_err("the start fails");
        assert!(
            !alone.text.contains("while this client waited"),
            "{alone:?}"
        );

        second.event(&Event::Running(Callback::Start));
        let mut limited = fails("no time");
        limited.wait_timeout_ms = Some(1_000);
        let late = scene.client(&limited);
        let too_late = late
            .try_acquire(Via::Blocking)
            .expect_err("the wait times out");
        assert!(
            !too_late.text.contains("while this client waited"),
            "{too_late:?}"
        );
        let third = scene.client(&fails("no luck"));
        let last = third.begin_acquire(via);
        scene.wait_sleepers(key, 1);

        second.proceed(START);
        let told = second.finish_acquire(waiting).expect_err("the start fails");
        let words = "1 start by another client failed while this client waited";
        assert!(told.text.contains(words), "{told:?}");
        assert!(told.text.contains("no disk space") && told.text.contains("no memory"));

        third.event(&Event::Running(Callback::Start));
        third.proceed(START);
        let told = third.finish_acquire(last).expect_err("the start fails");
        assert!(told.text.contains(words), "only since it came: {told:?}");
        assert!(told.text.contains("no memory") && told.text.contains("no luck"));
        scene.assert_clean();
    }
}

/// A start that succeeds ends the row.
#[test]
fn g6_failed_start_note_is_removed_by_the_next_start() {
    let scene = scene!();
    let spec = scene.service("slow").with_gates([START]);
    let fails = spec
        .clone()
        .with_starts([Outcome::Fail("no disk space".to_owned())]);
    let first = scene.client(&fails);
    let key = first.build_as(1, &fails);
    let starting = first.begin_acquire(Via::Blocking);
    first.event(&Event::Running(Callback::Start));
    let second = scene.client(&spec);
    let waiting = second.begin_acquire(Via::Blocking);
    scene.wait_sleepers(key, 1);
    first.proceed(START);
    first.finish_acquire(starting).expect_err("the start fails");
    second.event(&Event::Running(Callback::Start));
    let note = || {
        let files = scene.files();
        files
            .into_iter()
            .filter(|it| it.extension().is_some_and(|it| it == "failed"))
            .count()
    };
    assert_eq!(note(), 1);
    second.proceed(START);
    let held = second.finish_acquire(waiting).expect("acquire");
    assert_eq!(note(), 0);
    second.release(&held);
    scene.assert_clean();
}

/// A note that nobody reads any more is a crash's, and the next client removes it.
#[test]
fn g6_failed_start_note_of_a_killed_waiter_is_removed() {
    for collected in [false, true] {
        let scene = scene!();
        let spec = scene.service("slow").with_gates([START]);
        let fails = spec
            .clone()
            .with_starts([Outcome::Fail("no disk space".to_owned())]);
        let first = scene.client(&fails);
        let key = first.build_as(1, &fails);
        let starting = first.begin_acquire(Via::Blocking);
        first.event(&Event::Running(Callback::Start));
        let second = scene.client(&spec);
        let _waiting = second.begin_acquire(Via::Blocking);
        scene.wait_sleepers(key, 1);
        first.proceed(START);
        first.finish_acquire(starting).expect_err("the start fails");
        second.event(&Event::Running(Callback::Start));
        second.kill();
        // Its supervisor removes the kernel object, and knows nothing of the note.
        deadline::until_true("its end", || !scene.exists(key));
        assert_eq!(scene.files().len(), 1, "{:?}", scene.files());
        if collected {
            let services = procref::Services::in_dir(scene.runtime_dir()).expect("open");
            services.gc_blocking().expect("gc");
        } else {
            let third = scene.client(&scene.service("slow"));
            let held = third.acquire_via(Via::Blocking);
            third.release(&held);
        }
        scene.assert_clean();
    }
}
