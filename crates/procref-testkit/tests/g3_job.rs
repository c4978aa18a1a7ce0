//! G3 on Windows: the job object ends a service, and all processes that it has started, with the
//! last client. This file also covers other behavior that only Windows has.

#![cfg(windows)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use procref::SharedService;
use procref_testkit::fake::STOP_REASON;
use procref_testkit::protocol::{ServiceSpec, StopOutcome, Via};
use procref_testkit::{Actor, Scene, scene};

/// Describes a service that starts a worker process.
fn with_worker(scene: &Scene) -> ServiceSpec {
    scene.command("parent").with_args(["--workers", "1"])
}

fn only_worker(scene: &Scene) -> procref_testkit::observe::Identity {
    let workers = scene.workers();
    assert_eq!(workers.len(), 1, "{workers:?}");
    workers[0]
}

#[test]
fn g3_service_ends_only_with_its_last_killed_client() {
    let scene = scene!();
    let spec = scene.command("mortal");
    let mut clients = scene.clients(3, &spec);
    for client in &clients {
        client.acquire();
    }
    let service = scene.only_instance();
    let last = clients.remove(0);
    for (left, client) in [2, 1].into_iter().zip(clients) {
        client.kill();
        assert_eq!(last.count(), left);
        assert!(service.is_live());
    }
    last.kill();
    service.wait_exit();
    assert_eq!(
        scene.stopped(),
        [],
        "the kernel terminates the service without a stop signal"
    );
    // The leftovers do not prevent the next start.
    let next = scene.client(&spec);
    let held = next.acquire();
    next.release(&held);
    assert_eq!(scene.stopped(), [(held.got.pid, STOP_REASON.to_owned())]);
    scene.assert_clean();
}

#[test]
fn g3_process_tree_ends_when_all_clients_are_killed_at_once() {
    let scene = scene!();
    let spec = with_worker(&scene);
    let clients = scene.clients(4, &spec);
    for client in &clients {
        client.acquire();
    }
    let (service, worker) = (scene.only_instance(), only_worker(&scene));
    for client in &clients {
        client.identity().kill();
    }
    service.wait_exit();
    worker.wait_exit();
    drop(clients);
    let next = scene.client(&spec);
    let held = next.acquire();
    next.release(&held);
    scene.assert_clean();
}

#[test]
fn g3_clean_stop_ends_the_services_process_tree() {
    let scene = scene!();
    let client = scene.client(&with_worker(&scene));
    let held = client.acquire();
    let worker = only_worker(&scene);
    client.release(&held);
    assert!(!worker.is_live());
    assert_eq!(scene.stopped().len(), 1);
    scene.assert_clean();
}

#[test]
fn g3_grace_is_skipped_only_if_no_stop_signal_can_be_sent() {
    for (manner, grace) in [("--no-stop-handler", 60_000), ("--ignore-sigterm", 300)] {
        let scene = scene!();
        let spec = scene.command("deaf").with_args([manner]);
        let client = scene.client(&spec.with_stop_timeout_ms(grace));
        let held = client.acquire();
        let start = Instant::now();
        client.release(&held);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(30), "{manner}: {took:?}");
        assert!(
            manner == "--no-stop-handler" || took >= Duration::from_millis(grace),
            "{took:?}"
        );
        assert_eq!(scene.stopped(), []);
        scene.assert_clean();
    }
}

#[test]
fn g3_callback_service_ends_with_its_last_client() {
    let scene = scene!();
    let spec = scene.service("called").with_stop(StopOutcome::Terminate);
    let clients = scene.clients(2, &spec);
    let held: Vec<_> = clients.iter().map(Actor::acquire).collect();
    assert_eq!(held[0].got.pid, held[1].got.pid);
    for (client, held) in clients.iter().zip(&held) {
        client.release(held);
    }
    scene.assert_clean();
    clients[0].acquire();
    let again = scene.only_instance();
    clients[0].kill();
    again.wait_exit();
    let held = clients[1].acquire();
    clients[1].release(&held);
    assert_eq!(
        scene.calls("on_last_release"),
        2,
        "no process was left to call the callback of the killed client"
    );
    scene.assert_clean();
}

#[test]
fn g4_failed_start_reports_the_cause_and_permits_the_next() {
    let scene = scene!();
    let spec = scene.command("failing");
    let client = scene.client(&spec.clone().with_args(["--exit", "3"]));
    let failure = client
        .try_acquire(Via::Blocking)
        .expect_err("the program exits");
    let whole = failure.whole();
    assert!(whole.contains("exited with status 3"), "{whole}");
    assert_eq!(client.count(), 0);
    let next = scene.client(&spec);
    let held = next.acquire();
    next.release(&held);
    scene.assert_clean();
}

#[test]
fn g1_dead_service_restarts_after_its_leftovers_end() {
    let scene = scene!();
    let clients = scene.clients(2, &with_worker(&scene));
    let held: Vec<_> = clients.iter().map(Actor::acquire).collect();
    let worker = only_worker(&scene);
    scene.kill_only_instance();
    let next = clients[0].acquire();
    assert_ne!(next.got.pid, held[0].got.pid);
    assert!(!worker.is_live());
    // The other client's reference now counts for the new instance and keeps it running.
    let second = scene.only_instance();
    clients[0].kill();
    assert_eq!(clients[1].count(), 1);
    assert!(second.is_live());
    assert_eq!(clients[1].acquire().got.pid, next.got.pid);
    clients[1].kill();
    second.wait_exit();
    let last = scene.client(&scene.command("parent"));
    let held = last.acquire();
    last.release(&held);
    scene.assert_clean();
}

#[test]
fn g3_pinned_service_outlives_its_clients_until_unpinned() {
    let scene = scene!();
    let spec = scene.command("pinned");
    let client = scene.client(&spec);
    let held = client.acquire();
    client.pin(&held);
    client.kill();
    let service = scene.only_instance();
    let next = scene.client(&spec);
    let joined = next.acquire();
    assert_eq!(joined.got.pid, service.pid, "the pinned service stayed");
    next.release(&joined);
    assert!(service.is_live());
    assert!(next.unpin(Via::Blocking));
    assert!(!next.unpin(Via::Blocking));
    assert_eq!(scene.stopped(), [(service.pid, STOP_REASON.to_owned())]);
    scene.assert_clean();
}

#[test]
fn g3_unpinned_service_ends_with_its_killed_client() {
    let scene = scene!();
    let spec = scene.command("pinned");
    let client = scene.client(&spec);
    let held = client.acquire();
    client.pin(&held);
    assert!(client.unpin(Via::TokioMulti));
    let service = scene.only_instance();
    client.kill();
    service.wait_exit();
    let next = scene.client(&spec);
    let held = next.acquire();
    next.release(&held);
    scene.assert_clean();
}

#[test]
fn status_names_all_holders() {
    let scene = scene!();
    let spec = scene.command("known");
    let clients = scene.clients(2, &spec);
    for client in &clients {
        client.acquire();
    }
    let watcher = SharedService::builder(&spec.name).base_dir(scene.runtime_dir());
    let status = watcher.build().and_then(|it| it.status()).expect("status");
    let mut named: Vec<_> = status.holders().iter().map(|it| it.pid()).collect();
    named.sort_unstable();
    let mut holders: Vec<_> = clients.iter().map(Actor::pid).collect();
    holders.sort_unstable();
    assert_eq!((named, status.unknown_holders()), (holders, 0));
    for client in &clients {
        client.call(procref_testkit::protocol::Command::DropAll);
    }
    scene.assert_clean();
}

#[test]
fn linger_is_refused_by_build() {
    let scene = scene!();
    let client = scene.actor();
    let lingering = scene.command("lingering").with_linger_ms(1000);
    let failure = client
        .try_build_as(0, &lingering)
        .expect_err("linger is not supported on Windows");
    assert!(failure.text.contains("linger"), "{failure:?}");
}

/// Checks that the scene itself detects a leftover.
#[test]
fn scene_reports_a_section_that_is_left_open() {
    let scene = scene!();
    let spec = scene.command("left");
    let client = scene.client(&spec);
    client.acquire();
    let ours = SharedService::builder(&spec.name).base_dir(scene.runtime_dir());
    let joined = ours.build().map(|it| pollster::block_on(it.try_join()));
    let panic = catch_unwind(AssertUnwindSafe(|| drop(scene))).expect_err("the scene panics");
    let text = panic
        .downcast_ref::<String>()
        .expect("the panic has a text");
    assert!(text.contains("section Local"), "{text}");
    drop(joined);
}
