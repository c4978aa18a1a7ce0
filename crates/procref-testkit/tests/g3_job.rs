//! G3 on Windows: a service ends with its last client by its job, and so does what it has started. And what else is
//! particular to Windows.

#![cfg(windows)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use procref::SharedService;
use procref_testkit::fake::STOP_REASON;
use procref_testkit::protocol::{ServiceSpec, StopOutcome, Via};
use procref_testkit::{Actor, Scene, scene};

/// A service that has started a process.
fn with_worker(scene: &Scene) -> ServiceSpec {
    scene.command("parent").with_args(["--workers", "1"])
}

fn only_worker(scene: &Scene) -> procref_testkit::observe::Identity {
    let workers = scene.workers();
    assert_eq!(workers.len(), 1, "{workers:?}");
    workers[0]
}

#[test]
fn who_dies_takes_nothing_from_the_others_and_the_last_one_takes_the_service_along() {
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
    assert_eq!(scene.stopped(), [], "the kernel asks nobody");
    // What that left is no obstacle.
    let next = scene.client(&spec);
    let held = next.acquire();
    next.release(&held);
    assert_eq!(scene.stopped(), [(held.got.pid, STOP_REASON.to_owned())]);
    scene.assert_clean();
}

#[test]
fn it_ends_with_clients_killed_in_one_instant_and_all_it_has_started_does() {
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
fn what_a_service_has_started_ends_with_a_clean_stop_as_well() {
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
fn a_service_that_cannot_be_asked_is_ended_at_once_and_a_stubborn_one_after_its_grace() {
    for (manner, grace) in [("--no-stop-handler", 60_000), ("--ignore-sigterm", 300)] {
        let scene = scene!();
        let spec = scene.command("deaf").with_args([manner]);
        let client = scene.client(&spec.with_stop_timeout_ms(grace));
        let held = client.acquire();
        let begun = Instant::now();
        client.release(&held);
        let took = begun.elapsed();
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
fn by_callback_it_ends_with_its_last_client_too_however_that_goes() {
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
        "nobody was there to call it"
    );
    scene.assert_clean();
}

#[test]
fn a_start_that_fails_says_why_and_the_next_one_is_not_kept_from_starting() {
    let scene = scene!();
    let spec = scene.command("failing");
    let client = scene.client(&spec.clone().with_args(["--exit", "3"]));
    let failure = client.try_acquire(Via::Blocking).expect_err("it exits");
    let whole = failure.whole();
    assert!(whole.contains("exited with status 3"), "{whole}");
    assert_eq!(client.count(), 0);
    let next = scene.client(&spec);
    let held = next.acquire();
    next.release(&held);
    scene.assert_clean();
}

#[test]
fn a_service_that_died_is_started_anew_and_not_beside_what_it_left() {
    let scene = scene!();
    let clients = scene.clients(2, &with_worker(&scene));
    let held: Vec<_> = clients.iter().map(Actor::acquire).collect();
    let worker = only_worker(&scene);
    let first = scene.only_instance();
    first.kill();
    first.wait_exit();
    let next = clients[0].acquire();
    assert_ne!(next.got.pid, held[0].got.pid);
    assert!(!worker.is_live());
    // The other one's reference is one to the new instance, and keeps it.
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
fn a_pinned_service_outlives_its_clients_until_it_is_unpinned() {
    let scene = scene!();
    let spec = scene.command("pinned");
    let client = scene.client(&spec);
    let held = client.acquire();
    client.pin(&held);
    client.kill();
    let service = scene.only_instance();
    let next = scene.client(&spec);
    let joined = next.acquire();
    assert_eq!(joined.got.pid, service.pid, "it was kept");
    next.release(&joined);
    assert!(service.is_live());
    assert!(next.unpin(Via::Blocking));
    assert!(!next.unpin(Via::Blocking));
    assert_eq!(scene.stopped(), [(service.pid, STOP_REASON.to_owned())]);
    scene.assert_clean();
}

#[test]
fn an_unpinned_service_ends_with_a_client_that_is_killed() {
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
fn its_holders_are_named() {
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
fn what_windows_cannot_do_is_an_error_before_anything_is_started() {
    let scene = scene!();
    let client = scene.actor();
    let lingering = scene.command("lingering").with_linger_ms(1000);
    let failure = client.try_build_as(0, &lingering).expect_err("no linger");
    assert!(failure.text.contains("linger"), "{failure:?}");
}

/// The scene itself: would it notice?
#[test]
fn a_section_that_is_left_open_is_noticed() {
    let scene = scene!();
    let spec = scene.command("left");
    let client = scene.client(&spec);
    client.acquire();
    let ours = SharedService::builder(&spec.name).base_dir(scene.runtime_dir());
    let joined = ours.build().map(|it| pollster::block_on(it.try_join()));
    let panic = catch_unwind(AssertUnwindSafe(|| drop(scene))).expect_err("a panic");
    let text = panic.downcast_ref::<String>().expect("text");
    assert!(text.contains("section Local"), "{text}");
    drop(joined);
}
