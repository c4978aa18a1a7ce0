//! G2 for a client that executes another program: the process stays the same.

#![cfg(target_os = "linux")]

use procref_testkit::protocol::{Callback, Command, Event, Gate, Via};
use procref_testkit::scene;

#[test]
fn g2_exec_keeps_the_reference_until_the_program_exits() {
    let scene = scene!();
    let spec = scene.service("orphan");
    let (one, two) = (scene.client(&spec), scene.client(&spec));
    let held = one.acquire();
    two.acquire();
    let _ = two.begin(Command::Exec);
    two.event(&Event::Executed);
    assert_eq!(one.count(), 2);
    two.write_line("stop");
    assert!(two.wait_end().is_some_and(|status| status.success()));
    assert_eq!(one.count(), 1);
    one.release(&held);
}

#[test]
fn g2_executed_program_that_is_killed_holds_no_reference() {
    let scene = scene!();
    let spec = scene.service("orphan").with_orphans_kept();
    let client = scene.client(&spec);
    let key = client.build_as(1, &spec);
    let held = client.acquire();
    let _ = client.begin(Command::Exec);
    client.event(&Event::Executed);
    assert_eq!(scene.references(key), 1);
    client.kill();
    assert_eq!(scene.references(key), 0);

    // The service outlives its only client. The next client adopts it.
    let adopter = scene.client(&spec);
    let adopted = adopter.acquire();
    assert_eq!(adopted.got.pid, held.got.pid);
    adopter.release(&adopted);
}

/// A lock survives `exec`, too. The kernel releases it when the executed program exits.
#[test]
fn g2_exec_during_a_start_keeps_the_lock_until_killed() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let spec = scene.service("orphan");
    let (starter, key, _) = scene.client_at_gate(&spec, gate, Via::TokioMulti);
    let waiter = scene.client(&spec);
    let waiting = waiter.begin_acquire(Via::TokioMulti);
    scene.wait_sleepers(key, 1);
    let _ = starter.begin(Command::Exec);
    starter.event(&Event::Executed);
    assert_eq!(waiter.status().transition, Some(starter.pid()));
    assert!(!waiter.has_replied(&waiting));
    starter.kill();
    let held = waiter.finish_acquire(waiting).expect("acquire");
    assert_eq!(waiter.count(), 1);
    waiter.release(&held);
}
