//! Links on a real etcd of three members, on the loopback interface. Needs the program `etcd`, or its path in
//! `PROCREF_TEST_ETCD`.

#[path = "../common/mod.rs"]
mod common;
mod running;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Cluster, TTL};
use procref_etcd::drive::now;
use procref_etcd::link::Outcome;
use procref_etcd::registry::{Found, Lease, Registry as _, Reply, Request, State, View};
use running::{Keys, Log, Running, instance};
use rustix::process::Signal;

#[tokio::test]
async fn etcd_applies_each_step_only_to_the_keys_that_it_expects() {
    let cluster = Cluster::start(3).await;
    let mut a = cluster.registry("db/ref", "a");
    let mut b = cluster.registry("db/ref", "b");
    // A service whose name looks like a key of the other one.
    let other = cluster.registry("db", "b");
    drop(other);

    let mut waiting = cluster.registry("db/ref", "d");
    let ask = |replaces, lease| Request::Ask { replaces, lease };
    for (request, refused) in [
        (ask(None, 90), None),
        (ask(None, 91), Some("a reference of this host is there")),
        (ask(Some(90), 92), None),
    ] {
        let reply = waiting.perform(&request).await.unwrap();
        match refused {
            Some(reason) => assert_eq!(reply, Reply::Refused, "{reason}"),
            None => assert!(matches!(reply, Reply::Done(_)), "{request:?}"),
        }
    }
    let view = cluster.view("db/ref", "d").await;
    assert_eq!((view.own, view.others, view.found), (Some(92), false, None));

    let enter = Request::Enter {
        replaces: None,
        lease: 101,
        instance: instance("a", State::Starting),
    };
    let Ok(Reply::Done(fence)) = a.perform(&enter).await else {
        panic!("enter")
    };
    let starting = Found {
        instance: instance("a", State::Starting),
        fence,
    };
    assert_eq!(
        waiting.perform(&ask(Some(92), 93)).await.unwrap(),
        Reply::Refused,
        "an instance is there"
    );
    let second = Request::Enter {
        replaces: None,
        lease: 102,
        instance: instance("b", State::Starting),
    };
    assert_eq!(
        b.perform(&second).await.unwrap(),
        Reply::Refused,
        "an instance is there"
    );
    let ready = Found {
        instance: instance("a", State::Ready),
        fence,
    };
    let early = Request::Join {
        replaces: None,
        lease: 103,
        found: ready.clone(),
    };
    assert_eq!(
        b.perform(&early).await.unwrap(),
        Reply::Refused,
        "the instance is starting"
    );

    let publish = |lease| Request::Publish {
        lease,
        found: starting.clone(),
        instance: instance("a", State::Ready),
    };
    assert_eq!(
        a.perform(&publish(999)).await.unwrap(),
        Reply::Refused,
        "another lease"
    );
    assert!(matches!(
        a.perform(&publish(101)).await.unwrap(),
        Reply::Done(_)
    ));
    let join = Request::Join {
        replaces: None,
        lease: 104,
        found: ready.clone(),
    };
    assert!(matches!(b.perform(&join).await.unwrap(), Reply::Done(_)));
    let view = View {
        own: Some(104),
        others: true,
        found: Some(ready.clone()),
        started: true,
    };
    assert_eq!(b.perform(&Request::Read).await.unwrap(), Reply::View(view));
    assert_eq!(
        cluster.view("db", "b").await,
        View::default(),
        "services share keys"
    );

    let rebind = |old, lease| Request::Rebind {
        old,
        lease,
        found: Some(ready.clone()),
    };
    assert_eq!(
        a.perform(&rebind(999, 105)).await.unwrap(),
        Reply::Refused,
        "another lease"
    );
    assert!(matches!(
        a.perform(&rebind(101, 106)).await.unwrap(),
        Reply::Done(_)
    ));
    a.revoke(101);
    let replace = Request::Join {
        replaces: Some(104),
        lease: 107,
        found: ready.clone(),
    };
    assert!(
        matches!(b.perform(&replace).await.unwrap(), Reply::Done(_)),
        "a renewal changes no description"
    );

    // Both leases end, because no link renews them. The mark of an unfinished start stays.
    let begun = Instant::now();
    while cluster.view("db/ref", "c").await.found.is_some() {
        assert!(begun.elapsed() < 4 * TTL, "the lease does not end");
    }
    assert!(
        begun.elapsed() > TTL - Duration::from_secs(1),
        "the lease ends after {:?}",
        begun.elapsed()
    );
    assert!(cluster.view("db/ref", "c").await.started);
}

#[tokio::test]
async fn g1_hosts_that_race_start_one_service_at_a_time() {
    let cluster = Arc::new(Cluster::start(3).await);
    let log = Arc::new(Log::default());
    let hosts: Vec<_> = (1..=8)
        .map(|host: Lease| {
            let (cluster, log) = (cluster.clone(), log.clone());
            tokio::spawn(async move {
                for round in 0..5 {
                    let name = format!("h{host}");
                    let mut link =
                        Running::start(&cluster, "race", &name, host * 100 + round, &log).await;
                    // Without faults, a link is ready although hosts stop the service and take it over all the time.
                    let found = link.announced().await.expect("a ready link");
                    assert_eq!(found.instance.address, "10.0.0.1:5432");
                    tokio::time::sleep(Duration::from_millis(u64::try_from(host * 7).unwrap()))
                        .await;
                    let outcome = link.stop().await;
                    assert!(
                        matches!(outcome, Outcome::Released | Outcome::ServiceGone),
                        "{outcome:?}"
                    );
                }
            })
        })
        .collect();
    for host in hosts {
        host.await.unwrap();
    }
    assert_eq!(
        log.overlaps.load(Ordering::SeqCst),
        0,
        "two services at once, or a token that does not grow"
    );
    assert!(log.starts.load(Ordering::SeqCst) > 0);
    assert_eq!(
        cluster.view("race", "h1").await,
        View::default(),
        "keys are left"
    );
}

#[tokio::test]
async fn link_starts_the_next_instance_when_the_first_stops_before_the_link_is_ready() {
    let cluster = Cluster::start(1).await;
    let mut other = cluster.registry("db", "b");
    let (lease, ready) = (7 << 24, instance("b", State::Ready));
    let enter = Request::Enter {
        replaces: None,
        lease,
        instance: ready.clone(),
    };
    let Ok(Reply::Done(fence)) = other.perform(&enter).await else {
        panic!("no instance");
    };
    let found = Found {
        instance: ready,
        fence,
    };
    let keys = Keys {
        own: cluster.registry("db", "a"),
        other: Some((other, lease, found)),
        reads: Arc::default(),
    };
    let log = Arc::new(Log::default());
    let mut link = Running::start_with(keys, "a", 1, &log);
    let next = link.announced().await.expect("the next instance");
    assert_eq!(next.instance.host, "a");
    assert!(next.fence > fence, "the token does not grow");
    assert_eq!(link.stop().await, Outcome::Released);
    assert_eq!(cluster.view("db", "c").await, View::default());
}

/// Otherwise many hosts that start at once would cause a number of reads that grows with the square of theirs.
#[tokio::test]
async fn link_does_not_read_the_keys_when_other_hosts_join() {
    const HOSTS: usize = 40;
    let cluster = Cluster::start(1).await;
    let log = Arc::new(Log::default());
    let mut holder = Running::start(&cluster, "db", "a", 1, &log).await;
    let found = holder.announced().await.expect("a ready link");
    let reads = Arc::new(AtomicUsize::new(0));
    let keys = Keys {
        own: cluster.registry("db", "b"),
        other: None,
        reads: reads.clone(),
    };
    let mut link = Running::start_with(keys, "b", 2, &log);
    link.announced().await.expect("a ready link");

    let before = reads.load(Ordering::SeqCst);
    for host in 0..HOSTS {
        let join = Request::Join {
            replaces: None,
            lease: (3 << 24) + Lease::try_from(host).unwrap(),
            found: found.clone(),
        };
        let mut other = cluster.registry("db", &format!("h{host}"));
        assert!(matches!(other.perform(&join).await, Ok(Reply::Done(_))));
    }
    // The link reads the keys every 2 s, and after each renewal.
    let added = reads.load(Ordering::SeqCst) - before;
    assert!(added < HOSTS / 2, "{added} reads");
    assert_eq!(link.stop().await, Outcome::Released);
    assert_eq!(holder.stop().await, Outcome::Released);
}

#[tokio::test]
async fn link_keeps_its_reference_when_the_leader_is_killed() {
    let mut cluster = Cluster::start(3).await;
    // The link asks the first member, unless that one does not answer.
    let leader = cluster.leader().await;
    cluster.members.swap(0, leader);
    cluster.endpoints.swap(0, leader);
    let log = Arc::new(Log::default());
    let mut holder = Running::start(&cluster, "db", "a", 1, &log).await;
    let found = holder.announced().await.unwrap();

    cluster.members[0].kill().unwrap();
    cluster.members[0].wait().unwrap();
    tokio::time::sleep(2 * TTL).await;

    assert!(!holder.task.is_finished(), "the link gave up");
    assert_eq!(
        cluster.view("db", "b").await.found.unwrap().fence,
        found.fence,
        "the instance was replaced"
    );
    assert_eq!(holder.stop().await, Outcome::Released);
}

#[tokio::test]
async fn g10_holder_gives_up_before_another_host_starts_when_the_quorum_is_lost() {
    let cluster = Cluster::start(3).await;
    let log = Arc::new(Log::default());
    let mut holder = Running::start(&cluster, "db", "a", 1, &log).await;
    let first = holder.announced().await.unwrap();
    let mut second = Running::start(&cluster, "db", "b", 2, &log).await;
    second.announced().await.unwrap();

    let leader = cluster.leader().await;
    let stopped = [leader, (leader + 1) % 3];
    let begun = now();
    for member in stopped {
        cluster.signal(member, Signal::STOP);
    }
    assert_eq!(holder.task.await.unwrap(), Outcome::Lost);
    let elapsed = Duration::from_millis(now() - begun);
    assert_eq!(second.task.await.unwrap(), Outcome::Lost);
    for member in stopped {
        cluster.signal(member, Signal::CONT);
    }
    assert!(elapsed < TTL, "the holder gave up after {elapsed:?}");
    assert_eq!(
        log.live.load(Ordering::SeqCst),
        0,
        "the service outlives its reference"
    );

    // Until the lease ends, a link can join the instance that was lost, and then reports its end.
    let mut session = 3;
    let next = loop {
        let mut next = Running::start(&cluster, "db", "c", session, &log).await;
        let found = next.announced().await.unwrap();
        if found.fence != first.fence {
            assert!(found.fence > first.fence, "the token does not grow");
            break next;
        }
        assert_eq!(next.task.await.unwrap(), Outcome::ServiceGone);
        session += 1;
    };
    assert_eq!(log.starts.load(Ordering::SeqCst), 2);
    assert_eq!(next.stop().await, Outcome::Released);
    assert_eq!(log.overlaps.load(Ordering::SeqCst), 0);
}
