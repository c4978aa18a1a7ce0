//! Links on lines to etcd that are slow, lose packets, or are cut without an error.

mod common;

use std::time::Duration;

use common::Cluster;
use common::host::{Host, LIMIT, SERVICE, entries};
use common::proxy::{Line, Quality};
use procref::SharedService;
use procref_etcd::registry::{Found, Instance, Registry, Reply, Request, State};
use procref_etcd::{LinkSpec, link};

/// Returns a line to each member, and the URL of the cluster on these lines.
fn lines(cluster: &Cluster, quality: Quality, options: &str) -> (Vec<Line>, String) {
    let targets = cluster.endpoints.iter();
    let lines: Vec<_> = targets
        .map(|url| Line::start(url.trim_start_matches("http://"), quality))
        .collect();
    let addresses: Vec<_> = lines.iter().map(|line| line.address.to_string()).collect();
    let url = format!("etcd://{}/test{options}", addresses.join(","));
    (lines, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn link_keeps_its_reference_on_slow_lines_that_lose_packets() {
    let cluster = Cluster::start(3).await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let quality = Quality {
        delay: Duration::from_millis(40),
        loss: 20,
    };
    let (lines, url) = lines(&cluster, quality, "?ttl=8s");
    let [a, b] = ["a", "b"].map(|name| Host::new(name, &log));
    let mut first = a.start(&url, &[], SERVICE);
    let ready = first.ready().expect("a ready link");
    let mut second = b.start(&url, &[], SERVICE);
    assert_eq!(second.ready().expect("a ready link"), ready);
    // Only time ends leases. This is two times to live, with ten renewals of each link.
    tokio::time::sleep(Duration::from_secs(16)).await;
    second.stop();
    first.stop();
    let what: Vec<_> = entries(&log).into_iter().map(|entry| entry.what).collect();
    assert_eq!(what, ["start", "stop"]);
    let lost: usize = lines.iter().map(|line| line.counts()[0]).sum();
    assert!(lost > 0, "no packet was lost");
}

fn instance(state: State) -> Instance {
    Instance {
        host: "b".to_owned(),
        session: 7 << 24,
        state,
        address: "b.example:7".to_owned(),
    }
}

/// The instance begins to stop between the join of the link and its next read, and needs longer than a reference lasts.
#[tokio::test(flavor = "multi_thread")]
async fn fuse_spares_a_link_that_waits_until_an_instance_has_stopped() {
    let cluster = Cluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let quality = Quality {
        delay: Duration::from_millis(60),
        loss: u32::MAX,
    };
    let (lines, url) = lines(&cluster, quality, "?ttl=8s");
    let a = Host::new("a", &log);
    let mut b = cluster.registry("db", "b");
    let mut lease = 7 << 24;
    loop {
        lease += 1;
        let enter = Request::Enter {
            replaces: None,
            lease,
            instance: instance(State::Ready),
        };
        let Ok(Reply::Done(fence)) = b.perform(&enter).await else {
            panic!("no instance");
        };
        let mut link = a.start(&url, &[], SERVICE);
        while !cluster.view("db", "b").await.others {}
        lines[0].cut();
        let [ready, stopping] = [State::Ready, State::Stopping].map(|state| Found {
            instance: instance(state),
            fence,
        });
        let publish = Request::Publish {
            lease,
            found: ready,
            instance: stopping.instance.clone(),
        };
        assert!(matches!(b.perform(&publish).await, Ok(Reply::Done(_))));
        lines[0].heal();
        // Only time burns a fuse.
        tokio::time::sleep(Duration::from_millis(7_200)).await;
        let found = Some(stopping);
        // If this lease has ended, the instance is gone, too.
        let _ = b.perform(&Request::Leave { lease, found }).await;
        if link.ready().expect("a ready link").host == "a" {
            link.stop();
            break;
        }
        // On a busy machine, the link may be ready before the line is cut. Then its clients know the instance.
        let (status, text) = link.wait();
        assert_eq!(status.code(), Some(3), "{text}");
    }
    a.wait_stopped();
}

/// Only the first client of a host needs etcd to join, and only the last one to leave.
#[tokio::test(flavor = "multi_thread")]
async fn second_client_of_a_host_joins_and_leaves_while_its_line_is_cut() {
    let cluster = Cluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let quality = Quality {
        delay: Duration::ZERO,
        loss: u32::MAX,
    };
    let (lines, url) = lines(&cluster, quality, "?ttl=60s");
    let spec = LinkSpec::new("db", "sh")
        .args(["-c", SERVICE])
        .ready("started")
        .grace(Duration::from_millis(500))
        .program(env!("CARGO_BIN_EXE_procref-etcd"));
    let command = link(&url.parse().unwrap(), &spec).env("LOG", dir.path().join("log"));
    let service = SharedService::builder("db")
        .base_dir(dir.path())
        .command(command)
        .build()
        .unwrap();
    let first = service.acquire().await.unwrap();
    lines[0].cut();
    let second = service.acquire().await.unwrap();
    assert_eq!(second.pid(), first.pid());
    second.release().await.unwrap();
    lines[0].heal();
    first.release().await.unwrap();
    assert!(service.wait_stopped_blocking(LIMIT).unwrap());
    let what: Vec<_> = entries(&dir.path().join("log"))
        .into_iter()
        .map(|entry| entry.what)
        .collect();
    assert_eq!(what, ["start", "stop"]);
}

/// The watch of the link hangs, because its line is cut and no side gets an error.
#[tokio::test(flavor = "multi_thread")]
async fn link_reads_the_end_of_the_service_when_its_watch_hangs() {
    let cluster = Cluster::start(3).await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let quality = Quality {
        delay: Duration::ZERO,
        loss: u32::MAX,
    };
    let (lines, url) = lines(&cluster, quality, "?ttl=20s");
    let [a, b] = ["a", "b"].map(|name| Host::new(name, &log));
    let mut first = a.start(&cluster.url("?ttl=20s"), &[], SERVICE);
    let ready = first.ready().expect("a ready link");
    let mut second = b.start(&url, &[], SERVICE);
    assert_eq!(second.ready().expect("a ready link"), ready);
    // A link uses the first member of its URL as long as that one answers.
    lines[0].cut();
    first.stop();
    let (status, text) = second.wait();
    // It would exit with 4 if it learned only that its own reference is lost.
    assert_eq!(status.code(), Some(3), "{text}");
    assert!(lines[0].counts()[1] > 0, "the link did not use its line");
    lines[0].heal();
}
