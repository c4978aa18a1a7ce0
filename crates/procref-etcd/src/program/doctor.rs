//! `procref-etcd doctor`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, ConnectOptions, GetOptions, PutOptions, Txn, TxnOp};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::DoctorArguments;
use crate::cluster::Cluster;
use crate::error::Result;
use crate::registry::etcd::{advice, cause_text};
use crate::timing::Timing;

/// The oldest version of etcd that is tested.
const OLDEST: [u32; 2] = [3, 4];

/// The time limit of a request.
const ANSWER: Duration = Duration::from_secs(3);

/// The time over which the clocks are compared.
const COMPARED: Duration = Duration::from_secs(1);

/// The deviation of a clock's rate that is an error: half of what the margin of the times allows between two clocks.
const DEVIATION: f64 = 0.005;

/// What the checks have found.
#[derive(Default)]
struct Findings {
    errors: usize,
}

impl Findings {
    fn ok(&self, text: impl std::fmt::Display) {
        println!("ok: {text}");
    }

    fn warn(&self, text: impl std::fmt::Display) {
        println!("warning: {text}");
    }

    fn error(&mut self, text: impl std::fmt::Display) {
        println!("error: {text}");
        self.errors += 1;
    }
}

pub(super) async fn run(arguments: DoctorArguments) -> Result<ExitCode> {
    let DoctorArguments { cluster, grace } = arguments;
    let mut findings = Findings::default();
    match Timing::new(cluster.ttl(), grace) {
        Ok(timing) => findings.ok(format_args!(
            "a reference lasts {} s without a renewal; a service with a grace of {} ms stops {} ms after the last renewal",
            timing.ttl / 1_000,
            timing.grace,
            timing.fuse(0)
        )),
        Err(error) => findings.error(error),
    }
    check_clock(&mut findings);
    let options = cluster.connect_options()?;
    let options = options.with_timeout(ANSWER).with_connect_timeout(ANSWER);
    let mut working = None;
    let mut reached = 0;
    for endpoint in cluster.endpoints() {
        match check_member(&endpoint, &options, &mut findings).await {
            Ok(client) => {
                reached += 1;
                working = Some(client);
            }
            Err(cause) => {
                let cause = cause_text(&cause);
                let advice = advice(&cause)
                    .unwrap_or("check the address, that the member runs, and the credentials");
                findings.error(format_args!("{endpoint}: {cause} ({advice})"));
            }
        }
    }
    if let Some(mut client) = working {
        check_keys(&mut client, &cluster, &mut findings).await;
        check_access(&cluster, &findings);
    }
    if reached > 0 && cluster.endpoints().len() < 3 {
        findings.warn("the URL names fewer than 3 members, so the cluster may not survive the loss of one of them");
    }
    Ok(match findings.errors {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Checks a member's version, and that it has a leader.
async fn check_member(
    endpoint: &str,
    options: &ConnectOptions,
    findings: &mut Findings,
) -> std::result::Result<Client, etcd_client::Error> {
    let mut client = Client::connect([endpoint], Some(options.clone())).await?;
    let status = client.status().await?;
    let version = status.version();
    let numbers: Vec<u32> = version
        .split('.')
        .map_while(|number| number.parse().ok())
        .collect();
    if numbers[..] < OLDEST[..] {
        let [major, minor] = OLDEST;
        findings.error(format_args!(
            "{endpoint}: version {version} is older than {major}.{minor}"
        ));
    } else if status.leader() == 0 {
        findings.error(format_args!(
            "{endpoint}: version {version}, no leader (start the other members)"
        ));
    } else {
        findings.ok(format_args!("{endpoint}: version {version}, has a leader"));
    }
    Ok(client)
}

/// Checks that a quorum answers, and that this user may read, write and delete below the prefix, and may grant leases.
async fn check_keys(client: &mut Client, cluster: &Cluster, findings: &mut Findings) {
    // No service has this key: the names of services are escaped.
    let base = format!("{}/procref/1/", cluster.prefix());
    let key = format!("{base}%doctor");
    let begun = Instant::now();
    let steps = async {
        let lease = client.lease_grant(60, None).await?.id();
        let put = TxnOp::put(key.clone(), "", Some(PutOptions::new().with_lease(lease)));
        client.txn(Txn::new().and_then([put])).await?;
        client
            .get(
                base.clone(),
                Some(GetOptions::new().with_prefix().with_count_only()),
            )
            .await?;
        let present = Compare::lease(key.clone(), CompareOp::Equal, lease);
        client
            .txn(
                Txn::new()
                    .when([present])
                    .and_then([TxnOp::delete(key, None)]),
            )
            .await?;
        client.lease_revoke(lease).await
    };
    match steps.await {
        Ok(_) => findings.ok(format_args!(
            "a quorum answers, and the keys below {base} can be read, written and deleted (5 requests took {} ms)",
            begun.elapsed().as_millis()
        )),
        Err(cause) => findings.error(format_args!(
            "the keys below {base}: {} (check that most members run, and that the user has a role with the permission \
             readwrite for this prefix)",
            cause_text(&cause)
        )),
    }
}

/// Warns if each process that reaches the members can change the keys.
fn check_access(cluster: &Cluster, findings: &Findings) {
    if cluster.has_credentials() {
        // The requests above were made with them.
        return findings.ok("the members accept the credentials");
    }
    findings.warn(
        "the URL names no user and no certificate, so each process that reaches the members can change the keys (set up \
         users or client certificates in etcd)",
    );
}

/// Compares the clock that the links use with the clock of the hardware, which no program adjusts.
fn check_clock(findings: &mut Findings) {
    let read = |clock| {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
        tv_sec as f64 + tv_nsec as f64 / 1e9
    };
    let now = || [read(ClockId::Boottime), read(ClockId::MonotonicRaw)];
    let before = now();
    std::thread::sleep(COMPARED);
    let after = now();
    let [used, raw] = [0, 1].map(|at| after[at] - before[at]);
    let deviation = used / raw - 1.0;
    let text = format!(
        "the rate of the clock is adjusted by {:+.4} %",
        deviation * 100.0
    );
    match deviation.abs() < DEVIATION {
        true => findings.ok(text),
        false => findings.error(format_args!(
            "{text}, and two hosts may differ by 1 % at most (check the time service of this host, and `adjtimex`)"
        )),
    }
}
