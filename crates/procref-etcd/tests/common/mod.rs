//! An etcd for tests, on the loopback interface.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub mod host;
pub mod netns;
pub mod proxy;

use etcd_client::{Client, ConnectOptions};
use procref_etcd::registry::etcd::Etcd;
use procref_etcd::registry::{Registry, Reply, Request, View};
use rustix::process::{Pid, Signal, kill_process};

/// The time to live of the leases of [`Cluster::registry`].
pub const TTL: Duration = Duration::from_secs(10);

/// Where a member of etcd runs.
pub struct Place {
    /// The network namespace. `None` for that of the test.
    pub space: Option<String>,
    /// The address for clients.
    pub clients: SocketAddr,
    /// The address for the other members.
    pub peers: SocketAddr,
}

/// Members of etcd, which end with this value.
pub struct Cluster {
    pub members: Vec<Child>,
    pub endpoints: Vec<String>,
    commands: Vec<Command>,
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
        let listeners: Vec<_> = (0..2 * count)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let addresses: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        drop(listeners);
        let (clients, peers) = addresses.split_at(count);
        let places = std::iter::zip(clients, peers).map(|(clients, peers)| Place {
            space: None,
            clients: *clients,
            peers: *peers,
        });
        Self::start_at(&places.collect::<Vec<_>>(), scheme, arguments, options).await
    }

    /// Starts a member at each of these places.
    pub async fn start_at(
        places: &[Place],
        scheme: &str,
        arguments: &[&str],
        options: ConnectOptions,
    ) -> Self {
        let program = std::env::var("PROCREF_TEST_ETCD").unwrap_or_else(|_| "etcd".to_owned());
        let data = tempfile::tempdir().unwrap();
        let peers = |member: usize| format!("http://{}", places[member].peers);
        let clients = |member: usize| format!("{scheme}://{}", places[member].clients);
        let cluster = (0..places.len())
            .map(|member| format!("m{member}={}", peers(member)))
            .collect::<Vec<_>>()
            .join(",");
        let command = |member: usize| {
            let (clients, peers) = (clients(member), peers(member));
            let log = std::fs::File::create(data.path().join(format!("log{member}"))).unwrap();
            let mut command = netns::within(places[member].space.as_deref(), &program);
            command
                .args(["--name", &format!("m{member}")])
                .args(["--initial-cluster", &cluster])
                .args(["--listen-client-urls", &clients])
                .args(["--advertise-client-urls", &clients])
                .args(["--listen-peer-urls", &peers])
                .args(["--initial-advertise-peer-urls", &peers])
                .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
                .args(arguments)
                .arg("--data-dir")
                .arg(data.path().join(format!("data{member}")))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log);
            command
        };
        let mut commands: Vec<_> = (0..places.len()).map(command).collect();
        let cluster = Self {
            members: commands.iter_mut().map(spawn).collect(),
            endpoints: (0..places.len()).map(clients).collect(),
            commands,
            options,
            _data: data,
        };
        cluster.wait_ready().await;
        cluster
    }

    /// Waits until a quorum answers.
    pub async fn wait_ready(&self) {
        let mut registry = self.registry("probe", "nobody");
        let begun = Instant::now();
        while let Err(error) = registry.perform(&Request::Read).await {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "etcd is not ready: {error}"
            );
        }
    }

    /// Kills a member.
    pub fn kill(&mut self, member: usize) {
        self.members[member].kill().unwrap();
        self.members[member].wait().unwrap();
    }

    /// Starts a member that was killed, with the data that it had.
    pub fn restart(&mut self, member: usize) {
        self.members[member] = spawn(&mut self.commands[member]);
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

    /// Returns the identity of the leader that a member knows. It is 0 if there is none.
    pub async fn leader_of(&self, member: usize) -> u64 {
        let endpoint = &self.endpoints[member];
        let mut client = Client::connect([endpoint], None).await.unwrap();
        client.status().await.unwrap().leader()
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

fn spawn(command: &mut Command) -> Child {
    command.spawn().unwrap_or_else(|error| {
        let program = command.get_program();
        panic!("cannot run {program:?}: {error} (install Debian's etcd-server)")
    })
}
