//! G8: a handle can be acquired, released and dropped in any context. The contexts are every
//! runtime, no runtime, a runtime that is shut down, and unwinding.
//!
//! `without_tokio.rs` runs the same suite without the library's `tokio` feature.

#![cfg(target_os = "linux")]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread;

use procref::{ServiceInfo, SharedService};
use procref_testkit::protocol::{
    Callback, Command, DropContext, Event, Gate, HealthOutcome, Outcome, Reply, StopOutcome, Via,
};
use procref_testkit::{deadline, kernel, scene};

/// Acquires in every runtime and drops in every context. The handle is always the last one, so the
/// drop must stop the service.
fn assert_drop_stops_the_service(stop: Option<StopOutcome>) {
    let scene = scene!();
    let mut spec = scene.service("anywhere").with_health(HealthOutcome::Query);
    spec.stop = stop;
    spec.stop_timeout_ms = Some(20_000);
    let client = scene.client(&spec);
    let mut rounds = 0;
    for via in Via::ALL {
        for place in DropContext::ALL {
            let held = client.acquire_via(via);
            client.drop_handle(&held, place);
            assert_eq!(scene.living(), [], "{via:?} {place:?}");
            scene.assert_clean();
            rounds += 1;
        }
    }
    assert_eq!(
        scene.stopped().len(),
        rounds,
        "each instance stopped gracefully"
    );
    let calls = if stop.is_some() { rounds } else { 0 };
    assert_eq!(scene.calls("on_last_release"), calls);
}

#[test]
fn g8_last_handle_dropped_anywhere_stops_the_service() {
    assert_drop_stops_the_service(None);
}

#[test]
fn g8_last_handle_dropped_anywhere_runs_the_stop_callback() {
    assert_drop_stops_the_service(Some(StopOutcome::Terminate));
}

#[test]
fn g8_handle_dropped_anywhere_leaves_a_held_service_running() {
    let scene = scene!();
    let spec = scene.service("shared").with_stop(StopOutcome::Terminate);
    let (one, two) = (scene.client(&spec), scene.client(&spec));
    let held = one.acquire();
    for place in DropContext::ALL {
        let other = two.acquire();
        assert_eq!(one.count(), 2);
        two.drop_handle(&other, place);
        assert_eq!(one.count(), 1, "{place:?}");
    }
    assert_eq!(scene.calls("on_last_release"), 0);
    one.release(&held);
}

#[test]
fn g8_handle_is_released_in_any_runtime() {
    let scene = scene!();
    let spec = scene.service("anywhere").with_stop(StopOutcome::Terminate);
    let client = scene.client(&spec);
    for acquire in Via::ALL {
        for release in Via::ALL {
            let held = client.acquire_via(acquire);
            client.release_via(&held, release);
            scene.assert_clean();
        }
    }
    assert_eq!(scene.stopped().len(), 25);
}

/// The thread that drops a handle may belong to an executor, and a callback may block.
#[test]
fn g8_stop_callback_does_not_run_on_the_dropping_thread() {
    let scene = scene!();
    let (healthy, in_on_ready) = (Arc::new(AtomicBool::new(true)), AtomicBool::new(false));
    let in_on_ready = Arc::new(in_on_ready);
    let stopped_by = Arc::new(Mutex::new(Vec::new()));
    let own = || async { Ok(ServiceInfo::new(std::process::id(), 0)) };
    let (health, recovery) = (Arc::clone(&healthy), Arc::clone(&healthy));
    let (enter_on_ready, stops) = (Arc::clone(&in_on_ready), Arc::clone(&stopped_by));
    let service = SharedService::builder("hosted here")
        .base_dir(scene.runtime_dir())
        .on_first_acquire(own)
        .on_health_check(move |_| std::future::ready(health.load(Ordering::SeqCst)))
        .on_recover(move |_| {
            recovery.store(true, Ordering::SeqCst);
            enter_on_ready.store(true, Ordering::SeqCst);
            own()
        })
        .on_last_release(move |_| {
            stops
                .lock()
                .expect("no thread has panicked")
                .push(thread::current().id());
            std::future::ready(Ok(()))
        });
    let enter_on_ready = Arc::clone(&in_on_ready);
    let service = service
        .on_ready(move |_| {
            let hangs = enter_on_ready.load(Ordering::SeqCst);
            async move {
                match hangs {
                    true => std::future::pending().await,
                    false => Ok(()),
                }
            }
        })
        .build()
        .expect("build");
    let stopped_by = || stopped_by.lock().expect("no thread has panicked").clone();

    // Drop the last handle.
    drop(service.acquire_blocking().expect("acquire"));
    assert_eq!(stopped_by().len(), 1);

    // Cancel a recovery while another handle exists.
    let handle = service.acquire_blocking().expect("acquire");
    healthy.store(false, Ordering::SeqCst);
    {
        let mut acquiring = pin!(service.acquire());
        deadline::until_true("on_ready runs for the recovered instance", || {
            let mut context = Context::from_waker(Waker::noop());
            assert!(acquiring.as_mut().poll(&mut context).is_pending());
            in_on_ready.load(Ordering::SeqCst)
        });
    }
    deadline::until_true("the recovered instance is stopped", || {
        stopped_by().len() == 2
    });
    assert!(!stopped_by().contains(&thread::current().id()));
    drop(handle);
    // Another thread finishes the cancelled recovery, and that thread may release last.
    let key = kernel::parse_key(&service.kernel_object());
    deadline::until_true("the set and the files are gone", || {
        kernel::find(key).is_none() && scene.files().is_empty()
    });
}

#[test]
fn g8_stop_callback_panic_in_an_unwinding_drop_does_not_abort() {
    let scene = scene!();
    let spec = scene.service("doubly").with_stop_timeout_ms(100);
    let client = scene.client(&spec.with_stop(StopOutcome::Panic));
    // A second panic during unwinding would abort the process.
    for place in DropContext::ALL {
        let held = client.acquire();
        client.drop_handle(&held, place);
        scene.assert_clean();
    }
    assert_eq!(scene.calls("on_last_release"), DropContext::ALL.len());
}

#[test]
fn g8_hanging_stop_callback_does_not_block_the_drop() {
    let scene = scene!();
    let spec = scene.service("hanging").with_stop_timeout_ms(50);
    let spec = spec.with_gates([Gate::Before(Callback::Stop)]);
    let client = scene.client(&spec.with_stop(StopOutcome::Terminate));
    for place in DropContext::ALL {
        let held = client.acquire();
        client.drop_handle(&held, place);
        scene.assert_clean();
    }
}

/// Asserts that the only thread of the runtime runs another task while a command of this client
/// waits.
#[track_caller]
fn assert_executor_runs(client: &procref_testkit::Actor) {
    for _ in 0..3 {
        client.proceed(Gate::Tick);
        client.event(&Event::Ticked);
    }
}

#[test]
fn g8_wait_for_another_start_blocks_no_executor() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let spec = scene.service("slow");
    let (starter, key, starting) = scene.client_at_gate(&spec, gate, Via::TokioCurrent);
    let waiter = scene.client(&spec);
    assert_executor_runs(&starter);
    let waiting = waiter.begin_acquire(Via::TokioCurrent);
    scene.wait_sleepers(key, 1);
    assert_executor_runs(&waiter);
    starter.proceed(gate);
    let held = starter.finish_acquire(starting).expect("acquire");
    let joined = waiter.finish_acquire(waiting).expect("acquire");
    starter.release(&held);
    waiter.release(&joined);
}

#[test]
fn g8_wait_for_a_stop_blocks_no_executor() {
    let scene = scene!();
    // The service ignores SIGTERM, so the test decides when the service exits.
    let mut spec = scene.service("slow").with_stop_timeout_ms(60_000);
    spec.fake.ignore_sigterm = true;
    let client = scene.client(&spec);
    let held = client.acquire_via(Via::TokioCurrent);
    let service = scene.only_instance();
    let key = client.build_as(1, &spec);
    let releasing = client.begin(Command::Release {
        handle: held.handle,
        via: Via::TokioCurrent,
    });
    // The stop has the lock now. The thread must be free before and after that.
    procref_testkit::deadline::until_true("the stop begins", || {
        kernel::find(key).is_some_and(|set| set.value(1).is_ok_and(|lock| lock > 0))
    });
    assert_executor_runs(&client);
    assert!(!client.has_replied(&releasing));
    service.kill();
    assert_eq!(client.reply(releasing), Reply::Done);
}

#[test]
fn g8_stop_of_an_unhealthy_instance_blocks_no_executor() {
    let scene = scene!();
    let mut spec = scene.service("slow").with_stop_timeout_ms(60_000);
    spec.fake.ignore_sigterm = true;
    let client = scene.client(&spec.with_health(HealthOutcome::Query));
    let held = client.acquire();
    let old = scene.only_instance();
    scene.make_unhealthy(old.pid);
    let acquiring = client.begin_acquire(Via::TokioCurrent);
    client.event(&Event::Running(Callback::Health));
    client.event(&Event::Running(Callback::Health));
    assert_executor_runs(&client);
    assert!(!client.has_replied(&acquiring));
    old.kill();
    let new = client.finish_acquire(acquiring).expect("acquire");
    assert_ne!(new.got.pid, old.pid);
    scene.only_instance().kill();
    client.release(&held);
    client.release(&new);
}

#[test]
fn waiters_of_a_process_share_one_thread() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let spec = scene.service("slow");
    let (starter, key, starting) = scene.client_at_gate(&spec, gate, Via::TokioMulti);
    let many = scene.client(&spec);
    let before = many.identity().threads();
    let waiting = many.begin(Command::AcquireMany {
        service: 0,
        count: 60,
    });
    scene.wait_sleepers(key, 1);
    // The command has two separate threads, and another thread waits.
    let threads = many.identity().threads();
    assert!(threads <= before + 4, "{threads} threads, {before} before");
    starter.proceed(gate);
    let held = starter.finish_acquire(starting).expect("acquire");
    assert_eq!(many.reply(waiting), Reply::Count(60));
    assert_eq!(starter.count(), 1);
    starter.release(&held);
}

#[test]
fn g9_failed_starts_in_any_runtime_permit_the_next_start() {
    let scene = scene!();
    for via in Via::ALL {
        let outcomes = [
            Outcome::Panic,
            Outcome::Fail("no".to_owned()),
            Outcome::Serve,
        ];
        let client = scene.client(&scene.service("third").with_starts(outcomes));
        for _ in 0..2 {
            let pending = client.begin_acquire(via);
            let reply = client.reply(pending);
            let bad = matches!(reply, Reply::Failed(_) | Reply::Panicked(_));
            assert!(bad, "{via:?}: {reply:?}");
        }
        let held = client.acquire_via(via);
        client.release_via(&held, via);
    }
}
