//! Links on lines to etcd that are slow, lose packets, or are cut without an error.

mod common;

use std::time::Duration;

use common::Cluster;
use common::host::{Host, SERVICE, entries};
use common::proxy::{Line, Quality};

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
