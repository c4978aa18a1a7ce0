//! The program `procref-etcd link` on a real etcd: two or more hosts on one machine, each with its runtime directory.

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::Cluster;
use common::host::{
    Entry, Host, LIMIT, Ready, Running, SERVICE, STUBBORN, children, entries, program,
};
use procref::{SharedService, State};
use procref_etcd::registry::View;
use procref_etcd::{LinkSpec, link};
use rustix::process::{Pid, Signal, kill_process};

/// Short, so that the loss of a host does not take long, and long enough for a machine with load.
const TTL: &str = "?ttl=6s";

struct Scene {
    cluster: Cluster,
    a: Host,
    b: Host,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new(members: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        Self {
            cluster: Cluster::start(members).await,
            a: Host::new("a", &log),
            b: Host::new("b", &log),
            log,
            _dir: dir,
        }
    }

    fn start(&self, host: &Host, script: &str) -> Running {
        host.start(&self.cluster.url(TTL), &[], script)
    }

    fn entries(&self) -> Vec<Entry> {
        entries(&self.log)
    }

    /// Returns the first instance that is newer than this one, with its link. Until the lease of a dead host ends, a link
    /// may join the instance of that host, and then reports its end.
    fn successor(&self, host: &Host, first: &Ready) -> (Running, Ready) {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < LIMIT, "the service does not move");
            let mut link = self.start(host, SERVICE);
            match link.ready() {
                Some(ready) if ready.fence != first.fence => return (link, ready),
                _ => {
                    let (status, text) = link.wait();
                    assert_eq!(status.code(), Some(3), "{text}");
                }
            }
        }
    }
}

/// Checks that the last sign of the first service is older than the start of the second one.
fn assert_no_overlap(entries: &[Entry]) {
    let starts: Vec<_> = entries
        .iter()
        .filter(|entry| entry.what == "start")
        .collect();
    assert_eq!(starts.len(), 2, "{entries:?}");
    let (first, second) = (starts[0], starts[1]);
    assert!(
        second.fence > first.fence,
        "the token does not grow: {entries:?}"
    );
    let last = entries
        .iter()
        .filter(|entry| entry.fence == first.fence)
        .map(|entry| entry.time)
        .max();
    assert!(
        last < Some(second.time),
        "two services at once: {entries:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn link_shares_one_service_among_hosts_and_leaves_nothing() {
    let scene = Scene::new(1).await;
    let mut first = scene.start(&scene.a, SERVICE);
    let ready = first.ready().unwrap();
    assert_eq!(
        (ready.address.as_str(), ready.host.as_str()),
        ("a.example:7", "a")
    );
    let mut second = scene.start(&scene.b, SERVICE);
    assert_eq!(second.ready().unwrap(), ready);
    assert_eq!(
        scene.a.service("db@instance").status().unwrap().clients(),
        1
    );
    assert_eq!(
        scene.b.service("db@instance").status().unwrap().state(),
        State::Absent
    );
    let fuses = [children(first.pid()), children(second.pid())].concat();
    assert_eq!(fuses.len(), 2, "each link has a fuse");

    second.stop();
    first.stop();
    let what: Vec<_> = scene
        .entries()
        .iter()
        .map(|entry| entry.what.clone())
        .collect();
    assert_eq!(what, ["start", "stop"]);
    assert_eq!(scene.entries()[0].fence, ready.fence);
    scene.a.wait_stopped();
    assert_eq!(
        scene.cluster.view("db", "c").await,
        View::default(),
        "keys are left"
    );
    let live = fuses.iter().filter(|pid| procref::process::is_alive(**pid));
    assert_eq!(live.count(), 0, "a fuse is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn link_exits_with_3_when_the_service_exits() {
    let scene = Scene::new(1).await;
    let mut first = scene.start(&scene.a, SERVICE);
    let ready = first.ready().unwrap();
    let mut second = scene.start(&scene.b, SERVICE);
    second.ready().unwrap();
    let instance = scene.a.service("db@instance").status().unwrap();
    procref::process::kill(instance.instance().unwrap().pid());
    for link in [&mut first, &mut second] {
        let (status, text) = link.wait();
        assert_eq!(status.code(), Some(3), "{text}");
        assert!(text.contains("the service has ended"), "{text}");
    }
    let (third, next) = scene.successor(&scene.b, &ready);
    assert_eq!(next.address, "b.example:7");
    third.stop();
    scene.a.wait_stopped();
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_service_stops_gracefully_at_once_when_its_link_is_killed() {
    let scene = Scene::new(1).await;
    let mut first = scene.start(&scene.a, SERVICE);
    let ready = first.ready().unwrap();
    let killed = Instant::now();
    first.signal(Signal::KILL);
    first.wait();
    scene.a.wait_stopped();
    assert!(
        killed.elapsed() < Duration::from_secs(3),
        "stopped only after {:?}",
        killed.elapsed()
    );
    assert_eq!(scene.entries().last().unwrap().what, "stop");

    // The next link of the host replaces what the dead one has left, without waiting for the lease.
    let mut next = scene.start(&scene.a, SERVICE);
    assert!(next.ready().unwrap().fence > ready.fence);
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "it waits for the lease"
    );
    next.stop();
    assert_eq!(scene.cluster.view("db", "c").await, View::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_suspended_link_is_killed_and_its_service_stopped_before_another_starts() {
    let scene = Scene::new(1).await;
    let mut first = scene.start(&scene.a, SERVICE);
    let ready = first.ready().unwrap();
    first.signal(Signal::STOP);
    let (second, _) = scene.successor(&scene.b, &ready);
    let (status, text) = first.wait();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9),
        "{text}"
    );
    assert!(text.contains("killing the link"), "{text}");
    assert_no_overlap(&scene.entries());
    assert_eq!(
        scene.entries()[1].what,
        "stop",
        "the service was stopped without its signal"
    );
    second.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_suspended_link_without_a_service_is_killed_before_its_lease_ends() {
    let scene = Scene::new(1).await;
    let mut first = scene.start(&scene.a, SERVICE);
    first.ready().unwrap();
    let mut second = scene.start(&scene.b, SERVICE);
    second.ready().unwrap();
    second.signal(Signal::STOP);
    second.wait();
    let view = scene.cluster.view("db", "b").await;
    assert!(view.own.is_some(), "the lease ended before the link");
    first.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_fuse_kills_the_service_when_its_supervisor_is_dead_too() {
    let scene = Scene::new(1).await;
    let mut first = scene.start(&scene.a, STUBBORN);
    let ready = first.ready().unwrap();
    let status = scene.a.service("db@instance").status().unwrap();
    procref::process::kill(status.supervisor().unwrap());
    first.signal(Signal::STOP);
    let (second, _) = scene.successor(&scene.b, &ready);
    assert_no_overlap(&scene.entries());
    second.stop();
    let (_, text) = first.wait();
    assert!(
        text.contains("processes of `db@instance` that were left"),
        "{text}"
    );
    scene.a.wait_stopped();
}

#[tokio::test(flavor = "multi_thread")]
async fn link_exits_with_4_when_its_fuse_is_killed() {
    let scene = Scene::new(1).await;
    let mut first = scene.start(&scene.a, SERVICE);
    first.ready().unwrap();
    let fuse = children(first.pid());
    kill_process(
        Pid::from_raw(i32::try_from(fuse[0]).unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    let (status, text) = first.wait();
    assert_eq!(status.code(), Some(4), "{text}");
    assert!(text.contains("fuse has exited"), "{text}");
    scene.a.wait_stopped();
    assert_eq!(scene.entries().last().unwrap().what, "stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_links_exit_with_4_and_the_service_stops_when_the_quorum_is_lost() {
    let scene = Scene::new(3).await;
    let mut first = scene.start(&scene.a, SERVICE);
    let ready = first.ready().unwrap();
    let mut second = scene.start(&scene.b, SERVICE);
    second.ready().unwrap();
    let lost = Instant::now();
    for member in 0..2 {
        scene.cluster.signal(member, Signal::STOP);
    }
    for link in [&mut first, &mut second] {
        let (status, text) = link.wait();
        assert_eq!(status.code(), Some(4), "{text}");
        assert!(
            text.contains("gave no answer for the keys below test/procref/1/db/"),
            "{text}"
        );
    }
    assert!(
        lost.elapsed() < Duration::from_secs(6),
        "after {:?}",
        lost.elapsed()
    );
    scene.a.wait_stopped();
    assert_eq!(scene.entries().last().unwrap().what, "stop");
    for member in 0..2 {
        scene.cluster.signal(member, Signal::CONT);
    }
    let (next, _) = scene.successor(&scene.b, &ready);
    next.stop();
    assert_no_overlap(&scene.entries());
}

#[tokio::test(flavor = "multi_thread")]
async fn manual_takeover_starts_no_service_after_one_that_vanished() {
    let scene = Scene::new(1).await;
    let url = scene.cluster.url(TTL);
    let manual = ["--takeover", "manual"];
    let mut first = scene.a.start(&url, &manual, SERVICE);
    first.ready().unwrap();
    first.signal(Signal::KILL);
    first.wait();
    // The instance goes with its lease.
    while scene.cluster.view("db", "c").await.found.is_some() {}
    let mut second = scene.b.start(&url, &manual, SERVICE);
    let (status, text) = second.wait();
    assert_eq!(status.code(), Some(5), "{text}");
    assert!(text.contains("procref-etcd forget"), "{text}");
    let starts = || {
        scene
            .entries()
            .iter()
            .filter(|entry| entry.what == "start")
            .count()
    };
    assert_eq!(starts(), 1);

    let forget = || {
        let output = program(&["forget", "--cluster", &url, "db"])
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), text)
    };
    assert_eq!(
        forget(),
        (
            true,
            "`db` had vanished; the next link may start it\n".to_owned()
        )
    );
    assert_eq!(
        forget(),
        (true, "no instance of `db` had vanished\n".to_owned())
    );
    let mut third = scene.b.start(&url, &manual, SERVICE);
    third.ready().unwrap();
    let (success, text) = forget();
    assert!(
        !success && text.contains("an instance is registered for b"),
        "{text}"
    );
    third.stop();
}

#[test]
fn link_fails_with_the_reason_when_it_cannot_begin() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new("a", &dir.path().join("log"));
    let cases = [
        (
            "etcd://127.0.0.1:1",
            vec!["--wait-timeout", "500ms"],
            1,
            "Connection refused (os error 111) (check the address, and that the member runs)",
        ),
        (
            "etcd://nowhere.invalid",
            vec!["--wait-timeout", "500ms"],
            1,
            "(check the name of the member)",
        ),
        (
            "etcd://127.0.0.1:1?ttl=3s",
            vec![],
            1,
            "too short for a grace of 500 ms",
        ),
        (
            "etcd://u@127.0.0.1:1",
            vec![],
            1,
            "PROCREF_CLUSTER_PASSWORD",
        ),
        (
            "etcds://127.0.0.1:1?ca=/none",
            vec![],
            1,
            "/none: No such file",
        ),
        ("etcd://u:p@127.0.0.1:1", vec![], 2, "contains a password"),
        ("http://127.0.0.1:1", vec![], 2, "begins neither"),
    ];
    for (url, options, code, reason) in cases {
        let mut link = host.start(url, &options, SERVICE);
        let (status, text) = link.wait();
        assert_eq!(status.code(), Some(code), "{url}: {text}");
        assert!(text.contains(reason), "{url}: {text}");
        assert!(!text.contains("panicked"), "{url}: {text}");
    }
}

/// The link as the command of a local service, as the library and the command line use it.
#[tokio::test(flavor = "multi_thread")]
async fn local_clients_share_a_link_that_other_hosts_keep() {
    let scene = Scene::new(1).await;
    let cluster = scene.cluster.url(TTL).parse().unwrap();
    let spec = LinkSpec::new("db", "sh")
        .args(["-c", SERVICE])
        .ready("started")
        .grace(Duration::from_millis(500))
        .advertise("a.example:7")
        .program(env!("CARGO_BIN_EXE_procref-etcd"));
    let dir = tempfile::tempdir().unwrap();
    let service = SharedService::builder("db")
        .base_dir(dir.path())
        .command(link(&cluster, &spec).env("LOG", &scene.log))
        .build()
        .unwrap();
    let handle = service.acquire().await.unwrap();
    let info = handle.info();
    assert_eq!(info.port(), 7);
    assert_eq!(info.get_metadata("address"), Some("a.example:7"));
    assert_eq!(info.get_metadata("host"), Some("a.example"));
    assert_eq!(
        info.get_metadata("fence"),
        Some(scene.entries()[0].fence.to_string().as_str())
    );
    let pid = info.pid();
    assert_eq!(service.acquire().await.unwrap().pid(), pid);

    // The service stays for the other host, without a client here.
    let mut other = scene.start(&scene.b, SERVICE);
    other.ready().unwrap();
    let begun = Instant::now();
    while !service.status().unwrap().is_pinned() {
        assert!(
            procref::process::is_alive(pid) && begun.elapsed() < LIMIT,
            "the link has no pin"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    handle.release().await.unwrap();
    let handle = service.acquire().await.unwrap();
    assert_eq!(handle.pid(), pid, "the link stopped");
    handle.release().await.unwrap();
    other.stop();
    assert!(service.wait_stopped_blocking(LIMIT).unwrap());
    let what: Vec<_> = scene
        .entries()
        .iter()
        .map(|entry| entry.what.clone())
        .collect();
    assert_eq!(what, ["start", "stop"]);
    assert_eq!(scene.cluster.view("db", "c").await, View::default());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "only the log of the instance is kept"
    );
}
