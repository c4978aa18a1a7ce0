//! Many clients on many hosts start at once. The hosts are runtime directories, without networks of their own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use procref::{SharedService, State};
use procref_etcd::registry::View;

use crate::common::Cluster;
use crate::common::host::{WRITER, entries};
use crate::scene::one_writer_at_a_time;

/// Longer than the start of all clients takes.
const LIMIT: Duration = Duration::from_secs(240);

/// A client that holds the service until all clients have it.
const CLIENT: &str =
    r#"echo "$PROCREF_META_FENCE" >>clients; while [ ! -e go ]; do sleep 0.2; done"#;

#[tokio::test(flavor = "multi_thread")]
async fn g1_clients_of_many_hosts_that_start_at_once_share_one_service() {
    race(6, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts 800 clients; scripts/etcd-storm.sh runs it"]
async fn g1_clients_of_40_hosts_that_start_at_once_share_one_service() {
    race(40, 20).await;
}

async fn race(hosts: usize, clients: usize) {
    let cluster = Cluster::start(3).await;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("writer"), WRITER).unwrap();
    let url = cluster.url("?ttl=30s");
    let dirs: Vec<_> = (0..hosts)
        .map(|host| dir.path().join(format!("h{host}")))
        .collect();
    let mut started = Clients(Vec::new());
    for _ in 0..clients {
        for host in &dirs {
            started.0.push(client(dir.path(), host, &url));
        }
    }

    let begun = Instant::now();
    let ready = || {
        let text = fs::read_to_string(dir.path().join("clients")).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    while ready().len() < hosts * clients {
        assert!(
            begun.elapsed() < LIMIT,
            "only {} clients are ready",
            ready().len()
        );
        for child in &mut started.0 {
            let exited = child.try_wait().unwrap();
            assert!(exited.is_none(), "a client has ended: {exited:?}");
        }
        thread::sleep(Duration::from_millis(100));
    }
    let log = dir.path().join("log");
    let fences = one_writer_at_a_time(&entries(&log));
    let [fence] = fences[..] else {
        panic!("more than one service: {fences:?}");
    };
    let fence = fence.to_string();
    assert!(ready().iter().all(|other| *other == fence), "{:?}", ready());

    fs::write(dir.path().join("go"), "").unwrap();
    for child in &mut started.0 {
        assert!(child.wait().unwrap().success());
    }
    for host in &dirs {
        for name in ["db", "db@instance"] {
            let service = SharedService::builder(name).base_dir(host).build().unwrap();
            assert!(service.wait_stopped_blocking(LIMIT).unwrap());
            assert_eq!(service.status().unwrap().state(), State::Absent);
        }
    }
    assert_eq!(cluster.view("db", "nobody").await, View::default());
    assert_eq!(one_writer_at_a_time(&entries(&log)).len(), 1);
}

fn client(dir: &Path, host: &Path, url: &str) -> Child {
    let program = std::env::var("PROCREF_TEST_PROCREF").unwrap_or_else(|_| "procref".to_owned());
    let name = host.file_name().unwrap().to_str().unwrap();
    let link = format!(
        "{} link --cluster {url} --host {name} --runtime-dir {{dir}} --ready started --grace 500ms \
         -- db sh {}/writer",
        env!("CARGO_BIN_EXE_procref-etcd"),
        dir.display()
    );
    let mut command = Command::new(&program);
    command
        .args(["run", "db", "--ready", "notify", "--start-timeout", "200s"])
        .args(["--start", &link, "--runtime-dir"])
        .arg(host)
        .args(["--", "sh", "-c", CLIENT])
        .env("LOG", dir.join("log"))
        .env_remove("PROCREF_CLUSTER")
        .current_dir(dir)
        .stdin(Stdio::null());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error} (set PROCREF_TEST_PROCREF)"))
}

/// Clients, which are killed if the test fails. Then the supervisors stop the links.
struct Clients(Vec<Child>);

impl Drop for Clients {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
