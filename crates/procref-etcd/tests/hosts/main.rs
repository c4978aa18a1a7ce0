//! Links on three hosts, with the networks of hosts and of etcd cut and healed, and with processes killed and suspended.
//! The log of the services decides whether one of them wrote at a time.
//!
//! Needs root, because the tests make network namespaces.

#[path = "../common/mod.rs"]
mod common;
mod race;
mod scene;
mod storm;

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::host::{LIMIT, Running, WRITER, children, describe};
use rustix::process::{Pid, Signal, kill_process};
use scene::{LONG, MEMBERS, SHORT, Scene, WAIT, one_writer_at_a_time};

/// Checks that a link has lost its reference.
fn assert_lost(link: &mut Running) {
    let (status, text) = link.wait();
    assert_eq!(status.code(), Some(4), "{text}");
}

/// Checks that the service of a link has ended.
fn assert_service_gone(link: &mut Running) {
    let (status, text) = link.wait();
    assert_eq!(status.code(), Some(3), "{text}");
}

#[test]
fn g10_service_moves_when_the_network_of_its_host_is_cut() {
    Scene::run(SHORT, async |scene| {
        let (mut first, ready) = scene.ready(&scene.a);
        let (mut second, joined) = scene.ready(&scene.b);
        assert_eq!(joined, ready);

        scene.network.cut("a");
        assert_lost(&mut first);
        let view = scene.view().await;
        assert!(view.found.is_some(), "the lease ended before the link");
        scene.a.wait_stopped();
        assert_service_gone(&mut second);
        let (second, next) = scene.successor(&scene.b, ready.fence);
        assert_eq!(next.host, "b");

        scene.network.heal("a");
        let (first, joined) = scene.ready(&scene.a);
        assert_eq!(joined, next, "the old host does not join the new instance");
        first.stop();
        second.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()).len(), 2);
    });
}

#[test]
fn g10_service_stays_when_the_network_of_a_client_is_cut() {
    Scene::run(SHORT, async |scene| {
        let (first, ready) = scene.ready(&scene.a);
        let (mut second, _) = scene.ready(&scene.b);

        scene.network.cut("b");
        assert_lost(&mut second);
        let view = scene.cluster.view("db", "b").await;
        assert!(view.own.is_some(), "the lease ended before the link");
        scene.network.heal("b");
        let (second, joined) = scene.ready(&scene.b);
        assert_eq!(joined, ready);
        scene.assert_writes(ready.fence, SHORT);
        second.stop();
        first.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()), [ready.fence]);
    });
}

#[test]
fn g10_service_moves_when_the_networks_of_all_its_hosts_are_cut() {
    Scene::run(SHORT, async |scene| {
        let (mut first, ready) = scene.ready(&scene.a);
        let (mut second, _) = scene.ready(&scene.b);

        scene.network.cut("a");
        scene.network.cut("b");
        assert_lost(&mut first);
        assert_lost(&mut second);
        let (third, next) = scene.successor(&scene.c, ready.fence);
        assert_eq!(next.host, "c");

        scene.network.heal("a");
        scene.network.heal("b");
        let (first, joined) = scene.ready(&scene.a);
        assert_eq!(joined, next);
        let (second, joined) = scene.ready(&scene.b);
        assert_eq!(joined, next);
        for link in [first, second, third] {
            link.stop();
        }
        assert_eq!(one_writer_at_a_time(&scene.entries()).len(), 2);
    });
}

#[test]
fn g10_service_moves_when_its_host_and_the_leader_are_cut_together() {
    Scene::run(LONG, async |scene| {
        let (mut first, ready) = scene.ready(&scene.a);
        let leader = MEMBERS[scene.cluster.leader().await];

        scene.network.cut("a");
        scene.network.cut(leader);
        assert_lost(&mut first);
        let (second, next) = scene.successor(&scene.b, ready.fence);
        assert_eq!(next.host, "b");

        // The old leader counted the lease of the old instance, and knows nothing of the new one. The members elect again
        // when it is back, which may take longer than a short time to live allows.
        scene.network.heal("a");
        scene.network.heal(leader);
        let (first, joined) = scene.ready(&scene.a);
        assert_eq!(joined, next);
        scene.assert_writes(next.fence, LONG);
        first.stop();
        second.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()).len(), 2);
    });
}

#[test]
fn g10_service_stays_when_its_host_is_on_the_side_of_the_majority() {
    Scene::run(LONG, async |scene| {
        let (first, ready) = scene.ready(&scene.a);
        let leader = MEMBERS[scene.cluster.leader().await];
        scene.network.cut(leader);
        scene.assert_writes(ready.fence, LONG * 2);
        scene.network.heal(leader);
        scene.assert_writes(ready.fence, LONG);
        first.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()), [ready.fence]);
    });
}

#[test]
fn g3_service_of_a_killed_link_stops_at_once_and_moves_after_its_lease() {
    Scene::run(SHORT, async |scene| {
        let (mut first, ready) = scene.ready(&scene.a);
        let (mut second, _) = scene.ready(&scene.b);
        first.signal(Signal::KILL);
        first.wait();
        scene.a.wait_stopped();
        assert!(
            scene.view().await.found.is_some(),
            "the service stopped only with its lease"
        );
        assert_service_gone(&mut second);
        let (second, next) = scene.successor(&scene.b, ready.fence);
        assert_eq!(next.host, "b");
        second.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()).len(), 2);
    });
}

#[test]
fn g10_fuse_ends_a_suspended_link_before_the_service_moves() {
    Scene::run(SHORT, async |scene| {
        let (mut first, ready) = scene.ready(&scene.a);
        let (mut second, _) = scene.ready(&scene.b);
        let suspended = Instant::now();
        first.signal(Signal::STOP);
        assert_service_gone(&mut second);
        let (second, next) = scene.successor(&scene.b, ready.fence);
        scene.assert_writes(next.fence, (SHORT * 2).saturating_sub(suspended.elapsed()));
        // The link was killed when it was suspended, so there is nothing to resume.
        first.signal(Signal::CONT);
        let (status, text) = first.wait();
        assert_eq!(status.signal(), Some(9), "{text}");
        assert!(text.contains("killing the link"), "{text}");
        second.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()).len(), 2);
    });
}

#[test]
fn g10_link_ends_by_its_own_clock_when_its_fuse_is_suspended() {
    Scene::run(SHORT, async |scene| {
        let (mut first, ready) = scene.ready(&scene.a);
        let fuse = Pid::from_raw(children(first.pid())[0].cast_signed()).unwrap();
        kill_process(fuse, Signal::STOP).unwrap();
        scene.network.cut("a");
        let (second, _) = scene.successor(&scene.b, ready.fence);
        // The exit of the link makes the fuse's process group an orphan, so the kernel resumes the fuse.
        assert_lost(&mut first);
        scene.a.wait_stopped();
        scene.network.heal("a");
        second.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()).len(), 2);
    });
}

#[test]
fn link_whose_fuse_is_killed_stops_the_service_and_releases() {
    Scene::run(SHORT, async |scene| {
        let (mut first, ready) = scene.ready(&scene.a);
        let (mut second, _) = scene.ready(&scene.b);
        let fuse = Pid::from_raw(children(first.pid())[0].cast_signed()).unwrap();
        kill_process(fuse, Signal::KILL).unwrap();
        let (status, text) = first.wait();
        assert_eq!(status.code(), Some(4), "{text}");
        assert!(text.contains("the fuse has exited"), "{text}");
        scene.a.wait_stopped();
        assert_service_gone(&mut second);
        let (second, _) = scene.successor(&scene.b, ready.fence);
        second.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()).len(), 2);
    });
}

/// No program of a frozen host can run, so its service may write again before its fuse runs. The token tells its writes
/// from those of the new service.
#[test]
fn service_of_a_frozen_host_is_killed_when_the_host_thaws() {
    Scene::run(SHORT, async |scene| {
        let (mut first, ready) = scene.ready(&scene.a);
        scene.network.signal("a", Signal::STOP);
        let (second, next) = scene.successor(&scene.b, ready.fence);
        assert!(next.fence > ready.fence, "the token does not grow");
        scene.assert_writes(next.fence, SHORT);

        let thawed = Instant::now();
        scene.network.signal("a", Signal::CONT);
        let (status, text) = first.wait();
        assert!(
            status.code() == Some(4) || status.signal() == Some(9),
            "{status}: {text}"
        );
        scene.a.wait_stopped();
        assert!(
            thawed.elapsed() < Duration::from_secs(4),
            "the old service ran for {:?} after its host had thawed",
            thawed.elapsed()
        );
        second.stop();
        let new = scene.entries();
        let new: Vec<_> = new
            .into_iter()
            .filter(|entry| entry.fence == next.fence)
            .collect();
        assert_eq!(one_writer_at_a_time(&new), [next.fence]);
    });
}

#[test]
fn service_stays_when_the_leader_is_killed_and_every_member_restarted() {
    Scene::run(LONG, async |scene| {
        let (first, ready) = scene.ready(&scene.a);
        let (second, _) = scene.ready(&scene.b);
        let leader = scene.cluster.leader().await;
        scene.cluster.kill(leader);
        scene.assert_writes(ready.fence, LONG);
        scene.cluster.restart(leader);
        for member in (0..MEMBERS.len()).filter(|member| *member != leader) {
            scene.cluster.wait_ready().await;
            // Two members are a quorum only after the restarted one has caught up.
            scene.assert_writes(ready.fence, LONG / 2);
            scene.cluster.kill(member);
            scene.cluster.restart(member);
        }
        scene.assert_writes(ready.fence, LONG);
        second.stop();
        first.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()), [ready.fence]);
    });
}

#[test]
fn service_stays_when_the_leader_is_suspended_and_resumed() {
    Scene::run(LONG, async |scene| {
        let (first, ready) = scene.ready(&scene.a);
        let (second, _) = scene.ready(&scene.b);
        let leader = scene.cluster.leader().await;
        scene.cluster.signal(leader, Signal::STOP);
        scene.assert_writes(ready.fence, LONG * 2);
        scene.cluster.signal(leader, Signal::CONT);
        scene.assert_writes(ready.fence, LONG);
        second.stop();
        first.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()), [ready.fence]);
    });
}

/// Each renewal writes, so that the stall makes the members elect another leader. The old one would still answer
/// keep-alives.
#[test]
fn service_stays_when_the_disk_of_the_leader_stalls() {
    Scene::run(LONG, async |scene| {
        let (first, ready) = scene.ready(&scene.a);
        let leader = scene.cluster.leader().await;
        let other = (leader + 1) % MEMBERS.len();
        let old = scene.cluster.leader_of(other).await;

        let mut strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"])
            .args(["-e", "inject=fdatasync:delay_enter=12s", "-p"])
            .arg(scene.cluster.members[leader].id().to_string())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run strace: {error}"));
        let begun = Instant::now();
        while [0, old].contains(&scene.cluster.leader_of(other).await) {
            assert!(strace.try_wait().unwrap().is_none(), "strace has exited");
            assert!(begun.elapsed() < LIMIT, "the leader does not change");
            thread::sleep(Duration::from_millis(100));
        }
        scene.assert_writes(ready.fence, LONG);
        // This signal makes strace resume the member.
        kill_process(Pid::from_child(&strace), Signal::TERM).unwrap();
        strace.wait().unwrap();
        scene.assert_writes(ready.fence, LONG);
        first.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()), [ready.fence]);
    });
}

#[test]
fn g10_service_of_one_host_stops_when_it_is_cut_and_starts_there_when_it_is_healed() {
    Scene::run(SHORT, async |scene| {
        let file = scene.log.with_file_name("procref.toml");
        describe(&file, &scene.url, "a", WRITER);
        let serve = scene.a.serve(&file);
        let options = [&WAIT[..], &["--at", "a"]].concat();
        let mut client = scene.b.start(&scene.url, &options, WRITER);
        let ready = client.ready().expect("a ready link");
        assert_eq!(ready.host, "a");

        scene.network.cut("a");
        scene.a.wait_stopped();
        assert_service_gone(&mut client);
        let mut client = scene.b.start(&scene.url, &options, WRITER);
        // Only time shows that no other host starts the service.
        let entries = scene.entries();
        thread::sleep(SHORT);
        assert_eq!(scene.entries(), entries);

        scene.network.heal("a");
        let next = client.ready().expect("a ready link");
        assert_eq!(next.host, "a");
        assert!(next.fence > ready.fence);
        client.stop();
        scene.a.wait_stopped();
        serve.stop();
        assert_eq!(
            one_writer_at_a_time(&scene.entries()),
            [ready.fence, next.fence]
        );
    });
}

#[test]
fn g10_service_stops_while_the_quorum_is_lost_and_starts_after_it() {
    lose_the_quorum(Duration::ZERO);
}

#[test]
#[ignore = "takes more than a minute; scripts/etcd-storm.sh runs it"]
fn g10_service_stops_while_the_quorum_is_lost_for_a_minute_and_starts_after_it() {
    lose_the_quorum(Duration::from_secs(60));
}

/// Cuts two members for at least this time. No host must start the service before they are back.
fn lose_the_quorum(time: Duration) {
    Scene::run(SHORT, async |scene| {
        let begun = Instant::now();
        let (mut first, ready) = scene.ready(&scene.a);
        let (mut second, _) = scene.ready(&scene.b);
        for member in ["m0", "m1"] {
            scene.network.cut(member);
        }
        assert_lost(&mut first);
        assert_lost(&mut second);
        scene.a.wait_stopped();
        let (status, text) = scene.start(&scene.c).wait();
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(
            text.contains("gave no answer") && text.contains("has a quorum"),
            "{text}"
        );
        let entries = scene.entries();
        while begun.elapsed() < time {
            let (status, text) = scene.start(&scene.b).wait();
            assert_eq!(status.code(), Some(1), "{text}");
        }
        assert_eq!(scene.entries(), entries);
        for member in ["m0", "m1"] {
            scene.network.heal(member);
        }
        scene.cluster.wait_ready().await;
        let (third, _) = scene.successor(&scene.c, ready.fence);
        third.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()).len(), 2);
    });
}

#[test]
fn g10_service_stops_when_all_members_are_killed_and_starts_after_their_restart() {
    Scene::run(SHORT, async |scene| {
        let (mut first, ready) = scene.ready(&scene.a);
        let (mut second, _) = scene.ready(&scene.b);
        for member in 0..MEMBERS.len() {
            scene.cluster.kill(member);
        }
        assert_lost(&mut first);
        assert_lost(&mut second);
        scene.a.wait_stopped();
        // Longer than the leases, which nobody can end before their members are back.
        thread::sleep(SHORT);
        for member in 0..MEMBERS.len() {
            scene.cluster.restart(member);
        }
        scene.cluster.wait_ready().await;
        let (second, _) = scene.successor(&scene.b, ready.fence);
        second.stop();
        assert_eq!(one_writer_at_a_time(&scene.entries()).len(), 2);
    });
}
