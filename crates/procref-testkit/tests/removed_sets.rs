//! G1 and G6 after another program, such as `ipcrm`, removes the semaphore set. On Windows, no program can
//! remove the kernel objects.

#![cfg(target_os = "linux")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use procref_testkit::protocol::{Callback, Gate, Via};
use procref_testkit::{kernel, scene};

#[test]
fn g1_set_removed_while_held_never_causes_two_instances() {
    let scene = scene!();
    let spec = scene.service("removed");
    let (one, two) = (scene.client(&spec), scene.client(&spec));
    let old = one.acquire();
    let key = one.build_as(1, &spec);
    kernel::find(key)
        .expect("the semaphore set exists")
        .remove()
        .expect("remove");

    let new = two.acquire();
    scene.assert_single_instance();
    assert_eq!(scene.only_instance().pid, new.got.pid);
    // The first client's reference was removed with the set. Its release must not affect the new
    // instance.
    one.release(&old);
    assert_eq!(scene.only_instance().pid, new.got.pid);
    assert_eq!(two.count(), 1);
    let joined = one.acquire();
    assert_eq!(joined.got.pid, new.got.pid);
    assert_eq!(two.count(), 2);
    one.release(&joined);
    two.release(&new);
}

#[test]
fn g1_set_removed_during_a_start_never_causes_two_instances() {
    let scene = scene!();
    let gate = Gate::After(Callback::Start);
    let spec = scene.service("removed").with_gates([gate]);
    let client = scene.client(&spec);
    let key = client.build_as(1, &spec);
    let pending = client.begin_acquire(Via::TokioMulti);
    let first = client.wait_served();
    kernel::find(key)
        .expect("the semaphore set exists")
        .remove()
        .expect("remove");
    client.proceed(gate);
    // The first instance cannot be published any more, so it is stopped and another one is started.
    let second = client.wait_served();
    assert!(!first.is_live());
    client.proceed(gate);
    let held = client.finish_acquire(pending).expect("acquire");
    assert_eq!(held.got.pid, second.pid);
    scene.assert_single_instance();
    client.release(&held);
}

#[test]
fn g1_set_removed_during_a_wait_leaves_one_instance() {
    let scene = scene!();
    let gate = Gate::After(Callback::Start);
    let spec = scene.service("removed");
    let starter = scene.client(&spec.clone().with_gates([gate]));
    let waiter = scene.client(&spec);
    let key = waiter.build_as(1, &spec);
    let starting = starter.begin_acquire(Via::Smol);
    starter.wait_served();
    let waiting = waiter.begin_acquire(Via::TokioCurrent);
    scene.wait_sleepers(key, 1);
    kernel::find(key)
        .expect("the semaphore set exists")
        .remove()
        .expect("remove");

    // The waiter cannot know an instance that the starter has spawned but not published. Both
    // clients must have the same instance in the end.
    let held = waiter.finish_acquire(waiting).expect("acquire");
    starter.proceed(gate);
    let other = starter.finish_acquire(starting).expect("acquire");
    assert_eq!(held.got.pid, other.got.pid);
    assert_eq!(scene.only_instance().pid, held.got.pid);
    assert_eq!(waiter.count(), 2);
    waiter.release(&held);
    starter.release(&other);
}

#[test]
fn g1_orphan_whose_set_is_removed_is_stopped_before_a_start() {
    let scene = scene!();
    // The service has no supervisor, because a supervisor would stop the service first.
    let spec = scene.service("killed").with_orphans_kept();
    let client = scene.client(&spec);
    let key = client.build_as(1, &spec);
    let held = client.acquire();
    client.kill();
    kernel::find(key)
        .expect("the semaphore set exists")
        .remove()
        .expect("remove");
    // Only the record names the instance that is still alive.
    let next = scene.client(&scene.service("killed"));
    let other = next.acquire();
    assert_ne!(other.got.pid, held.got.pid);
    scene.assert_single_instance();
    next.release(&other);
    scene.assert_clean();
}

/// Checks that the scene itself detects a leftover set.
#[test]
fn scene_reports_and_removes_a_leftover_set() {
    let scene = scene!();
    let actor = scene.actor();
    let key = actor.build(&scene.service("left"));
    let set = kernel::Set::create(key, 2, 0o600).expect("create a set");
    let panic = catch_unwind(AssertUnwindSafe(|| drop(scene))).expect_err("the code panics");
    let text = panic
        .downcast_ref::<String>()
        .expect("the panic has a text");
    assert!(text.contains("semaphore set"), "{text}");
    assert_eq!(kernel::find(set.key), None);
}
