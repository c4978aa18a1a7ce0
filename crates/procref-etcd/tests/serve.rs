//! Services that run only at one host, and `procref-etcd serve` on that host, with a real etcd.

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::Cluster;
use common::host::{Host, LIMIT, Running, SERVICE, describe, entries, program};
use procref_etcd::registry::View;
use rustix::process::Signal;

const TTL: &str = "?ttl=6s";

/// The options of links: only the host `gpu` may run the service.
const AT: [&str; 2] = ["--at", "gpu"];

struct Scene {
    cluster: Cluster,
    gpu: Host,
    a: Host,
    log: PathBuf,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let file = dir.path().join("procref.toml");
        let cluster = Cluster::start(1).await;
        describe(&file, &cluster.url(TTL), "gpu", SERVICE);
        Self {
            cluster,
            gpu: Host::new("gpu", &log),
            a: Host::new("a", &log),
            log,
            file,
            _dir: dir,
        }
    }

    fn link(&self) -> Running {
        self.a.start(&self.cluster.url(TTL), &AT, SERVICE)
    }

    fn log(&self) -> Vec<String> {
        let entries = entries(&self.log).into_iter();
        entries.map(|entry| entry.what).collect()
    }

    /// Waits until the keys are as a host without a reference must see them.
    async fn wait_keys(&self, expected: impl Fn(&View) -> bool) {
        let begun = Instant::now();
        loop {
            let view = self.cluster.view("db", "observer").await;
            if expected(&view) {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{view:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_starts_the_service_for_another_host_and_stops_it_after_the_last() {
    let scene = Scene::new().await;
    let serve = scene.gpu.serve(&scene.file);
    let mut fences = Vec::new();
    for _ in 0..2 {
        let mut link = scene.link();
        let ready = link.ready().expect("a ready link");
        assert_eq!(ready.host, "gpu");
        fences.push(ready.fence);
        link.stop();
        scene.gpu.wait_stopped();
        // The link of the service's host removes its keys after that.
        scene.wait_keys(|view| *view == View::default()).await;
    }
    assert!(fences[0] < fences[1], "{fences:?}");
    assert_eq!(scene.log(), ["start", "stop", "start", "stop"]);
    let local = scene.a.service("db@instance").status().unwrap();
    assert_eq!(local.state(), procref::State::Absent);
    serve.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn link_waits_for_its_host_and_releases_its_reference_when_it_is_stopped() {
    let scene = Scene::new().await;
    let mut link = scene.link();
    scene
        .wait_keys(|view| view.others && view.found.is_none())
        .await;
    link.signal(Signal::TERM);
    let (status, text) = link.wait();
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("procref-etcd serve"), "{text}");
    assert_eq!(scene.cluster.view("db", "observer").await, View::default());
    assert_eq!(scene.log(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_answers_a_link_that_waited_longer_than_its_lease() {
    let scene = Scene::new().await;
    let mut link = scene.link();
    scene.wait_keys(|view| view.others).await;
    // The link must renew its reference while it waits. Only time can end a lease.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let serve = scene.gpu.serve(&scene.file);
    assert_eq!(link.ready().expect("a ready link").host, "gpu");
    link.stop();
    scene.gpu.wait_stopped();
    serve.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_stops_the_service_in_order_when_it_is_stopped() {
    let scene = Scene::new().await;
    let serve = scene.gpu.serve(&scene.file);
    let mut link = scene.link();
    let first = link.ready().expect("a ready link");
    serve.stop();
    assert_eq!(scene.log(), ["start", "stop"]);
    let (status, text) = link.wait();
    assert_eq!(status.code(), Some(3), "{text}");
    let view = scene.cluster.view("db", "observer").await;
    assert_eq!((view.found, view.started), (None, false));

    let mut link = scene.link();
    let serve = scene.gpu.serve(&scene.file);
    assert!(link.ready().expect("a ready link").fence > first.fence);
    link.stop();
    scene.gpu.wait_stopped();
    serve.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_starts_the_service_again_when_its_link_is_killed() {
    let scene = Scene::new().await;
    let serve = scene.gpu.serve(&scene.file);
    let mut link = scene.link();
    let first = link.ready().expect("a ready link");
    let local = scene.gpu.service("db").status().unwrap();
    let pid = local.instance().expect("a link").pid();
    procref::process::kill(pid);
    let (status, text) = link.wait();
    assert_eq!(status.code(), Some(3), "{text}");
    let begun = Instant::now();
    loop {
        let mut link = scene.link();
        if let Some(second) = link.ready() {
            assert!(second.fence > first.fence);
            link.signal(Signal::TERM);
        }
        match link.wait() {
            (status, _) if status.code() == Some(0) => break,
            // `serve` had seen the reference of the first link, which had then left, so it stopped the next instance.
            (status, text) => assert_eq!(status.code(), Some(3), "{text}"),
        }
        assert!(begun.elapsed() < LIMIT, "the service does not stay");
    }
    scene.gpu.wait_stopped();
    serve.stop();
    let log = scene.log();
    assert!(log.len() >= 4, "{log:?}");
    for pair in log.chunks(2) {
        assert_eq!(pair, ["start", "stop"], "{log:?}");
    }
}

#[test]
fn serve_refuses_a_service_that_this_host_cannot_serve() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("procref.toml");
    let cases = [
        ("cluster = 'etcd://h'\nat = 'elsewhere'", "this is"),
        ("cluster = 'etcd://h'\nat = 'anyone'", "has no `at`"),
        ("cluster = 'etcd://h'", "has no `at`"),
        ("", "has no `cluster`"),
        ("at = 'gpu'", "`at` needs `cluster`"),
    ];
    let run = |name: &str| {
        let mut command = program(&["serve", "--config", file.to_str().unwrap(), name]);
        let output = command.env("PROCREF_CLUSTER_HOST", "gpu").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    for (settings, reason) in cases {
        fs::write(&file, format!("[services.db]\nstart = 'x'\n{settings}\n")).unwrap();
        let error = run("db");
        assert!(error.contains(reason), "{settings}: {error}");
    }
    fs::write(&file, "[services.db]\nstart = 'x'\n").unwrap();
    let error = run("other");
    assert!(error.contains("it is not in"), "{error}");
}
