//! An etcd for tests, on the loopback interface.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub mod host;

use etcd_client::{Client, ConnectOptions};
use procref_etcd::registry::etcd::Etcd;
use procref_etcd::registry::{Registry, Reply, Request, View};
use rustix::process::{Pid, Signal, kill_process};

/// The time to live of the leases of [`Cluster::registry`].
pub const TTL: Duration = Duration::from_secs(10);

/// Members of etcd on the loopback interface, which end with this value.
pub struct Cluster {
    pub members: Vec<Child>,
    pub endpoints: Vec<String>,
    options: ConnectOptions,
    _data: tempfile::TempDir,
}

impl Cluster {
    /// Starts this many members, and waits until they have a leader.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, "http", &[], ConnectOptions::new()).await
    }

    /// Starts members whose clients use this scheme and these options.
    pub async fn start_with(
        count: usize,
        scheme: &str,
        arguments: &[&str],
        options: ConnectOptions,
    ) -> Self {
        let program = std::env::var("PROCREF_TEST_ETCD").unwrap_or_else(|_| "etcd".to_owned());
        let data = tempfile::tempdir().unwrap();
        let listeners: Vec<_> = (0..2 * count)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let urls: Vec<_> = listeners
            .iter()
            .map(|listener| format!("http://{}", listener.local_addr().unwrap()))
            .collect();
        drop(listeners);
        let (clients, peers) = urls.split_at(count);
        let clients: Vec<_> = clients
            .iter()
            .map(|url| url.replace("http", scheme))
            .collect();
        let cluster = (0..count)
            .map(|member| format!("m{member}={}", peers[member]))
            .collect::<Vec<_>>()
            .join(",");
        let start = |member: usize| {
            let log = std::fs::File::create(data.path().join(format!("log{member}"))).unwrap();
            Command::new(&program)
                .args([
                    "--name",
                    &format!("m{member}"),
                    "--initial-cluster",
                    &cluster,
                ])
                .args([
                    "--listen-client-urls",
                    &clients[member],
                    "--advertise-client-urls",
                    &clients[member],
                ])
                .args([
                    "--listen-peer-urls",
                    &peers[member],
                    "--initial-advertise-peer-urls",
                    &peers[member],
                ])
                .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
                .args(arguments)
                .arg("--data-dir")
                .arg(data.path().join(format!("data{member}")))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap_or_else(|error| {
                    panic!("cannot run {program}: {error} (install Debian's etcd-server)")
                })
        };
        let members = (0..count).map(start).collect();
        let cluster = Self {
            members,
            endpoints: clients,
            options,
            _data: data,
        };
        let mut registry = cluster.registry("probe", "nobody");
        let begun = Instant::now();
        while let Err(error) = registry.perform(&Request::Read).await {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "etcd is not ready: {error}"
            );
        }
        cluster
    }

    /// Returns the URL of the cluster.
    pub fn url(&self, options: &str) -> String {
        let members: Vec<_> = self
            .endpoints
            .iter()
            .map(|url| {
                url.trim_start_matches("http://")
                    .trim_start_matches("https://")
            })
            .collect();
        format!("etcd://{}/test{options}", members.join(","))
    }

    pub fn registry(&self, service: &str, host: &str) -> Etcd {
        Etcd::new(&self.endpoints, &self.options, "test", service, host, TTL)
    }

    pub fn signal(&self, member: usize, signal: Signal) {
        let pid = Pid::from_child(&self.members[member]);
        kill_process(pid, signal).unwrap();
    }

    pub async fn leader(&self) -> usize {
        for (member, endpoint) in self.endpoints.iter().enumerate() {
            let mut client = Client::connect([endpoint], None).await.unwrap();
            let status = client.status().await.unwrap();
            if status.header().unwrap().member_id() == status.leader() {
                return member;
            }
        }
        panic!("no leader");
    }

    pub async fn view(&self, service: &str, host: &str) -> View {
        let mut registry = self.registry(service, host);
        loop {
            if let Ok(Reply::View(view)) = registry.perform(&Request::Read).await {
                return view;
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}
