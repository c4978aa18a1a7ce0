//! G8 for processes: a forked child owns none of its parent's references. `runtimes.rs` has the
//! tests of drops in other contexts.

#![cfg(target_os = "linux")]

use procref_testkit::actor::{Actor, Held};
use procref_testkit::protocol::{
    Callback, Command, Death, DropContext, Gate, HealthOutcome, Outcome, Reply, StopOutcome, Via,
};
use procref_testkit::{Scene, kernel, scene};

/// Returns a client with a handle, and a forked child of the client.
fn forked_holder(scene: &Scene) -> (Actor, Held, Actor) {
    let spec = scene.service("family").with_stop(StopOutcome::Terminate);
    let parent = scene.client(&spec);
    let held = parent.acquire();
    let child = parent.fork();
    assert_ne!(child.pid(), parent.pid());
    (parent, held, child)
}

#[test]
fn g8_drop_of_a_forked_copy_releases_nothing() {
    let scene = scene!();
    let (parent, held, child) = forked_holder(&scene);
    child.drop_handle(&held, DropContext::Thread);
    assert_eq!(parent.count(), 1);
    assert_eq!(child.call(Command::DropAll), Reply::Done);
    child.die(Death::Return);
    assert_eq!(parent.count(), 1);
    assert_eq!(scene.only_instance().pid, held.got.pid);
    assert_eq!(scene.calls("on_last_release"), 0);
    parent.release(&held);
    assert_eq!(scene.calls("on_last_release"), 1);
}

#[test]
fn g8_release_of_a_forked_copy_releases_nothing() {
    for via in [Via::Blocking, Via::Pollster] {
        let scene = scene!();
        let (parent, held, child) = forked_holder(&scene);
        // Release may return an error or not, but it must not stop the service.
        let _ = child.try_release(&held, via);
        assert_eq!(parent.count(), 1);
        assert_eq!(scene.only_instance().pid, held.got.pid);
        parent.release(&held);
    }
}

#[test]
fn g8_parent_keeps_its_reference_however_the_child_ends() {
    for how in [
        Death::Kill,
        Death::Exit,
        Death::ExitAtOnce,
        Death::Abort,
        Death::Panic,
        Death::Return,
    ] {
        let scene = scene!();
        let (parent, held, child) = forked_holder(&scene);
        child.die(how);
        assert_eq!(parent.count(), 1, "{how:?}");
        assert_eq!(scene.only_instance().pid, held.got.pid);
        let again = parent.acquire();
        assert_eq!(again.got.pid, held.got.pid);
        parent.release(&again);
        parent.release(&held);
        assert_eq!(scene.calls("on_last_release"), 1);
    }
}

#[test]
fn g8_child_that_outlives_its_parent_owns_nothing() {
    let scene = scene!();
    let (parent, held, child) = forked_holder(&scene);
    parent.release(&held);
    scene.assert_clean();
    // The child still has a copy of the handle, but the service is gone.
    child.drop_handle(&held, DropContext::Thread);
    child.die(Death::Exit);

    let (parent, held, child) = forked_holder(&scene);
    let other = scene.client(&scene.service("family"));
    let joined = other.acquire();
    assert_eq!(joined.got.pid, held.got.pid);
    assert_eq!(other.count(), 2);
    parent.kill();
    assert_eq!(other.count(), 1, "the child has no reference");
    other.release(&joined);
    scene.assert_clean();
    child.drop_handle(&held, DropContext::Unwinding);
    scene.assert_clean();
}

#[test]
fn g8_acquire_in_a_forked_child_counts() {
    for via in [Via::Blocking, Via::Pollster, Via::TokioCurrent] {
        let scene = scene!();
        let (parent, held, child) = forked_holder(&scene);
        let own = child.acquire_via(via);
        assert_eq!(own.got.pid, held.got.pid);
        assert_eq!(parent.count(), 2);
        let more = child.acquire_via(via);
        assert_eq!(parent.count(), 2, "a process has one reference");
        // The copy of the parent's handle in the child still owns no reference.
        child.drop_handle(&held, DropContext::Thread);
        child.release_via(&more, via);
        assert_eq!(parent.count(), 2);
        parent.release(&held);
        assert_eq!(child.count(), 1);
        assert_eq!(scene.only_instance().pid, own.got.pid);
        child.release_via(&own, via);
        scene.assert_clean();
        assert_eq!(scene.calls("on_last_release"), 1);
    }
}

#[test]
fn g8_killed_child_loses_only_its_own_reference() {
    let scene = scene!();
    let (parent, held, child) = forked_holder(&scene);
    child.acquire_via(Via::Blocking);
    assert_eq!(parent.count(), 2);
    child.kill();
    assert_eq!(parent.count(), 1);
    parent.release(&held);
}

#[test]
fn g8_grandchild_owns_only_its_own_reference() {
    let scene = scene!();
    let (parent, held, child) = forked_holder(&scene);
    let own = child.acquire_via(Via::Blocking);
    let grandchild = child.fork();
    grandchild.drop_handle(&own, DropContext::Thread);
    grandchild.drop_handle(&held, DropContext::Thread);
    assert_eq!(parent.count(), 2);
    let last = grandchild.acquire_via(Via::Blocking);
    assert_eq!(parent.count(), 3);
    parent.release(&held);
    child.release_via(&own, Via::Blocking);
    assert_eq!(grandchild.count(), 1);
    grandchild.release_via(&last, Via::Blocking);
    scene.assert_clean();
}

#[test]
fn g8_child_forked_during_a_start_does_not_own_the_lock() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let spec = scene.service("family");
    let (parent, key, starting) = scene.client_at_gate(&spec, gate, Via::TokioMulti);
    let waiter = scene.client(&spec);
    let waiting = waiter.begin_acquire(Via::TokioMulti);
    scene.wait_sleepers(key, 1);
    let lock = || {
        kernel::find(key)
            .expect("the semaphore set exists")
            .value(1)
            .expect("read")
    };
    assert_eq!(lock(), 1);

    // Neither the child nor its exit changes the lock of the parent.
    let child = parent.fork();
    assert_eq!(child.status().transition, Some(parent.pid()));
    child.die(Death::Return);
    assert_eq!(lock(), 1);
    assert!(!waiter.has_replied(&waiting));

    let child = parent.fork();
    let acquiring = child.begin_acquire(Via::Blocking);
    scene.wait_sleepers(key, 2);
    parent.proceed(gate);
    let held = parent.finish_acquire(starting).expect("acquire");
    let joined = waiter.finish_acquire(waiting).expect("acquire");
    let own = child.finish_acquire(acquiring).expect("acquire");
    assert_eq!(parent.count(), 3);
    assert_eq!((held.got.pid, held.got.pid), (joined.got.pid, own.got.pid));
    assert_eq!(scene.calls("on_first_acquire"), 1);
    parent.release(&held);
    waiter.release(&joined);
    child.release_via(&own, Via::Blocking);
}

#[test]
fn g8_child_forked_while_its_parent_waits_can_acquire() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let spec = scene.service("family");
    let (starter, key, starting) = scene.client_at_gate(&spec, gate, Via::TokioMulti);
    let parent = scene.client(&spec);
    let waiting = parent.begin_acquire(Via::TokioMulti);
    scene.wait_sleepers(key, 1);
    let child = parent.fork();
    let acquiring = child.begin_acquire(Via::Pollster);
    scene.wait_sleepers(key, 2);
    starter.proceed(gate);
    let held = starter.finish_acquire(starting).expect("acquire");
    let joined = parent.finish_acquire(waiting).expect("acquire");
    let own = child.finish_acquire(acquiring).expect("acquire");
    assert_eq!(starter.count(), 3);
    child.kill();
    assert_eq!(starter.count(), 2);
    assert_eq!(own.got.pid, held.got.pid);
    parent.release(&joined);
    starter.release(&held);
}

#[test]
fn g8_forked_child_of_a_host_is_not_the_host() {
    let scene = scene!();
    let spec = scene
        .service("hosted")
        .with_starts([Outcome::OwnPid, Outcome::Serve]);
    let host = scene.client(&spec.with_health(HealthOutcome::Always(true)));
    let held = host.acquire();
    let child = host.fork();
    let own = child.acquire_via(Via::Blocking);
    assert_eq!(own.got.pid, host.pid());
    host.release(&held);
    child.release_via(&own, Via::Blocking);
    assert!(host.identity().is_live());
    scene.assert_clean();
}
