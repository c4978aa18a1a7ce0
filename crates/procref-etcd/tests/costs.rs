//! What a link costs beside bare requests to the same etcd and beside a local service, and what 100 links cost an etcd of
//! three members. The figures are printed. Only what does not depend on the speed of the machine is checked.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Cluster;
use common::host::{Host, LIMIT, Running, SERVICE, children};
use etcd_client::{Client, EventType, PutOptions, Txn, TxnOp, WatchOptions};
use procref::{Ready, ServiceCommand, SharedService};
use procref_etcd::registry::{Found, Instance, Registry as _, Reply, Request, State};
use procref_etcd::{LinkSpec, link};
use rustix::process::Signal;
use tokio::task::JoinHandle;

/// How often each duration is measured.
const ROUNDS: usize = 30;

/// How often a second client joins and leaves.
const JOINS: u32 = 1_000;

/// The links that renew their references at the same time, one for each host.
const LINKS: usize = 100;

/// How long the renewals are counted.
const COUNTED: Duration = Duration::from_secs(30);

/// The durations of one step.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    async fn measure<T>(&mut self, step: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = step.await;
        self.0.push(begun.elapsed());
        done
    }

    /// Returns the median in milliseconds.
    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted[sorted.len() / 2].as_secs_f64() * 1_000.0
    }
}

/// Performs a transaction with one key, with a new lease or without one.
async fn bare(client: &mut Client, is_leased: bool) {
    let mut options = PutOptions::new();
    if is_leased {
        let lease = client.lease_grant(15, None).await.unwrap();
        options = options.with_lease(lease.id());
    }
    let put = TxnOp::put("bare", "", Some(options));
    client.txn(Txn::new().and_then([put])).await.unwrap();
}

/// Returns how many requests of each method all members have received.
fn requests(cluster: &Cluster) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for endpoint in &cluster.endpoints {
        let address = endpoint.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("grpc_server_msg_received_total{grpc_method=\"")
            else {
                continue;
            };
            let (method, rest) = rest.split_once('"').unwrap();
            let count: f64 = rest.rsplit_once(' ').unwrap().1.parse().unwrap();
            *counts.entry(method.to_owned()).or_default() += count as u64;
        }
    }
    assert!(counts.contains_key("Txn"), "no metrics: {counts:?}");
    counts
}

/// Returns what was added, without methods that were not used.
fn added(before: &BTreeMap<String, u64>, after: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let difference = |(method, count)| {
        let count: u64 = count - before.get(&method).unwrap_or(&0);
        (count > 0).then_some((method, count))
    };
    after.into_iter().filter_map(difference).collect()
}

/// Returns a value in a file of `/proc`, in its unit.
fn value(pid: u32, file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

/// Returns the processor time of a process, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = text.rsplit_once(')').unwrap().1.split_whitespace();
    // User and system time are the fields 14 and 15, and the first one here is the third.
    let times = fields.skip(11).take(2);
    times.map(|time| time.parse::<u64>().unwrap()).sum()
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// The service `db` as local clients of a host use it: its command is a link.
fn shared(cluster: &Cluster, dir: &Path, log: &Path) -> SharedService {
    let spec = LinkSpec::new("db", "sh")
        .args(["-c", SERVICE])
        .ready("started")
        .grace(Duration::from_millis(500))
        .advertise("b.example:7")
        .program(env!("CARGO_BIN_EXE_procref-etcd"));
    // A long time to live, so that renewals do not disturb the figures.
    let url = cluster.url("?ttl=60s").parse().unwrap();
    let command = link(&url, &spec).env("LOG", log);
    let service = SharedService::builder("db").base_dir(dir).command(command);
    service.build().unwrap()
}

/// The variable that makes the test below a service that reports its readiness, as a link does.
const LOCAL: &str = "PROCREF_TEST_LOCAL_SERVICE";

/// A local service whose program is this one.
fn local(dir: &Path) -> SharedService {
    let command = ServiceCommand::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "costs_of_links_beside_bare_requests",
        ])
        .env(LOCAL, "")
        .ready(Ready::notify());
    let service = SharedService::builder("local")
        .base_dir(dir)
        .command(command);
    service.build().unwrap()
}

/// Sends that this process is ready.
fn notify() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let name = std::env::var("NOTIFY_SOCKET").unwrap();
    let address = SocketAddr::from_abstract_name(name.trim_start_matches('@')).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to_addr(b"READY=1", &address).unwrap();
}

/// Starts another process that holds a service with these options, and waits until it does.
fn hold(name: &str, options: &[&str], dir: &Path) -> Child {
    let program = std::env::var("PROCREF_TEST_PROCREF").unwrap_or_else(|_| "procref".to_owned());
    let path = Path::new(env!("CARGO_BIN_EXE_procref-etcd")).parent();
    let mut client = Command::new(program)
        .args(["run", name, "--start", "sleep 1000", "--ready", "started"])
        .args(["--grace", "500ms", "--runtime-dir"])
        .arg(dir)
        .args(options)
        .args(["--", "sh", "-c", "echo held; exec sleep 1000"])
        .env("PATH", format!("{}:/usr/bin:/bin", path.unwrap().display()))
        .env_remove("PROCREF_CLUSTER")
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = client.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    client
}

/// Watches the references. The task returns when one of them was removed.
async fn watch_removal(client: &mut Client) -> JoinHandle<Instant> {
    let options = WatchOptions::new().with_prefix();
    let watch = client.watch("test/procref/1/db/ref/", Some(options)).await;
    let mut watch = watch.unwrap();
    let removal = tokio::spawn(async move {
        let is_removal = |event: &etcd_client::Event| event.event_type() == EventType::Delete;
        loop {
            let response = watch.message().await.unwrap().expect("a watch");
            if response.events().iter().any(is_removal) {
                return Instant::now();
            }
        }
    });
    // The member may not have begun yet.
    tokio::time::sleep(Duration::from_millis(100)).await;
    removal
}

/// Joins and leaves as the second client of a host. Returns how long both take together.
async fn join(service: &SharedService) -> Duration {
    let begun = Instant::now();
    for _ in 0..JOINS {
        service.acquire().await.unwrap().release().await.unwrap();
    }
    begun.elapsed() / JOINS
}

/// Measures from the request that publishes a ready instance until a link that has waited for it is ready.
async fn published(
    cluster: &Cluster,
    host: &Host,
    options: &[&str],
    lease: i64,
    times: &mut Times,
) {
    let mut other = cluster.registry("db", "other");
    let instance = |state| Instance {
        host: "other".to_owned(),
        session: 7 << 24,
        state,
        address: "other.example:7".to_owned(),
    };
    let starting = instance(State::Starting);
    let enter = Request::Enter {
        replaces: None,
        lease,
        instance: starting.clone(),
    };
    let Ok(Reply::Done(fence)) = other.perform(&enter).await else {
        panic!("no instance");
    };
    let before = requests(cluster);
    let mut link = host.start(&cluster.url("?ttl=60s"), options, SERVICE);
    // Its watch has begun, and it has read the keys again after that.
    while !added(&before, requests(cluster)).contains_key("Watch") {}
    tokio::time::sleep(Duration::from_millis(200)).await;
    let found = Found {
        instance: starting,
        fence,
    };
    let publish = Request::Publish {
        lease,
        found,
        instance: instance(State::Ready),
    };
    let begun = Instant::now();
    assert!(matches!(other.perform(&publish).await, Ok(Reply::Done(_))));
    assert_eq!(link.ready().expect("a ready link").fence, fence);
    times.0.push(begun.elapsed());
    link.stop();
    let found = Some(Found {
        instance: instance(State::Ready),
        fence,
    });
    let leave = Request::Leave { lease, found };
    assert!(matches!(other.perform(&leave).await, Ok(Reply::Done(_))));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; scripts/etcd-costs.sh runs it"]
async fn costs_of_links_beside_bare_requests() {
    if std::env::var_os(LOCAL).is_some() {
        notify();
        return std::future::pending().await;
    }
    let cluster = Cluster::start(3).await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut client = Client::connect(&cluster.endpoints[..1], None)
        .await
        .unwrap();

    let host = Host::new("w", &log);
    let mut waiting = Times::default();
    for round in 0..10 {
        published(&cluster, &host, &[], (9 << 24) + round, &mut waiting).await;
    }

    let a = Host::new("a", &log);
    let mut first = a.start(&cluster.url("?ttl=60s"), &[], SERVICE);
    first.ready().expect("a ready link");
    let service = shared(&cluster, &dir.path().join("b"), &log);
    let beside = local(&dir.path().join("b"));

    let [mut read, mut txn, mut grant] = [(); 3].map(|()| Times::default());
    let [mut acquire, mut start, mut release, mut link_alone] = [(); 4].map(|()| Times::default());
    for _ in 0..ROUNDS {
        read.measure(client.get("bare", None)).await.unwrap();
        txn.measure(bare(&mut client, false)).await;
        grant.measure(bare(&mut client, true)).await;
        let handle = acquire.measure(service.acquire()).await.unwrap();
        let removal = watch_removal(&mut client).await;
        let begun = Instant::now();
        handle.release().await.unwrap();
        release.0.push(removal.await.unwrap() - begun);
        let handle = start.measure(beside.acquire()).await.unwrap();
        handle.release().await.unwrap();
        for service in [&service, &beside] {
            assert!(service.wait_stopped_blocking(LIMIT).unwrap());
        }
        let begun = Instant::now();
        let mut link = host.start(&cluster.url("?ttl=60s"), &[], SERVICE);
        link.ready().expect("a ready link");
        link_alone.0.push(begun.elapsed());
        link.stop();
    }
    let [read, txn, grant] = [read, txn, grant].map(|times| times.median());
    println!(
        "medians of {ROUNDS}: a read {read:.2} ms, a transaction {txn:.2} ms, a grant and a transaction {grant:.2} ms"
    );
    let (acquire, start, release) = (acquire.median(), start.median(), release.median());
    println!(
        "first client of a host: {acquire:.2} ms; of a local service: {start:.2} ms; the difference is {:.2} of a grant \
         and a transaction; the program procref-etcd alone: {:.2} ms",
        (acquire - start) / grant,
        link_alone.median()
    );
    println!(
        "from the release by the last client of a host until the reference is removed: {release:.2} ms = {:.2} \
         transactions",
        release / txn
    );
    let published = waiting.median();
    println!(
        "from the publication until a waiting link is ready: {published:.2} ms = {:.2} transactions + 5 ms (median of 10)",
        (published - 5.0) / txn
    );

    let (url, home) = (cluster.url("?ttl=60s"), dir.path().join("b"));
    let options = ["--cluster", &url];
    let mut holders = [hold("db", &options, &home), hold("local", &[], &home)];
    let before = requests(&cluster);
    let joined = join(&service).await;
    let requested = added(&before, requests(&cluster));
    println!(
        "a second client joins and leaves: {joined:?}; of a local service: {:?}; requests of all links during {JOINS} \
         times: {requested:?}",
        join(&beside).await
    );
    // The links read the keys every 2 s.
    assert!(requested.values().sum::<u64>() < u64::from(JOINS) / 50);
    let pid = service.status().unwrap().instance().unwrap().pid();
    for (what, pid) in [("a link", pid), ("its fuse", children(pid)[0])] {
        println!(
            "memory of {what}: {} KiB RSS, {} KiB PSS",
            value(pid, "status", "VmRSS:"),
            value(pid, "smaps_rollup", "Pss:")
        );
    }
    for holder in &mut holders {
        holder.kill().unwrap();
        holder.wait().unwrap();
    }
    assert!(service.wait_stopped_blocking(LIMIT).unwrap());

    let mut crash = Times::default();
    for _ in 0..10 {
        let mut killed = hold("db", &options, &home);
        let removal = watch_removal(&mut client).await;
        let begun = Instant::now();
        killed.kill().unwrap();
        crash.0.push(removal.await.unwrap() - begun);
        killed.wait().unwrap();
        assert!(service.wait_stopped_blocking(LIMIT).unwrap());
    }
    println!(
        "from SIGKILL of the last client of a host until the reference is removed: {:.2} ms (median of 10)",
        crash.median()
    );

    // The link of the service's host crashes, and the next client of that host starts the service again.
    let mut again = Times::default();
    for _ in 0..10 {
        first.signal(Signal::KILL);
        let begun = Instant::now();
        first.wait();
        first = a.start(&cluster.url("?ttl=60s"), &[], SERVICE);
        first.ready().expect("a ready link");
        again.0.push(begun.elapsed());
    }
    println!(
        "from SIGKILL of the link of the service's host until the next instance on that host is ready: {:.0} ms (median of \
         10)",
        again.median()
    );
    first.stop();
    many(&cluster, &mut client, &log).await;
}

/// Measures what many links cost while they only hold their references.
async fn many(cluster: &Cluster, client: &mut Client, log: &Path) {
    // The default of a service with a grace of 5 s.
    let url = cluster.url("?ttl=15s");
    let hosts: Vec<_> = (0..LINKS)
        .map(|host| Host::new(&format!("h{host}"), log))
        .collect();
    let begun = Instant::now();
    let mut links: Vec<_> = hosts
        .iter()
        .map(|host| host.start(&url, &[], SERVICE))
        .collect();
    let ready: Vec<_> = links.iter_mut().map(Running::ready).collect();
    assert!(
        ready.iter().all(|it| it.is_some() && *it == ready[0]),
        "{ready:?}"
    );
    println!(
        "{LINKS} hosts at once: ready after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    // The reads after the starts are not part of what follows.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let of_members = || cluster.members.iter().map(|it| ticks(it.id())).sum::<u64>();
    let of_links = || links.iter().map(|it| ticks(it.pid())).sum::<u64>();
    let (before, begun) = (requests(cluster), Instant::now());
    let spent = [of_members(), of_links()];
    // Renewals happen by the clock.
    let mut txn = Times::default();
    while begun.elapsed() < COUNTED {
        txn.measure(bare(client, false)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let [members, all] = [of_members() - spent[0], of_links() - spent[1]].map(|it| it as f64);
    let mut counts = added(&before, requests(cluster));
    *counts.get_mut("Txn").unwrap() -= txn.0.len() as u64;
    let rates: Vec<_> = counts
        .iter()
        .map(|(method, count)| format!("{method} {:.1}", *count as f64 / seconds))
        .collect();
    println!("{LINKS} links, requests/s: {}", rates.join(", "));
    println!(
        "processor time: {:.1} % of a core for the members, {:.2} % for each link; a transaction takes {:.2} ms",
        members / seconds,
        all / seconds / LINKS as f64,
        txn.median()
    );
    println!(
        "memory of a link: {} KiB RSS, {} KiB PSS (medians)",
        median(
            links
                .iter()
                .map(|it| value(it.pid(), "status", "VmRSS:"))
                .collect()
        ),
        median(
            links
                .iter()
                .map(|it| value(it.pid(), "smaps_rollup", "Pss:"))
                .collect()
        )
    );
    // A renewal every 3 s has one grant, one transaction and two reads. Many more would be a loop.
    for (method, most) in [("LeaseGrant", 1.5), ("Txn", 4.0)] {
        let count = counts[method] as f64 / seconds * 3.0;
        assert!(count < most * LINKS as f64, "{method}: {count} in 3 s");
    }

    // One of them runs the service, so that the others end with it if it stops first.
    let (serving, others): (Vec<_>, Vec<_>) = std::iter::zip(&hosts, links)
        .partition(|(host, _)| host.name == ready[0].as_ref().unwrap().host);
    for (_, link) in others.into_iter().chain(serving) {
        link.stop();
    }
    for host in &hosts {
        host.wait_stopped();
    }
}
