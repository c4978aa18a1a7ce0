//! A pinned service runs without clients until it is unpinned. Then it stops like any other
//! service.

#![cfg(target_os = "linux")]

use procref_testkit::observe::supervisors_of;
use procref_testkit::protocol::{
    Callback, Command, Event, Gate, Outcome, Reply, ServiceSpec, StopOutcome, Variant, Via,
};
use procref_testkit::{Actor, Scene, deadline, kernel, scene};

/// Describes a service whose name is unique among all tests, so that its supervisor can be found.
fn unique_service(scene: &Scene) -> ServiceSpec {
    scene.unique(scene.service("pinned"))
}

/// Starts and pins the service. Then the client releases its handle or is killed.
fn leave_pinned(scene: &Scene, spec: &ServiceSpec, killed: bool) -> i32 {
    let client = scene.actor();
    let key = client.build(spec);
    let held = client.acquire();
    client.pin(&held);
    client.pin(&held);
    if killed {
        client.kill();
    } else {
        client.release(&held);
    }
    key
}

fn kill_supervisor(spec: &ServiceSpec) {
    for supervisor in supervisors_of(&spec.name) {
        supervisor.kill();
        supervisor.wait_exit();
    }
}

#[test]
fn pinned_service_outlives_its_clients_and_is_adopted() {
    for killed in [false, true] {
        let scene = scene!();
        let spec = unique_service(&scene).with_stop(StopOutcome::Terminate);
        let key = leave_pinned(&scene, &spec, killed);
        let service = scene.only_instance();
        let adopters = scene.clients(3, &spec);
        assert!(adopters[0].status().pinned);
        assert_eq!(adopters[0].status().clients, 0);
        let held: Vec<_> = adopters.iter().map(Actor::acquire).collect();
        for held in &held {
            assert_eq!((held.got.pid, held.got.generation), (service.pid, 1));
        }
        for (adopter, held) in adopters.iter().zip(&held) {
            adopter.release(held);
        }
        assert!(service.is_live());
        assert!(kernel::find(key).is_some());
        assert_eq!(scene.calls("on_last_release"), 0);
        assert!(adopters[1].unpin(Via::TokioMulti));
        scene.assert_clean();
        assert_eq!(scene.calls("on_last_release"), 1);
        assert!(!adopters[1].unpin(Via::TokioMulti));
    }
}

#[test]
fn unpin_stops_a_service_without_clients() {
    for via in Via::ALL {
        for (keep_orphans, kill) in [(false, false), (false, true), (true, false)] {
            let scene = scene!();
            let mut spec = unique_service(&scene).with_stop(StopOutcome::Terminate);
            spec.keep_orphan = keep_orphans;
            leave_pinned(&scene, &spec, true);
            let service = scene.only_instance();
            if kill {
                kill_supervisor(&spec);
            }
            let client = scene.client(&spec);
            assert!(client.unpin(via));
            // `unpin` has waited until the service exited.
            scene.assert_clean();
            assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
            assert_eq!(scene.calls("on_last_release"), 1);
            deadline::until_true("the supervisor exits", || {
                supervisors_of(&spec.name).is_empty()
            });
        }
    }
}

#[test]
fn unpin_leaves_a_held_service_running() {
    let scene = scene!();
    let spec = unique_service(&scene);
    let holder = scene.client(&spec);
    let held = holder.acquire();
    holder.pin(&held);
    let other = scene.client(&spec);
    assert!(other.unpin(Via::Blocking));
    assert!(!other.unpin(Via::Smol));
    assert_eq!((holder.count(), holder.status().pinned), (1, false));
    // The holder itself can unpin, too.
    holder.pin(&held);
    assert!(holder.unpin(Via::Pollster));
    assert!(!holder.unpin(Via::Pollster));
    assert_eq!((holder.count(), holder.status().pinned), (1, false));
    holder.release(&held);
    scene.assert_clean();
}

#[test]
fn unpin_without_a_service_returns_false_and_creates_none() {
    let scene = scene!();
    let client = scene.actor();
    let key = client.build(&scene.service("none"));
    for via in Via::ALL {
        assert!(!client.unpin(via));
    }
    assert_eq!(kernel::find(key), None);
}

/// An `unpin` without a pin must not stop an orphan.
#[test]
fn unpin_of_an_unpinned_orphan_changes_nothing() {
    let scene = scene!();
    let spec = scene.service("orphan").with_orphans_kept();
    let one = scene.client(&spec);
    one.acquire();
    let service = scene.only_instance();
    one.kill();
    let two = scene.client(&spec);
    assert!(!two.unpin(Via::TokioMulti));
    assert!(service.is_live());
    let held = two.acquire();
    two.release(&held);
}

#[test]
fn dead_pinned_instance_is_replaced_and_stays_pinned() {
    let scene = scene!();
    let spec = unique_service(&scene);
    let key = leave_pinned(&scene, &spec, true);
    let service = scene.kill_only_instance();
    let client = scene.client(&spec);
    assert_eq!(client.status().state, "Dead");
    let held = client.acquire();
    assert_ne!(held.got.pid, service.pid);
    assert_eq!(held.got.generation, 2);
    client.release(&held);
    assert!(scene.only_instance().is_live());
    assert!(kernel::find(key).is_some());
    assert!(client.unpin(Via::TokioMulti));
    scene.assert_clean();
}

/// The pin belongs to the service and not to an instance. It stays after a failed restart, and ends
/// with `unpin`.
#[test]
fn failed_restart_keeps_the_pin_without_an_instance() {
    let scene = scene!();
    let spec = unique_service(&scene);
    let key = leave_pinned(&scene, &spec, true);
    scene.kill_only_instance();
    let failing = spec.clone().with_starts([Outcome::Fail("no".to_owned())]);
    let client = scene.client(&failing);
    client
        .try_acquire(Via::TokioMulti)
        .expect_err("the callback fails");
    assert!(client.status().pinned);
    assert_eq!(client.count(), 0);
    assert!(client.unpin(Via::TokioMulti));
    assert_eq!(kernel::find(key), None);
    scene.assert_clean();
}

#[test]
fn g3_supervisor_of_a_pinned_service_stays_until_it_stops_it() {
    let scene = scene!();
    let spec = unique_service(&scene);
    let key = leave_pinned(&scene, &spec, true);
    let supervisors = supervisors_of(&spec.name);
    assert_eq!(supervisors.len(), 1);
    let client = scene.client(&spec);
    let held = client.acquire();
    assert_eq!(supervisors_of(&spec.name), supervisors);
    assert!(client.unpin(Via::Blocking));
    client.kill();
    assert_eq!(held.got.generation, 1);
    deadline::until_true("the supervisor has stopped the service", || {
        scene.living().is_empty() && kernel::find(key).is_none() && scene.files().is_empty()
    });
    scene.assert_clean();
}

#[test]
fn linger_begins_when_the_service_is_unpinned() {
    let scene = scene!();
    let spec = unique_service(&scene).with_linger_ms(500);
    leave_pinned(&scene, &spec, false);
    let service = scene.only_instance();
    // Wait longer than the linger time, because a pin must have no time limit.
    assert!(!service.exits_within(std::time::Duration::from_millis(900)));
    let client = scene.client(&spec);
    assert!(client.unpin(Via::TokioMulti));
    assert!(service.is_live(), "the service lingers");
    service.wait_exit();
    deadline::until_true("the files and the supervisor are gone", || {
        scene.files().is_empty() && supervisors_of(&spec.name).is_empty()
    });
}

#[test]
fn unpin_waits_for_a_transition() {
    let scene = scene!();
    let spec = unique_service(&scene);
    let key = leave_pinned(&scene, &spec, true);
    scene.kill_only_instance();
    let start = Gate::Before(Callback::Start);
    let (starter, _, starting) = scene.client_at_gate(&spec, start, Via::TokioMulti);
    let other = scene.client(&spec);
    let unpinning = other.begin(Command::Unpin {
        service: 0,
        via: Via::TokioCurrent,
    });
    scene.wait_sleepers(key, 1);
    starter.proceed(start);
    let held = starter.finish_acquire(starting).expect("acquire");
    assert_eq!(other.reply(unpinning), Reply::Flag(true));
    assert_eq!((starter.count(), starter.status().pinned), (1, false));
    starter.release(&held);
    scene.assert_clean();
}

/// If the client that unpins dies or is cancelled in the middle of the stop, the service is stopped
/// anyway.
#[test]
fn g3_interrupted_stop_by_unpin_is_finished() {
    for killed in [false, true] {
        let scene = scene!();
        let before = Gate::Before(Callback::Stop);
        let spec = unique_service(&scene)
            .with_stop(StopOutcome::Terminate)
            .with_gates([before]);
        let key = leave_pinned(&scene, &spec, true);
        let client = scene.client(&spec);
        let unpinning = client.begin(Command::Unpin {
            service: 0,
            via: Via::TokioMulti,
        });
        client.event(&Event::Running(Callback::Stop));
        if killed {
            client.kill();
        } else {
            assert!(client.cancel(unpinning));
            client.proceed(before);
        }
        deadline::until_true("the service is stopped and removed", || {
            scene.living().is_empty() && kernel::find(key).is_none() && scene.files().is_empty()
        });
        scene.assert_clean();
    }
}

/// The last client releases and relies on the pin while another process removes the pin. One of
/// them must stop the service, because there is no supervisor.
#[test]
fn g6_release_and_unpin_at_once_leave_nothing() {
    let scene = scene!();
    let spec = scene.service("raced").with_orphans_kept();
    let (holder, other) = (scene.client(&spec), scene.client(&spec));
    for round in 0..60 {
        let held = holder.acquire();
        holder.pin(&held);
        let release = || {
            holder.begin(Command::Release {
                handle: held.handle,
                via: Via::Pollster,
            })
        };
        let unpin = || {
            other.begin(Command::Unpin {
                service: 0,
                via: Via::Pollster,
            })
        };
        let (releasing, unpinning) = if round % 2 == 0 {
            (release(), unpin())
        } else {
            let unpinning = unpin();
            (release(), unpinning)
        };
        assert_eq!(holder.reply(releasing), Reply::Done);
        assert_eq!(other.reply(unpinning), Reply::Flag(true));
        scene.assert_clean();
    }
    assert_eq!(scene.started().len(), 60);
}

#[test]
fn g8_forked_child_cannot_pin() {
    let scene = scene!();
    let client = scene.client(&scene.service("forked"));
    let held = client.acquire();
    let child = client.fork();
    let pin = Command::Pin {
        handle: held.handle,
    };
    match child.call(pin) {
        Reply::Failed(failure) => {
            assert_eq!(failure.variant, Some(Variant::NoReference), "{failure:?}");
            assert!(failure.text.contains("forked child"), "{failure:?}");
        }
        reply => panic!("{reply:?}"),
    }
    assert!(!client.status().pinned);
    client.release(&held);
}

#[test]
fn handle_whose_set_was_removed_cannot_pin() {
    let scene = scene!();
    let client = scene.actor();
    let key = client.build(&scene.service("removed"));
    let held = client.acquire();
    let set = kernel::find(key).expect("the semaphore set exists");
    set.remove().expect("remove");
    let pin = Command::Pin {
        handle: held.handle,
    };
    match client.call(pin) {
        Reply::Failed(failure) => {
            assert_eq!(failure.variant, Some(Variant::NoReference), "{failure:?}");
            assert!(
                failure.text.contains("acquire the service again"),
                "{failure:?}"
            );
        }
        reply => panic!("{reply:?}"),
    }
    // This acquire cleans up what the removed set has left.
    let other = scene.client(&scene.service("removed"));
    let again = other.acquire();
    other.release(&again);
    client.release(&held);
}
