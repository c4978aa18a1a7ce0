//! Three hosts and three members of etcd, each in its network namespace.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use etcd_client::ConnectOptions;
use procref_etcd::registry::View;
use rustix::process::Signal;

use crate::common::host::{Entry, Host, LIMIT, Ready, Running, WRITER, entries};
use crate::common::netns::Network;
use crate::common::{Cluster, Place};

/// The namespaces of the members.
pub const MEMBERS: [&str; 3] = ["m0", "m1", "m2"];

/// The namespace of the test, which sees what a host sees.
const TEST: &str = "test";

/// The time to live where a test waits for the end of a lease. The smallest one for the grace of the hosts is 4 s.
pub const SHORT: Duration = Duration::from_secs(5);

/// The time to live where links must survive the loss of a member on a machine with load.
pub const LONG: Duration = Duration::from_secs(12);

/// The options of links.
pub const WAIT: [&str; 2] = ["--wait-timeout", "10s"];

pub struct Scene {
    pub cluster: Cluster,
    pub a: Host,
    pub b: Host,
    pub c: Host,
    pub log: PathBuf,
    /// The URL of the cluster.
    pub url: String,
    /// After the members, which have their logs and their data there.
    pub network: Network,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// Runs a test on new hosts, with this time to live of references.
    pub fn run(ttl: Duration, test: impl AsyncFnOnce(&mut Self) + Send) {
        let network = Network::new(&[&["a", "b", "c", TEST][..], &MEMBERS].concat());
        let space = network.space(TEST);
        crate::common::netns::enter(&space, move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut scene = Self::new(ttl, network).await;
                test(&mut scene).await;
                scene.finish().await;
            });
        });
    }

    async fn new(ttl: Duration, network: Network) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let places = MEMBERS.map(|member| Place {
            space: Some(network.space(member)),
            clients: (network.address(member), 2379).into(),
            peers: (network.address(member), 2380).into(),
        });
        let cluster = Cluster::start_at(&places, "http", &[], ConnectOptions::new()).await;
        let host = |name: &str| Host::in_space(name, Some(network.space(name)), &log);
        Self {
            url: cluster.url(&format!("?ttl={}s", ttl.as_secs())),
            cluster,
            a: host("a"),
            b: host("b"),
            c: host("c"),
            log,
            network,
            _dir: dir,
        }
    }

    /// Starts a link on a host.
    pub fn start(&self, host: &Host) -> Running {
        host.start(&self.url, &WAIT, WRITER)
    }

    /// Starts a link on a host, and waits until it is ready.
    pub fn ready(&self, host: &Host) -> (Running, Ready) {
        let mut link = self.start(host);
        match link.ready() {
            Some(ready) => (link, ready),
            None => panic!("the link of {} is not ready: {:?}", host.name, link.wait()),
        }
    }

    /// Returns the first instance whose token is greater than this one, with the link of this host that uses it. Until the
    /// lease of a dead host ends, a link may join the instance of that host, and then reports its end.
    pub fn successor(&self, host: &Host, fence: i64) -> (Running, Ready) {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < LIMIT, "the service does not move");
            let mut link = self.start(host);
            match link.ready() {
                Some(ready) if ready.fence > fence => return (link, ready),
                _ => {
                    let (status, text) = link.wait();
                    assert_eq!(status.code(), Some(3), "{text}");
                }
            }
        }
    }

    pub fn entries(&self) -> Vec<Entry> {
        entries(&self.log)
    }

    /// Waits until the service has written with this token for as long as `time` from now.
    pub fn assert_writes(&self, fence: i64, time: Duration) {
        let newest = || self.entries().last().map(|entry| (entry.fence, entry.time));
        let Some((_, start)) = newest() else {
            panic!("nothing was written");
        };
        let begun = Instant::now();
        loop {
            let (writer, now) = newest().unwrap_or_default();
            assert_eq!(writer, fence, "another service writes");
            if now - start >= time.as_nanos() {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "the service does not write");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the keys as a host sees them that has no link.
    pub async fn view(&self) -> View {
        self.cluster.view("db", "nobody").await
    }

    /// Checks that the hosts are as before the test: no process, no kernel object and no key is left, at the latest when
    /// the last lease has ended.
    async fn finish(&self) {
        let begun = Instant::now();
        for host in [&self.a, &self.b, &self.c] {
            host.wait_stopped();
            while !self.network.pids(&host.name).is_empty() {
                assert!(begun.elapsed() < LIMIT, "{} has processes", host.name);
                thread::sleep(Duration::from_millis(20));
            }
        }
        while self.view().await != View::default() {
            assert!(begun.elapsed() < LIMIT, "keys: {:?}", self.view().await);
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // After a failure, processes may be suspended, and kernel objects would outlive processes that are killed.
        for host in [&self.a, &self.b, &self.c] {
            self.network.signal(&host.name, Signal::CONT);
            let _ = host.service("db@instance").force_stop_blocking();
        }
    }
}

/// Checks the log of all services: each one began after the last sign of the one before, with a greater token. Returns the
/// tokens.
pub fn one_writer_at_a_time(entries: &[Entry]) -> Vec<i64> {
    let mut fences = Vec::new();
    for pair in entries.windows(2) {
        let [before, after] = pair else { continue };
        // The order of the lines is that of the writes, and the times do not depend on when a process wrote its line.
        assert!(
            before.fence <= after.fence && before.time <= after.time,
            "two services wrote at once: {before:?} is before {after:?}"
        );
    }
    for entry in entries {
        let is_new = fences.last() != Some(&entry.fence);
        assert_eq!(is_new, entry.what == "start", "{entry:?}");
        if is_new {
            fences.push(entry.fence);
        }
    }
    fences
}
