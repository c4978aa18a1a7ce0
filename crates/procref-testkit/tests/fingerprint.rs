//! A client states the fingerprint that it wants. Depending on its mismatch policy, it gets an instance with
//! that fingerprint, an error, or the running instance.

#![cfg(target_os = "linux")]

use std::fs;

use procref_testkit::observe::supervisors_of;
use procref_testkit::protocol::{
    Callback, Command, Failure, Gate, HealthOutcome, Mismatch, Outcome, Reply, ServiceSpec,
    Variant, Via,
};
use procref_testkit::{Actor, Scene, deadline, kernel, scene};

/// Describes the service with a fingerprint that must match.
fn strict(scene: &Scene, fingerprint: &str) -> ServiceSpec {
    scene
        .service("tool")
        .with_fingerprint(fingerprint, Mismatch::Refuse)
}

/// Asserts that the error names both fingerprints and a remedy.
#[track_caller]
fn assert_refused(failure: &Failure, ours: &str, theirs: Option<&str>, pid: u32) {
    assert_eq!(failure.variant, Some(Variant::Fingerprint), "{failure:?}");
    let theirs = match theirs {
        Some(theirs) => format!("process {pid} runs with fingerprint {theirs:?}"),
        None => format!("process {pid} runs without a fingerprint"),
    };
    let wants = format!("wants {ours:?}");
    for part in ["service `tool`", &theirs, &wants, "Mismatch::Join"] {
        assert!(failure.text.contains(part), "{part}: {failure:?}");
    }
}

#[test]
fn fingerprint_mismatch_is_refused_by_every_join() {
    let scene = scene!();
    let one = scene.client(&strict(&scene, "v1"));
    let held = one.acquire();
    let pid = held.got.pid;
    let two = scene.client(&strict(&scene, "v2"));
    for via in Via::ALL {
        let failure = two.try_acquire(via).expect_err("the fingerprints differ");
        assert_refused(&failure, "v2", Some("v1"), pid);
    }
    let failure = two.try_join().expect_err("the fingerprints differ");
    assert_refused(&failure, "v2", Some("v1"), pid);
    assert_eq!((one.count(), scene.started().len()), (1, 1));

    // The same applies to a process that already holds the service.
    one.build_as(1, &strict(&scene, "v2"));
    for via in Via::ALL {
        let pending = one.begin_acquire_of(1, via);
        let failure = one
            .finish_acquire(pending)
            .expect_err("the fingerprints differ");
        assert_refused(&failure, "v2", Some("v1"), pid);
    }
    let joining = Command::TryJoin {
        service: 1,
        handle: 999,
        via: Via::Pollster,
    };
    match one.call(joining) {
        Reply::Failed(failure) => assert_refused(&failure, "v2", Some("v1"), pid),
        reply => panic!("{reply:?}"),
    }

    // A client with the same fingerprint joins.
    let same = scene.client(&strict(&scene, "v1"));
    let joined = same.acquire();
    assert_eq!(joined.got.pid, pid);
    same.release(&joined);
    one.release(&held);
    scene.assert_clean();
    let held = two.acquire();
    assert_eq!(scene.started().len(), 2);
    two.release(&held);
}

#[test]
fn fingerprint_mismatch_is_refused_after_waiting_for_a_start() {
    let scene = scene!();
    let start = Gate::Before(Callback::Start);
    let spec = strict(&scene, "v1");
    let (starter, key, starting) = scene.client_at_gate(&spec, start, Via::TokioMulti);
    let two = scene.client(&strict(&scene, "v2"));
    let waiting = two.begin_acquire(Via::TokioMulti);
    scene.wait_sleepers(key, 1);
    starter.proceed(start);
    let held = starter.finish_acquire(starting).expect("acquire");
    let failure = two
        .finish_acquire(waiting)
        .expect_err("the fingerprints differ");
    assert_refused(&failure, "v2", Some("v1"), held.got.pid);
    assert_eq!(starter.count(), 1);
    starter.release(&held);
}

#[test]
fn instance_without_fingerprint_or_record_is_refused() {
    let scene = scene!();
    let plain = scene.client(&scene.service("tool"));
    let held = plain.acquire();
    let spec = strict(&scene, "v1");
    let strict_client = scene.client(&spec);
    let failure = strict_client
        .try_acquire(Via::Smol)
        .expect_err("the instance has no fingerprint");
    assert_refused(&failure, "v1", None, held.got.pid);
    plain.release(&held);

    let held = strict_client.acquire();
    for file in scene.files() {
        fs::remove_file(file).expect("remove the record");
    }
    // A client that has read the record once does not need it any more.
    let again = strict_client.acquire();
    strict_client.release(&again);
    let other = scene.client(&spec);
    let failure = other
        .try_acquire(Via::Blocking)
        .expect_err("the fingerprint is unknown");
    assert_refused(&failure, "v1", None, held.got.pid);
    let joined = plain.acquire();
    plain.release(&joined);
    strict_client.release(&held);
}

#[test]
fn client_without_fingerprint_or_with_join_joins_any_instance() {
    let scene = scene!();
    let one = scene.client(&strict(&scene, "v1"));
    let held = one.acquire();
    for spec in [
        scene.service("tool"),
        scene.service("tool").with_fingerprint("v2", Mismatch::Join),
    ] {
        let other = scene.client(&spec);
        let joined = other.acquire();
        assert_eq!(joined.got.pid, held.got.pid);
        let again = other.try_join().expect("join").expect("the service runs");
        assert_eq!(one.count(), 2);
        other.release(&again);
        other.release(&joined);
    }
    one.release(&held);
    assert_eq!(scene.started().len(), 1);
}

#[test]
fn separate_instances_run_side_by_side_under_one_name() {
    let scene = scene!();
    let name = format!("tool {}", scene.root().display());
    let of = |fingerprint: &str| {
        let mut spec = scene
            .service(&name)
            .with_fingerprint(fingerprint, Mismatch::Separate)
            .with_health(HealthOutcome::Query);
        // Each fingerprint has its own witness, because this test wants two instances.
        spec.fake.witness = scene.root().join(format!("witness of {fingerprint}"));
        spec
    };
    let clients: Vec<_> = ["v1", "v2"]
        .into_iter()
        .map(|fingerprint| {
            let pair = [scene.actor(), scene.actor()];
            let keys = pair.each_ref().map(|it| it.build(&of(fingerprint)));
            assert_eq!(keys[0], keys[1]);
            (keys[0], pair)
        })
        .collect();
    let plain = scene.actor();
    let mut spec = scene.service(&name);
    spec.fake.witness = scene.root().join("witness of none");
    let key = plain.build(&spec);
    assert!(clients.iter().all(|(other, _)| *other != key));
    assert_ne!(clients[0].0, clients[1].0);

    let held: Vec<_> = clients
        .iter()
        .map(|(_, pair)| pair.each_ref().map(Actor::acquire))
        .collect();
    let pids: Vec<_> = held
        .iter()
        .map(|[one, two]| {
            assert_eq!(one.got.pid, two.got.pid);
            one.got.pid
        })
        .collect();
    assert_ne!(pids[0], pids[1]);
    assert_eq!(plain.try_join(), Ok(None));
    assert_eq!(plain.count(), 0);
    assert_eq!((scene.living().len(), scene.files().len()), (2, 2));
    assert_eq!(
        supervisors_of(&name).len(),
        2,
        "both supervisors show the same name"
    );
    for ((_, pair), held) in clients.iter().zip(&held) {
        assert_eq!(pair[0].count(), 2);
        pair[0].release(&held[0]);
        pair[1].kill();
    }
    for (key, _) in &clients {
        deadline::until_true("the set is removed", || kernel::find(*key).is_none());
    }
    deadline::until_true("all instances and files are gone", || {
        scene.living().is_empty() && scene.files().is_empty()
    });
}

#[test]
fn unusable_instance_is_replaced_despite_its_fingerprint() {
    for unhealthy in [false, true] {
        let scene = scene!();
        let one = scene.client(&strict(&scene, "v1"));
        let held = one.acquire();
        let old = scene.only_instance();
        if unhealthy {
            scene.make_unhealthy(old.pid);
        } else {
            old.kill();
            old.wait_exit();
        }
        let spec = scene.service("tool").with_health(HealthOutcome::Query);
        let two = scene.client(&spec.with_fingerprint("v2", Mismatch::Refuse));
        let replaced = two.acquire();
        assert_ne!(replaced.got.pid, old.pid);
        assert_eq!(scene.only_instance().pid, replaced.got.pid);
        let failure = one
            .try_acquire(Via::TokioMulti)
            .expect_err("the fingerprints differ");
        assert_refused(&failure, "v1", Some("v2"), replaced.got.pid);
        one.release(&held);
        two.release(&replaced);
        scene.assert_clean();
        scene.assert_single_instance();
    }
}

/// A recovery that keeps the process replaces the fingerprint of the instance.
#[test]
fn recovery_changes_the_fingerprint_of_an_instance() {
    let scene = scene!();
    let spec = scene.service("tool").with_health(HealthOutcome::Query);
    let one = scene.client(&spec.clone().with_fingerprint("v1", Mismatch::Refuse));
    let held = one.acquire();
    scene.make_unhealthy(0);
    let recoverer = spec
        .with_recoveries([Outcome::Heal])
        .with_fingerprint("v2", Mismatch::Refuse);
    let recoverer = scene.client(&recoverer);
    let recovered = recoverer.acquire();
    assert_eq!(recovered.got.pid, held.got.pid);
    assert_eq!(recovered.got.generation, 2);
    let late = scene.client(&strict(&scene, "v1"));
    let failure = late
        .try_acquire(Via::TokioMulti)
        .expect_err("the fingerprints differ");
    assert_refused(&failure, "v1", Some("v2"), recovered.got.pid);
    one.release(&held);
    recoverer.release(&recovered);
}

/// A client that is refused neither stops an orphan nor takes a reference to it.
#[test]
fn refused_client_does_not_change_an_orphan() {
    let scene = scene!();
    let spec = scene.service("tool").with_orphans_kept();
    let one = scene.client(&spec.clone().with_fingerprint("v1", Mismatch::Refuse));
    let key = one.build_as(1, &spec.clone().with_fingerprint("v1", Mismatch::Refuse));
    one.acquire();
    let service = scene.only_instance();
    one.kill();
    let references = || {
        let set = kernel::find(key).expect("the semaphore set exists");
        (set.value(0).ok(), set.value(1).ok())
    };
    let two = scene.client(&spec.clone().with_fingerprint("v2", Mismatch::Refuse));
    for via in Via::ALL {
        let failure = two.try_acquire(via).expect_err("the fingerprints differ");
        assert_refused(&failure, "v2", Some("v1"), service.pid);
        assert_eq!(references(), (Some(0), Some(0)));
        assert!(service.is_live());
    }
    let adopter = scene.client(&spec.with_fingerprint("v1", Mismatch::Refuse));
    let held = adopter.acquire();
    assert_eq!(held.got.pid, service.pid);
    adopter.release(&held);
    scene.assert_clean();
}

#[test]
fn fingerprint_may_be_any_text_beside_metadata() {
    for text in ["\0 \n\u{1f418}", &"x".repeat(4096)] {
        for mismatch in [Mismatch::Refuse, Mismatch::Separate] {
            let scene = scene!();
            let mut spec = scene.service("tool").with_fingerprint(text, mismatch);
            spec.metadata = vec![("token".to_owned(), "secret".to_owned())];
            let (one, two) = (scene.client(&spec), scene.client(&spec));
            let held = [one.acquire(), two.acquire()];
            assert_eq!(held[0].got.pid, held[1].got.pid);
            assert_eq!(held[1].got.metadata, spec.metadata);
            one.release(&held[0]);
            two.release(&held[1]);
        }
    }
}

#[test]
fn invalid_fingerprint_is_refused_by_build() {
    let scene = scene!();
    let client = scene.actor();
    for (fingerprint, message) in [("", "empty"), (&*"x".repeat(4097), "4096 bytes")] {
        for mismatch in [Mismatch::Refuse, Mismatch::Join, Mismatch::Separate] {
            let spec = scene
                .service("tool")
                .with_fingerprint(fingerprint, mismatch);
            let failure = client.try_build_as(1, &spec).expect_err(message);
            for part in ["`tool`", "fingerprint", message] {
                assert!(failure.text.contains(part), "{failure:?}");
            }
        }
    }
}
