//! The command line `procref` with services of a cluster, on a real etcd. `PROCREF_TEST_PROCREF` is the program `procref`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::Cluster;
use common::host::LIMIT;
use procref::Services;
use procref_etcd::registry::View;

/// A host: a directory for the runtime directory, beside the projects.
struct Host<'a> {
    name: &'a str,
    project: &'a Path,
    runtime_dir: PathBuf,
}

impl Host<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let procref = std::env::var_os("PROCREF_TEST_PROCREF")
            .expect("PROCREF_TEST_PROCREF: the path of the program procref");
        let etcd = Path::new(env!("CARGO_BIN_EXE_procref-etcd"))
            .parent()
            .unwrap();
        let path = std::env::join_paths([etcd, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        let mut command = Command::new(procref);
        command
            .args(args)
            .current_dir(self.project)
            .env("PATH", path)
            .env("PROCREF_RUNTIME_DIR", &self.runtime_dir)
            .env("PROCREF_CLUSTER_HOST", self.name)
            .env("PROCREF_ADVERTISE_HOST", format!("{}.test", self.name))
            .env_remove("PROCREF_CLUSTER")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(args).output().unwrap();
        let (stdout, stderr) = (
            String::from_utf8(stdout).unwrap(),
            String::from_utf8(stderr).unwrap(),
        );
        assert!(status.success(), "{args:?}: {stdout}{stderr}");
        stdout
    }

    /// Waits until no service of the host runs.
    fn wait_stopped(&self) {
        let begun = std::time::Instant::now();
        loop {
            let output = self.run(&["ps", "--all", "--json"]);
            let listed: serde_json::Value = serde_json::from_str(&output).unwrap();
            let services = listed["services"].as_array().unwrap();
            if services.iter().all(|service| service["state"] == "absent") {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{output}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Writes what the service sees to the file `seen`, and then serves.
const SERVICE: &str = r#"
start = ["sh", "-c", "echo $PROCREF_FENCE $URL $PASSWORD $(cat {data}/filled) >seen; exec sleep 1000", "{port}"]
ready = "cmd:test -e seen"
init = "touch {data}/filled"
data = "data"
env = { URL = "x://{port}", PASSWORD = "secret {text}" }
grace = "500ms"
advertise = "{host}.example:{port}"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn run_shares_a_service_of_the_file_among_hosts() {
    let etcd = Cluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path().join("app");
    fs::create_dir(&project).unwrap();
    let url = etcd.url("");
    let text = format!(
        "[clusters.ci]\nurl = \"{url}\"\nttl = \"6s\"\n[services.db]\ncluster = \"ci\"\n{SERVICE}"
    );
    fs::write(project.join("procref.toml"), text).unwrap();
    let [a, b] = ["a", "b"].map(|name| Host {
        name,
        project: &project,
        runtime_dir: dir.path().join(name),
    });
    let show = "echo $PROCREF_ADDRESS $PROCREF_HOST:$PROCREF_PORT $PROCREF_FENCE";
    let mut client = a.command(&["run", "db", "--", "sh", "-c", &format!("{show}; read _")]);
    let mut client = client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(client.stdout.take().unwrap()),
        &mut first,
    )
    .unwrap();
    let words: Vec<_> = first.split_whitespace().collect();
    assert_eq!(words[0], words[1], "{first}");
    assert!(words[0].starts_with("a.test.example:"), "{first}");

    assert_eq!(b.run(&["run", "db", "--", "sh", "-c", show]), first);
    let seen = fs::read_to_string(project.join("seen")).unwrap();
    let port = words[0].rsplit_once(':').unwrap().1;
    assert_eq!(seen, format!("{} x://{port} secret {{text}}\n", words[2]));
    let status = a.run(&["status", "db"]);
    assert!(
        status.contains(&format!("address = {}", words[0])),
        "{status}"
    );
    assert!(status.contains("cluster_host = a"), "{status}");

    let listed = a.run(&["ps"]);
    assert!(listed.contains(" ADDRESS"), "{listed}");
    assert!(listed.contains(words[0]), "{listed}");

    drop(client.stdin.take());
    client.wait().unwrap();
    a.wait_stopped();
    let listed = a.run(&["ps"]);
    assert!(!listed.contains("ADDRESS"), "{listed}");
    b.wait_stopped();
    assert_eq!(etcd.view("db", "c").await, View::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn run_takes_the_cluster_from_the_option_and_the_variable() {
    let etcd = Cluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let host = Host {
        name: "a",
        project: dir.path(),
        runtime_dir: dir.path().join("run"),
    };
    let url = etcd.url("?ttl=6s");
    let start = [
        "--start",
        "sleep 1000",
        "--ready",
        "started",
        "--grace",
        "500ms",
    ];
    let client = ["--", "sh", "-c", "echo $PROCREF_FENCE"];
    let option = [&["run", "db", "--cluster", &url][..], &start, &client].concat();
    let first: i64 = host.run(&option).trim().parse().unwrap();
    host.wait_stopped();
    let plain = [&["run", "db"][..], &start, &client].concat();
    let output = host
        .command(&plain)
        .env("PROCREF_CLUSTER", &url)
        .output()
        .unwrap();
    let second: i64 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(second > first, "the token does not grow");
    host.wait_stopped();
    assert_eq!(host.run(&plain), "\n", "without a cluster");
    host.wait_stopped();
    assert!(
        Services::in_dir(&host.runtime_dir)
            .unwrap()
            .list()
            .unwrap()
            .is_empty()
    );
}
