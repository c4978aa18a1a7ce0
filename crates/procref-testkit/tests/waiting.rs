//! A client that waits for a start uses no CPU time, and does not wait longer than the start takes.

#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use procref_testkit::actor::Pending;
use procref_testkit::protocol::{
    Callback, Command, Event, Gate, HealthOutcome, Outcome, Reply, StopOutcome, Via,
};
use procref_testkit::{Actor, Scene, deadline, kernel, scene};

const WAITERS: usize = 100;

/// Maximum time from the return of the starter's callback until the last waiter has its handle.
const MAX_LATENCY: Duration = Duration::from_millis(100);

/// Maximum CPU time that all waiters together may use in [`WATCHED`]. If each waiter polled every
/// 10 ms, thousands of wakeups would use far more than this.
const MAX_CPU: Duration = Duration::from_millis(50);
const WATCHED: Duration = Duration::from_millis(1500);

/// Number of attempts. A library that polls exceeds the bounds in every attempt, a busy machine
/// only in some of them.
const ATTEMPTS: usize = 5;

const START: Gate = Gate::Before(Callback::Start);

/// Returns the CPU time that `WAITERS` sleeping processes used, and the time from readiness until
/// the last of them returned.
fn measure_waiters(via: Via) -> (Duration, Duration) {
    let scene = scene!();
    let spec = scene.service("slow");
    let (starter, key, starting) = scene.client_at_gate(&spec, START, via);

    let waiters = scene.clients(WAITERS, &spec);
    let waiting: Vec<_> = waiters.iter().map(|it| it.begin_acquire(via)).collect();
    scene.wait_sleepers(key, u32::try_from(WAITERS).expect("the number is small"));
    let used = || -> Duration { waiters.iter().map(|it| it.identity().cpu_time()).sum() };

    // This sleep orders no events. It is the time in which nothing may happen.
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

fn assert_waiters_within_bounds(via: Via) {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let (cpu, latency) = measure_waiters(via);
        seen.push((cpu, latency));
        if cpu <= MAX_CPU && latency <= MAX_LATENCY {
            return;
        }
    }
    panic!(
        "{WAITERS} waiters via {via:?}: CPU within {WATCHED:?} (at most {MAX_CPU:?}) and time to \
         return (at most {MAX_LATENCY:?}), in {ATTEMPTS} attempts: {seen:?}"
    );
}

/// This is one test and not several, because several tests would disturb each other's measurements.
#[test]
fn g4_hundred_waiters_use_no_cpu_and_return_promptly() {
    assert_waiters_within_bounds(Via::Pollster);
    assert_waiters_within_bounds(Via::Blocking);
    assert_no_cpu_used_during_a_stop();
}

/// First of the two slots of the limit. It has the lowest bits.
const LIMIT: usize = 28;
const LIMIT_BITS: u32 = 15;

fn announced_ms(set: &kernel::Set) -> u32 {
    let slot = |nth| set.value(LIMIT + nth).expect("read a semaphore");
    slot(0) | slot(1) << LIMIT_BITS
}

/// Writes a limit of 1 ms, to stand for a start that takes minutes. The limit expires immediately, and a
/// waiter only waits for the margin of 10 s.
fn announce_1_ms(set: &kernel::Set) {
    for (nth, value) in [1, 0].into_iter().enumerate() {
        set.set_value(LIMIT + nth, value).expect("write");
    }
}

/// A starter in its callback, and a waiter that has no limit set and has read a limit of 1 ms.
struct LimitedWait {
    scene: Scene,
    set: kernel::Set,
    starter: Actor,
    starting: Pending,
    waiter: Actor,
    waiting: Pending,
}

fn limited_wait(via: Via) -> LimitedWait {
    let scene = scene!();
    let mut spec = scene.service("slow");
    spec.start_timeout_ms = Some(600_000);
    let (starter, key, starting) = scene.client_at_gate(&spec, START, via);
    let set = kernel::find(key).expect("the semaphore set exists");
    // The limit includes the stop of a failed start: twice the grace of 10 s and 5 s to die.
    assert_eq!(announced_ms(&set), 600_000 + 2 * 15_000);
    announce_1_ms(&set);
    let waiter = scene.client(&spec);
    let waiting = waiter.begin_acquire(via);
    scene.wait_sleepers(key, 1);
    LimitedWait {
        scene,
        set,
        starter,
        starting,
        waiter,
        waiting,
    }
}

/// The default limit of 120 s does not apply if the starter has announced a limit. It neither ends
/// a longer wait nor extends a shorter one.
#[test]
fn g4_waiter_gives_up_after_the_announced_limit() {
    for via in [Via::Blocking, Via::TokioMulti] {
        let it = limited_wait(via);
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

/// The starter takes the lock before it announces its limit, so a waiter may have read an older
/// limit.
#[test]
fn g4_waiter_rereads_the_limit_before_it_gives_up() {
    for via in [Via::Blocking, Via::TokioMulti] {
        let it = limited_wait(via);
        it.set.set_value(LIMIT + 1, 1000).expect("write");
        // Wait longer than 10 s. With the old limit, the waiter's time would be up before that.
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

/// Clients wait for a stop as long as the announced grace, for example ten minutes.
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

/// A client that blocks its thread waits on that thread, wakes there, and takes over there.
#[test]
fn g4_blocking_waiter_needs_no_other_thread() {
    for dies in [false, true] {
        let scene = scene!();
        let spec = scene.service("slow");
        let (starter, key, starting) = scene.client_at_gate(&spec, START, Via::Blocking);
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

/// Asserts that two processes use no CPU time during a stop: the client that stops the service, and
/// a client that waits to acquire it.
fn assert_no_cpu_used_during_a_stop() {
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

/// The error of a client that waited states how many starts failed while it waited, and why the
/// last of them failed.
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
        let failure = second.finish_acquire(waiting).expect_err("the start fails");
        let text = "1 start by another client failed while this client waited";
        assert!(failure.text.contains(text), "{failure:?}");
        assert!(failure.text.contains("no disk space") && failure.text.contains("no memory"));

        third.event(&Event::Running(Callback::Start));
        third.proceed(START);
        let failure = third.finish_acquire(last).expect_err("the start fails");
        assert!(
            failure.text.contains(text),
            "only starts since the client came count: {failure:?}"
        );
        assert!(failure.text.contains("no memory") && failure.text.contains("no luck"));
        scene.assert_clean();
    }
}

/// Lets a start fail while another client waits. Returns the key of the service, the client that
/// waited and is now in its start callback, and its pending acquire.
fn starter_after_a_failed_start(scene: &Scene) -> (i32, Actor, Pending) {
    let spec = scene.service("slow");
    let fails = spec
        .clone()
        .with_starts([Outcome::Fail("no disk space".to_owned())]);
    let (first, key, starting) = scene.client_at_gate(&fails, START, Via::Blocking);
    let second = scene.client(&spec.with_gates([START]));
    let waiting = second.begin_acquire(Via::Blocking);
    scene.wait_sleepers(key, 1);
    first.proceed(START);
    first.finish_acquire(starting).expect_err("the start fails");
    second.event(&Event::Running(Callback::Start));
    (key, second, waiting)
}

/// A start that succeeds ends the series of failed starts.
#[test]
fn g6_failed_start_note_is_removed_by_the_next_start() {
    let scene = scene!();
    let (_, second, waiting) = starter_after_a_failed_start(&scene);
    let notes = || {
        let files = scene.files();
        files
            .into_iter()
            .filter(|it| it.extension().is_some_and(|it| it == "failed"))
            .count()
    };
    assert_eq!(notes(), 1);
    second.proceed(START);
    let held = second.finish_acquire(waiting).expect("acquire");
    assert_eq!(notes(), 0);
    second.release(&held);
    scene.assert_clean();
}

/// The waiter is killed before it has a supervisor. The next client removes the note.
#[test]
fn g6_failed_start_note_of_a_killed_waiter_is_removed() {
    for collected in [false, true] {
        let scene = scene!();
        let spec = scene.service("slow");
        let fails = spec
            .clone()
            .with_starts([Outcome::Fail("no disk space".to_owned())]);
        let (first, key, starting) = scene.client_at_gate(&fails, START, Via::Blocking);
        let second = scene.actor_crashing_at("Entered");
        second.build(&spec);
        let _waiting = second.begin_acquire(Via::Blocking);
        scene.wait_sleepers(key, 1);
        first.proceed(START);
        first.finish_acquire(starting).expect_err("the start fails");
        second.identity().wait_exit();
        assert_eq!(scene.files().len(), 1, "{:?}", scene.files());
        if collected {
            let services = procref::Services::in_dir(scene.runtime_dir()).expect("open");
            services.gc_blocking().expect("gc");
        }
        // `gc` does not remove a set that no client has claimed.
        let third = scene.client(&spec);
        let held = third.acquire_via(Via::Blocking);
        assert_eq!(scene.files(), scene.records());
        third.release(&held);
        scene.assert_clean();
    }
}

/// The waiter of a failed start starts the service itself and is killed. The supervisor removes the note with the set.
#[test]
fn g6_failed_start_note_is_removed_by_the_supervisor() {
    let scene = scene!();
    let (key, second, _waiting) = starter_after_a_failed_start(&scene);
    second.kill();
    deadline::until_true("the supervisor has removed the set", || !scene.exists(key));
    scene.assert_clean();
}

/// A recovery fails while another client waits, and that client is cancelled. The note stays while the service is
/// in use. The last client removes it, or the supervisor if the last client was killed.
#[test]
fn g6_failed_recovery_note_is_removed_with_the_service() {
    const RECOVERY: Gate = Gate::Before(Callback::Recover);
    for killed in [false, true] {
        let scene = scene!();
        let spec = scene.service("ill");
        let holder = scene.client(&spec);
        let key = holder.build_as(1, &spec);
        let held = holder.acquire();
        let ill = spec
            .with_health(HealthOutcome::Always(false))
            .with_recoveries([Outcome::Fail("no disk space".to_owned())]);
        let client = scene.client(&ill.clone().with_gates([RECOVERY]));
        let recovering = client.begin_acquire(Via::TokioMulti);
        client.event(&Event::Running(Callback::Recover));
        let waiter = scene.client(&ill);
        let waiting = waiter.begin_acquire(Via::TokioMulti);
        scene.wait_sleepers(key, 1);
        assert!(waiter.cancel(waiting));
        client.proceed(RECOVERY);
        client
            .finish_acquire(recovering)
            .expect_err("the recovery fails");
        scene.assert_free(key, 1);
        let notes = || scene.files().len() - scene.records().len();
        assert_eq!(notes(), 1, "{:?}", scene.files());
        if killed {
            holder.kill();
        } else {
            holder.release(&held);
        }
        deadline::until_true("the set is removed", || !scene.exists(key));
        scene.assert_clean();
    }
}
