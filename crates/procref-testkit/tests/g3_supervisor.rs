//! G3: when no process holds a reference, the service is stopped, even if the last clients were killed. If no
//! client is alive, only the supervisor can stop the service, so these tests check the supervisor.

#![cfg(target_os = "linux")]

use std::fs;
use std::time::{Duration, Instant};

use procref_testkit::deadline;
use procref_testkit::observe::{Identity, supervisors_of};
use procref_testkit::protocol::{
    Callback, Command, Event, Gate, HealthOutcome, Outcome, Reply, ServiceSpec, StopOutcome, Via,
};
use procref_testkit::{Actor, Scene, kernel, scene};
use rustix::process::Signal;

#[test]
fn g3_kill_of_the_last_client_stops_the_service_gracefully() {
    let scene = scene!();
    let spec = scene.unique(scene.service("killed"));
    let (one, key) = scene.holder(&spec);
    let (two, _) = scene.holder(&spec);
    let service = scene.only_instance();
    one.kill();
    assert!(
        service.is_live(),
        "the second client still holds the service"
    );
    two.kill();
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
}

#[test]
fn g3_kill_of_all_clients_at_once_stops_the_service() {
    for _ in 0..5 {
        let scene = scene!();
        let spec = scene.unique(scene.service("killed"));
        let clients = scene.clients(16, &spec);
        let key = clients[0].build_as(1, &spec);
        for client in &clients {
            client.acquire();
        }
        for client in &clients {
            client.identity().kill();
        }
        for client in &clients {
            client.wait_end();
        }
        scene.wait_removed(&spec, key);
        assert_eq!(scene.stopped().len(), 1, "the service stopped gracefully");
    }
}

#[test]
fn g3_service_and_supervisor_stay_while_a_client_remains() {
    let scene = scene!();
    let spec = scene.unique(scene.service("shared"));
    let (starter, key) = scene.holder(&spec);
    let (other, _) = scene.holder(&spec);
    let service = scene.only_instance();
    let supervisor = scene.only_supervisor(&spec);
    starter.kill();
    assert_eq!(other.count(), 1);
    let late = scene.client(&spec);
    let held = late.acquire();
    late.release(&held);
    assert!(service.is_live() && supervisor.is_live());
    assert_eq!(scene.only_supervisor(&spec), supervisor);
    other.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_last_release_ends_the_supervisor() {
    let scene = scene!();
    let spec = scene
        .unique(scene.service("released"))
        .with_stop(StopOutcome::Terminate);
    let client = scene.client(&spec);
    let held = client.acquire();
    let supervisor = scene.only_supervisor(&spec);
    client.release(&held);
    scene.assert_clean();
    assert_eq!(scene.calls("on_last_release"), 1);
    supervisor.wait_exit();
}

#[test]
fn g3_starter_killed_in_its_callback_leaves_nothing() {
    let scene = scene!();
    let spec = scene.unique(scene.service("starting"));
    let gate = Gate::Before(Callback::Start);
    let (client, key, _) = scene.client_at_gate(&spec, gate, Via::TokioMulti);
    // The supervisor is ready before the start begins.
    assert!(scene.only_supervisor(&spec).is_live());
    client.kill();
    scene.wait_removed(&spec, key);
    assert_eq!(scene.started(), []);
}

#[test]
fn g3_starter_killed_before_readiness_leaves_nothing() {
    let scene = scene!();
    let spec = scene
        .unique(scene.service("starting"))
        .with_health(HealthOutcome::Query);
    let gate = Gate::Before(Callback::Health);
    let (client, key, _) = scene.client_at_gate(&spec, gate, Via::Pollster);
    let service = scene.only_instance();
    client.kill();
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
}

#[test]
fn g3_failed_start_ends_the_supervisor() {
    let scene = scene!();
    let spec = scene
        .unique(scene.service("failing"))
        .with_starts([Outcome::Fail("no".to_owned())]);
    let client = scene.actor();
    let key = client.build(&spec);
    client
        .try_acquire(Via::Smol)
        .expect_err("the callback fails");
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_supervisor_finishes_the_stop_of_a_killed_client() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Stop);
    let spec = scene
        .unique(scene.service("stopping"))
        .with_stop(StopOutcome::Terminate)
        .with_gates([gate]);
    let client = scene.actor();
    let key = client.build(&spec);
    let held = client.acquire();
    let _ = client.begin(Command::Release {
        handle: held.handle,
        via: Via::TokioMulti,
    });
    client.event(&Event::Running(Callback::Stop));
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_supervisor_kills_a_service_ignoring_sigterm_after_grace() {
    let scene = scene!();
    let mut spec = scene
        .unique(scene.service("stubborn"))
        .with_stop_timeout_ms(300);
    spec.fake.ignore_sigterm = true;
    let (client, key) = scene.holder(&spec);
    let start = Instant::now();
    client.kill();
    scene.wait_removed(&spec, key);
    assert!(
        start.elapsed() >= Duration::from_millis(300),
        "the service was killed before its grace was over"
    );
    assert_eq!(
        scene.stopped(),
        [],
        "the service was killed and did not stop by itself"
    );
}

#[test]
fn g3_service_with_unlimited_grace_is_not_killed() {
    let scene = scene!();
    let mut spec = scene.unique(scene.service("unlimited"));
    spec.fake.slow_stop_ms = 500;
    spec.stop_timeout_ms = Some(u64::MAX);
    let (client, key) = scene.holder(&spec);
    let service = scene.only_instance();
    client.kill();
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);

    // The last client waits just as long when it stops the service.
    let (client, key) = scene.holder(&spec);
    let service = scene.only_instance();
    assert_eq!(client.call(Command::DropAll), Reply::Done);
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped()[1], (service.pid, "signal 15".to_owned()));
}

#[test]
fn g3_supervisor_stops_a_suspended_service_gracefully() {
    let scene = scene!();
    let spec = scene.unique(scene.service("suspended"));
    let (client, key) = scene.holder(&spec);
    let service = scene.only_instance();
    service.signal(Signal::STOP);
    client.kill();
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
}

#[test]
fn g3_killed_supervisor_is_replaced_by_the_next_join() {
    Via::ALL
        .into_iter()
        .for_each(assert_supervisor_replaced_by_join);
}

/// Returns a client, the key of the set, the service and its supervisor, which was killed.
fn holder_with_killed_supervisor(
    scene: &Scene,
    spec: &ServiceSpec,
) -> (Actor, i32, Identity, Identity) {
    let (one, key) = scene.holder(spec);
    let service = scene.only_instance();
    let supervisor = scene.kill_only_supervisor(spec);
    (one, key, service, supervisor)
}

fn assert_supervisor_replaced_by_join(via: Via) {
    let scene = scene!();
    let spec = scene.unique(scene.service("replaced"));
    let (one, key, service, supervisor) = holder_with_killed_supervisor(&scene, &spec);

    let clients = scene.clients(6, &spec);
    let requests: Vec<_> = clients
        .iter()
        .map(|client| client.begin_acquire(via))
        .collect();
    for (client, pending) in clients.iter().zip(requests) {
        let held = client.finish_acquire(pending).expect("acquire");
        assert_eq!(held.got.pid, service.pid, "the service stayed the same");
    }
    assert_ne!(scene.only_supervisor(&spec), supervisor);
    assert_eq!(one.count(), 7);
    one.kill();
    clients.iter().for_each(Actor::kill);
    scene.wait_removed(&spec, key);
    assert_eq!(scene.started().len(), 1);
}

#[test]
fn g3_adopted_orphan_gets_a_new_supervisor() {
    let scene = scene!();
    let spec = scene.unique(scene.service("orphan"));
    let (one, key, service, _) = holder_with_killed_supervisor(&scene, &spec);
    one.kill();
    assert!(service.is_live());

    let two = scene.client(&spec);
    let held = two.acquire();
    assert_eq!(held.got.pid, service.pid);
    assert!(scene.only_supervisor(&spec).is_live());
    two.kill();
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
}

/// The starter's setting counts, not the setting of a client that joins later.
#[test]
fn g3_join_starts_a_supervisor_by_the_starters_orphan_policy() {
    let scene = scene!();
    let spec = scene.unique(scene.service("orphan"));
    let (one, key, service, _) = holder_with_killed_supervisor(&scene, &spec);

    let (keeper, _) = scene.holder(&spec.clone().with_orphans_kept());
    assert!(scene.only_supervisor(&spec).is_live());
    one.kill();
    keeper.kill();
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
}

#[test]
fn g3_kept_orphan_stays_without_a_supervisor() {
    let scene = scene!();
    let spec = scene.unique(scene.service("kept")).with_orphans_kept();
    let (one, key) = scene.holder(&spec);
    assert_eq!(supervisors_of(&spec.name), []);
    // The starter's setting counts, not the setting of a client that joins later.
    let other = scene.client(&scene.unique(scene.service("kept")));
    let held = other.acquire();
    assert_eq!(supervisors_of(&spec.name), []);
    other.release(&held);
    one.kill();
    assert!(scene.only_instance().is_live());
    assert!(kernel::find(key).is_some());
    let adopter = scene.client(&spec);
    let held = adopter.acquire();
    assert_eq!(scene.started().len(), 1);
    adopter.release(&held);
    scene.assert_clean();
}

/// The supervisor outlives its starter. It keeps none of the starter's descriptors and memory, and
/// signals for the starter do not reach it.
#[test]
fn g3_supervisor_inherits_nothing_from_its_starter() {
    let scene = scene!();
    let spec = scene.unique(scene.service("modest"));
    let one = scene.actor_in(scene.root());
    let key = one.build(&spec);
    one.acquire();
    let supervisor = scene.only_supervisor(&spec);
    let proc = |entry: &str| format!("/proc/{}/{entry}", supervisor.pid);
    deadline::until_true("the supervisor sleeps in the kernel", || {
        kernel::find(key).is_some_and(|set| set.sleepers(0).unwrap_or(0) == 1)
    });
    let open = fs::read_dir(proc("fd"))
        .expect("list the descriptors")
        .count();
    assert_eq!(open, 0, "the supervisor has open descriptors");
    assert_eq!(
        fs::read_link(proc("cwd"))
            .expect("read the working directory")
            .to_str(),
        Some("/")
    );
    assert_ne!(supervisor.status("PPid"), Some(one.pid().to_string()));
    assert_ne!(
        supervisor.status("NSsid"),
        Identity::own().status("NSsid"),
        "the supervisor has its own session"
    );
    let blocked = supervisor.status("SigBlk").expect("the status has SigBlk");
    let blocked = u64::from_str_radix(&blocked, 16).expect("parse the mask");
    for signal in [
        Signal::INT,
        Signal::HUP,
        Signal::TERM,
        Signal::QUIT,
        Signal::PIPE,
    ] {
        assert_ne!(blocked & 1 << (signal.as_raw() - 1), 0, "{signal:?}");
    }
    let private = supervisor.private_memory();
    assert!(private < 400, "{private} KiB of private memory");
    let name = fs::read_to_string(proc("comm")).expect("read the name");
    assert!(name.starts_with("procref: modest"), "{name}");

    // The supervisor does not wake while other clients acquire, release and are killed.
    let switches = || supervisor.status("voluntary_ctxt_switches");
    let before = switches();
    for _ in 0..50 {
        let other = scene.client(&spec);
        let held = other.acquire();
        other.release(&held);
        let (killed, _) = scene.holder(&spec);
        killed.kill();
    }
    assert_eq!(switches(), before, "the supervisor woke");
    one.kill();
    scene.wait_removed(&spec, key);
}

/// A client that rewrites its heap gets new pages. The forked supervisor must not keep the old
/// pages.
#[test]
fn g3_supervisor_keeps_no_memory_that_its_starter_rewrites() {
    const REWRITE: Command = Command::Rewrite { mib: 64 };
    let scene = scene!();
    let spec = scene.unique(scene.service("large"));
    let client = scene.actor();
    let key = client.build(&spec);
    assert_eq!(client.call(REWRITE), Reply::Done);
    client.acquire();
    assert_eq!(client.call(REWRITE), Reply::Done);
    let private = scene.only_supervisor(&spec).private_memory();
    assert!(private < 400, "{private} KiB of private memory");
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_lingering_service_is_joined_and_stops_in_time() {
    const LINGER: Duration = Duration::from_millis(1500);
    for killed in [false, true] {
        let scene = scene!();
        let spec = scene
            .unique(scene.service("lingering"))
            .with_linger_ms(1500);
        let acquire_and_leave = |client: &Actor| {
            let held = client.acquire();
            // Read the clock before the client leaves: the linger begins at the release, not when
            // this test gets the reply.
            let leaving = Instant::now();
            if killed {
                client.kill();
            } else {
                client.release(&held);
            }
            (held.got.pid, leaving)
        };
        let one = scene.actor();
        let key = one.build(&spec);
        let (first, _) = acquire_and_leave(&one);
        let (second, leaving) = acquire_and_leave(&scene.client(&spec));
        assert_eq!(
            first, second,
            "the second client joins the lingering instance"
        );
        assert!(scene.only_instance().is_live());
        scene.wait_removed(&spec, key);
        assert!(
            leaving.elapsed() >= LINGER,
            "the service stopped after {:?}",
            leaving.elapsed()
        );
        assert_eq!(scene.stopped(), [(first, "signal 15".to_owned())]);
        assert_eq!(scene.started().len(), 1);
    }
}

/// The starter's linger counts, not the setting of the last client.
#[test]
fn g3_linger_of_the_starter_applies_to_every_last_client() {
    let scene = scene!();
    let spec = scene.unique(scene.service("lingering"));
    let (starter, key) = scene.holder(&spec.clone().with_linger_ms(1_000_000));
    let last = scene.client(&spec);
    let held = last.acquire();
    starter.kill();
    last.release(&held);
    let next = scene.client(&spec);
    let again = next.acquire();
    assert_eq!(again.got.pid, held.got.pid, "the service still lingers");
    next.release(&again);
    assert!(next.stop(false, Via::Blocking).expect("stop"));
    scene.wait_removed(&spec, key);
    assert_eq!(scene.started().len(), 1);
}

#[test]
fn g3_last_client_stops_a_lingering_service_if_unsupervised() {
    let scene = scene!();
    let spec = scene
        .unique(scene.service("lingering"))
        .with_linger_ms(1_000_000);
    let client = scene.client(&spec);
    let held = client.acquire();
    scene.kill_only_supervisor(&spec);
    client.release(&held);
    scene.assert_clean();
}

#[test]
fn g3_unready_service_does_not_linger() {
    let scene = scene!();
    let spec = scene
        .unique(scene.service("unready"))
        .with_linger_ms(1_000_000)
        .with_health(HealthOutcome::Query);
    let gate = Gate::Before(Callback::Health);
    let (client, key, _) = scene.client_at_gate(&spec, gate, Via::Pollster);
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_linger_that_no_supervisor_can_end_is_refused() {
    let scene = scene!();
    let client = scene.actor();
    let lingering = || scene.service("tool").with_linger_ms(1000);
    for (spec, text) in [
        (lingering().with_orphans_kept(), "Orphan::Keep"),
        (
            lingering().with_stop(StopOutcome::Terminate),
            "on_last_release",
        ),
        (scene.service("tool").with_linger_ms(1 << 31), "twelve days"),
    ] {
        let failure = client.try_build_as(1, &spec).expect_err(text);
        assert!(failure.text.contains(text), "{failure:?}");
        assert!(failure.text.contains("tool"), "{failure:?}");
    }
}
