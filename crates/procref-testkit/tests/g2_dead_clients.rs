//! G2: a dead process holds no reference. This does not depend on how the process died.

use procref_testkit::protocol::{Callback, Command, Death, Gate, Reply, Via};
use procref_testkit::{Scene, scene};

fn assert_no_reference_after(how: Death) {
    let scene = scene!();
    let spec = scene.service("victim");
    let (one, two) = (scene.client(&spec), scene.client(&spec));
    let held = one.acquire();
    two.acquire();
    assert_eq!(one.count(), 2);
    two.die(how);
    assert_eq!(one.count(), 1, "{how:?}");
    assert_eq!(scene.only_instance().pid, held.got.pid);
    one.release(&held);
}

#[test]
fn g2_client_killed_by_sigkill_holds_no_reference() {
    assert_no_reference_after(Death::Kill);
}

#[test]
fn g2_client_that_exits_holds_no_reference() {
    assert_no_reference_after(Death::Exit);
}

#[test]
fn g2_client_that_exits_without_handlers_holds_no_reference() {
    assert_no_reference_after(Death::ExitAtOnce);
}

#[test]
fn g2_client_that_aborts_holds_no_reference() {
    assert_no_reference_after(Death::Abort);
}

#[test]
fn g2_client_whose_main_thread_panics_holds_no_reference() {
    assert_no_reference_after(Death::Panic);
}

#[test]
fn g2_client_that_returns_from_main_holds_no_reference() {
    assert_no_reference_after(Death::Return);
}

/// Joins the orphan with new clients. The last of them stops it.
fn assert_adopted_and_stopped(scene: &Scene, pid: u32) {
    let name = "orphan";
    let adopters = scene.clients(3, &scene.service(name).with_orphans_kept());
    let requests: Vec<_> = adopters
        .iter()
        .map(|adopter| adopter.begin_acquire(Via::Pollster))
        .collect();
    let mut held = Vec::new();
    for (adopter, pending) in adopters.iter().zip(requests) {
        held.push(adopter.finish_acquire(pending).expect("acquire"));
    }
    for (adopter, held) in adopters.iter().zip(&held) {
        assert_eq!(held.got.pid, pid, "the orphan is adopted");
        adopter.release(held);
    }
    assert_eq!(scene.started().len(), 1);
    scene.assert_clean();
}

#[test]
fn g2_many_handles_of_a_process_are_one_reference() {
    let scene = scene!();
    let spec = scene.service("many");
    let (one, two) = (scene.client(&spec), scene.client(&spec));
    let held = one.acquire();
    two.build_as(1, &spec);
    for service in [0, 0, 1, 1] {
        let pending = two.begin_acquire_of(service, Via::TokioMulti);
        let other = two.finish_acquire(pending).expect("acquire");
        assert_eq!(other.got.pid, held.got.pid);
    }
    assert_eq!(one.count(), 2);
    two.kill();
    assert_eq!(one.count(), 1);
    one.release(&held);
}

#[test]
fn g2_reference_is_kept_until_the_last_handle_is_released() {
    let scene = scene!();
    let spec = scene.service("many");
    let (one, two) = (scene.client(&spec), scene.client(&spec));
    let held = one.acquire();
    two.build_as(1, &spec);
    let mut others = Vec::new();
    for service in [0, 1, 0, 1] {
        let pending = two.begin_acquire_of(service, Via::Smol);
        others.push(two.finish_acquire(pending).expect("acquire"));
    }
    // A handle does not need the `SharedService` value that it came from.
    assert_eq!(two.call(Command::DropService { service: 1 }), Reply::Done);
    while let Some(other) = others.pop() {
        assert_eq!(one.count(), 2);
        two.release(&other);
    }
    assert_eq!(one.count(), 1);
    one.release(&held);
}

#[test]
fn g2_killed_waiter_holds_no_reference() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let spec = scene.service("slow");
    let (starter, key, pending) = scene.client_at_gate(&spec, gate, Via::TokioMulti);
    let waiters = scene.clients(3, &spec);
    for waiter in &waiters {
        let _ = waiter.begin_acquire(Via::Blocking);
    }
    scene.wait_sleepers(key, 3);
    waiters.iter().for_each(procref_testkit::Actor::kill);
    starter.proceed(gate);
    let held = starter.finish_acquire(pending).expect("acquire");
    assert_eq!(starter.count(), 1);
    starter.release(&held);
}

#[test]
fn g2_clients_killed_at_once_hold_no_references() {
    let scene = scene!();
    let spec = scene.service("orphan").with_orphans_kept();
    let clients = scene.clients(8, &spec);
    let key = clients[0].build_as(1, &spec);
    let mut pids = Vec::new();
    for client in &clients {
        pids.push(client.acquire_via(Via::Pollster).got.pid);
    }
    assert_eq!(scene.references(key), 8);
    for client in &clients {
        client.identity().kill();
    }
    for client in &clients {
        client.wait_end();
    }
    assert_eq!(scene.references(key), 0);
    assert_adopted_and_stopped(&scene, pids[0]);
}

#[test]
fn g2_clients_killed_in_turn_hold_no_references() {
    let scene = scene!();
    let spec = scene.service("victim");
    let one = scene.client(&spec);
    let held = one.acquire();
    // Starting a process takes long on Windows.
    let many = if cfg!(windows) { 4 } else { 20 };
    for victim in scene.clients(many, &spec) {
        victim.acquire_via(Via::Blocking);
        victim.kill();
        assert_eq!(one.count(), 1);
    }
    one.release(&held);
}
