//! G2: a dead process holds no reference, however it died.

use procref_testkit::protocol::{Callback, Command, Death, Event, Gate, Reply, Via};
use procref_testkit::{Scene, scene};

fn dies(how: Death) {
    let scene = scene!();
    let spec = scene.service("mortal");
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
    dies(Death::Kill);
}

#[test]
fn g2_client_that_exits_holds_no_reference() {
    dies(Death::Exit);
}

#[test]
fn g2_client_that_exits_without_handlers_holds_no_reference() {
    dies(Death::ExitAtOnce);
}

#[test]
fn g2_client_that_aborts_holds_no_reference() {
    dies(Death::Abort);
}

#[test]
fn g2_client_whose_main_thread_panics_holds_no_reference() {
    dies(Death::Panic);
}

#[test]
fn g2_client_that_returns_from_main_holds_no_reference() {
    dies(Death::Return);
}

/// A new client joins the orphan and, being the last one, stops it.
fn adopted_and_stopped(scene: &Scene, pid: u32) {
    let name = "heir";
    let heirs = scene.clients(3, &scene.service(name).with_orphans_kept());
    let begun: Vec<_> = heirs
        .iter()
        .map(|heir| heir.begin_acquire(Via::Pollster))
        .collect();
    let mut held = Vec::new();
    for (heir, pending) in heirs.iter().zip(begun) {
        held.push(heir.finish_acquire(pending).expect("acquire"));
    }
    for (heir, held) in heirs.iter().zip(&held) {
        assert_eq!(held.got.pid, pid, "the orphan is adopted");
        heir.release(held);
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
    // The value that a handle came from is not needed any more.
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
    let starter = scene.client(&spec.clone().with_gates([gate]));
    let waiters = scene.clients(3, &spec);
    let key = starter.build_as(1, &spec);
    let pending = starter.begin_acquire(Via::TokioMulti);
    starter.event(&Event::Running(Callback::Start));
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
    let spec = scene.service("heir").with_orphans_kept();
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
    adopted_and_stopped(&scene, pids[0]);
}

#[test]
fn g2_clients_killed_in_turn_hold_no_references() {
    let scene = scene!();
    let spec = scene.service("mortal");
    let one = scene.client(&spec);
    let held = one.acquire();
    // To start a process takes long on Windows.
    let many = if cfg!(windows) { 4 } else { 20 };
    for mortal in scene.clients(many, &spec) {
        mortal.acquire_via(Via::Blocking);
        mortal.kill();
        assert_eq!(one.count(), 1);
    }
    one.release(&held);
}
