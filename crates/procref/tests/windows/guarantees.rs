//! G1 to G4, G6 and G9, one test each, and what is particular to Windows.

use std::time::{Duration, Instant};

use procref::SharedService;
use procref::process::Process;

use crate::client::{BY, pid};
use crate::service::MANNER;
use crate::stage::{PATIENCE, Stage, wait_dead};

#[test]
fn of_all_who_race_for_the_start_one_starts_it_and_all_get_it() {
    let stage = Stage::new();
    let mut clients = stage.clients(8);
    for client in &mut clients {
        // All are there, and wait for the word.
        assert_eq!(client.ask("count"), "0");
    }
    for client in &mut clients {
        client.begin("acquire");
    }
    let pids: Vec<u32> = clients
        .iter_mut()
        .map(|it| pid(&it.end().unwrap()))
        .collect();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    assert_eq!(stage.log("begin"), [pids[0]]);
    assert_eq!(stage.service().count().unwrap(), 8);
    for client in &mut clients {
        assert_eq!(client.ask("release"), "done");
    }
    assert_eq!(stage.log("end"), [pids[0]], "it was asked to stop");
    stage.check_nothing_left();
    stage.check_no_files();
}

#[test]
fn it_stays_until_the_last_has_left_and_then_it_is_asked_to_stop() {
    let stage = Stage::new();
    let mut clients = stage.clients(2);
    let pid = clients[0].acquire();
    assert_eq!(clients[1].ask("join"), pid.to_string());
    let mut holders = [clients[0].pid(), clients[1].pid()];
    holders.sort_unstable();
    assert_eq!(clients[0].ask("holders"), format!("{holders:?} and 0"));
    assert_eq!(clients[0].ask("release"), "done");
    assert_eq!(clients[1].ask("count"), "1");
    assert!(procref::process::is_alive(pid));
    assert_eq!(clients[1].ask("release"), "done");
    assert!(!procref::process::is_alive(pid), "released is stopped");
    assert_eq!(stage.log("end"), [pid]);
    stage.check_nothing_left();
    stage.check_no_files();
    assert_eq!(clients[0].ask("join"), "nothing");
}

#[test]
fn a_killed_client_holds_nothing_and_the_last_one_takes_the_service_with_it() {
    let stage = Stage::new();
    let mut clients = stage.clients(3);
    let pids: Vec<u32> = clients.iter_mut().map(|it| it.acquire()).collect();
    clients.remove(0).kill();
    assert_eq!(clients[0].ask("count"), "2");
    assert!(procref::process::is_alive(pids[0]));
    clients.remove(0).kill();
    assert_eq!(clients[0].ask("count"), "1");
    assert!(procref::process::is_alive(pids[0]));
    clients.remove(0).kill();
    assert!(wait_dead(pids[0]), "its last client was killed");
    stage.check_nothing_left();
    // What that left is no obstacle.
    let mut next = stage.client();
    assert_ne!(next.acquire(), pids[0]);
    assert_eq!(next.ask("release"), "done");
    stage.check_nothing_left();
    stage.check_no_files();
}

#[test]
fn a_service_ends_with_its_clients_killed_in_one_instant_and_all_it_has_started_does() {
    let stage = Stage::new();
    let manner = [(MANNER, "has a child")];
    let mut clients: Vec<_> = (0..4).map(|_| stage.client_with(&manner)).collect();
    let pids: Vec<u32> = clients.iter_mut().map(|it| it.acquire()).collect();
    let child = stage.log("child");
    assert_eq!(child.len(), 1);
    assert!(procref::process::is_alive(child[0]));
    for client in clients {
        client.kill();
    }
    assert!(wait_dead(pids[0]));
    assert!(wait_dead(child[0]));
    stage.check_nothing_left();
}

#[test]
fn what_a_service_has_started_ends_with_a_clean_stop_as_well() {
    let stage = Stage::new();
    let mut client = stage.client_with(&[(MANNER, "has a child")]);
    client.acquire();
    let child = stage.log("child");
    assert_eq!(client.ask("release"), "done");
    assert!(!procref::process::is_alive(child[0]));
    stage.check_nothing_left();
}

#[test]
fn a_service_that_cannot_be_asked_is_ended_at_once() {
    let stage = Stage::new();
    let mut client = stage.client_with(&[(MANNER, "deaf")]);
    let pid = client.acquire();
    let begun = Instant::now();
    assert_eq!(client.ask("release"), "done");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "its whole grace was waited for"
    );
    assert!(!procref::process::is_alive(pid));
    stage.check_nothing_left();
}

#[test]
fn by_callback_it_ends_with_its_last_client_too_however_that_goes() {
    let stage = Stage::new();
    let by = [(BY, "callbacks")];
    let mut clients = [stage.client_with(&by), stage.client_with(&by)];
    let pid = clients[0].acquire();
    assert_eq!(clients[1].acquire(), pid);
    assert_eq!(clients[0].ask("release"), "done");
    assert_eq!(clients[1].ask("release"), "done");
    assert!(!procref::process::is_alive(pid));
    let again = clients[0].acquire();
    let [first, second] = clients;
    drop(second);
    first.kill();
    assert!(wait_dead(again));
    stage.check_nothing_left();
}

#[test]
fn a_start_that_fails_says_why_and_the_next_one_is_not_kept_from_starting() {
    let stage = Stage::new();
    let mut client = stage.client_with(&[(MANNER, "fails")]);
    let answer = client.ask("acquire");
    assert!(answer.contains("exited with status 3"), "{answer}");
    assert_eq!(client.ask("count"), "0");
    let mut next = stage.client();
    next.acquire();
    assert_eq!(next.ask("release"), "done");
    stage.check_nothing_left();
}

#[test]
fn a_cancelled_acquire_gives_everything_back() {
    let stage = Stage::new();
    let mut clients = stage.clients(2);
    for _ in 0..5 {
        assert_eq!(clients[0].ask("cancel"), "done");
    }
    clients[1].acquire();
    assert_eq!(
        clients[1].ask("count"),
        "1",
        "the one that was cancelled has none"
    );
    assert_eq!(clients[1].ask("release"), "done");
    stage.check_nothing_left();
    stage.check_no_files();
}

#[test]
fn a_service_that_died_is_started_anew_and_not_beside_what_it_left() {
    let stage = Stage::new();
    let manner = [(MANNER, "has a child")];
    let mut clients = [stage.client_with(&manner), stage.client_with(&manner)];
    let pid = clients[0].acquire();
    assert_eq!(clients[1].acquire(), pid);
    let child = stage.log("child");
    Process::open(pid).unwrap().kill().unwrap();
    assert!(wait_dead(pid));
    let next = clients[0].acquire();
    assert_ne!(next, pid);
    assert!(!procref::process::is_alive(child[0]));
    // The other one's reference is one to the new instance, and keeps it.
    let [first, mut other] = clients;
    first.kill();
    assert_eq!(other.ask("count"), "1");
    assert!(procref::process::is_alive(next));
    assert_eq!(other.acquire(), next);
    other.kill();
    assert!(wait_dead(next));
    stage.check_nothing_left();
}

#[test]
fn a_pinned_service_outlives_its_clients_until_it_is_unpinned() {
    let stage = Stage::new();
    let mut client = stage.client();
    let pid = client.acquire();
    assert_eq!(client.ask("pin"), "done");
    client.kill();
    let mut next = stage.client();
    assert_eq!(next.acquire(), pid, "it was kept");
    assert_eq!(next.ask("release"), "done");
    assert!(procref::process::is_alive(pid));
    assert_eq!(next.ask("unpin"), "true");
    assert_eq!(next.ask("unpin"), "false");
    assert!(wait_dead(pid));
    stage.check_nothing_left();
    stage.check_no_files();
}

#[test]
fn an_unpinned_service_ends_with_a_client_that_is_killed() {
    let stage = Stage::new();
    let mut client = stage.client();
    let pid = client.acquire();
    assert_eq!(client.ask("pin"), "done");
    assert_eq!(client.ask("unpin"), "true");
    client.kill();
    assert!(wait_dead(pid));
    stage.check_nothing_left();
}

#[test]
fn one_that_is_meant_to_outlive_its_clients_is_found_by_the_next() {
    let stage = Stage::new();
    let by = [(BY, "keep")];
    let mut client = stage.client_with(&by);
    let pid = client.acquire();
    client.kill();
    let mut next = stage.client_with(&by);
    assert_eq!(next.acquire(), pid);
    assert_eq!(next.ask("release"), "done");
    assert!(wait_dead(pid));
    stage.check_nothing_left();
}

#[test]
fn what_windows_cannot_do_is_an_error_before_anything_is_started() {
    let stage = Stage::new();
    let lingering = SharedService::builder("lingering")
        .base_dir(stage.dir())
        .linger(PATIENCE)
        .build();
    let error = lingering.unwrap_err().to_string();
    assert!(error.contains("linger"), "{error}");
}
