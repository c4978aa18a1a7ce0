//! The workload: the operations and faults that the seed determines, and their order. The moment of each
//! operation, and the state that it finds, differ from run to run.

use std::time::Duration;

use fastrand::Rng;
use procref::{CRASH_POINTS, CrashPoint, CrashSite};

use crate::options::Kind;

/// The settings with which a client builds its service. An instance has the settings of its starter.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub linger: Duration,
    pub on_last_release: bool,
    pub recover: Option<Recover>,
    /// The instance ignores SIGTERM.
    pub ignore_sigterm: bool,
    /// Time from the stop signal to the exit of the instance.
    pub slow_stop_ms: u64,
    /// Number of processes that the instance starts, and whose parent has exited.
    pub workers: u32,
}

/// The behavior of `on_recover`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recover {
    /// Stops the old instance and starts another one.
    Replace,
    /// Starts another instance and leaves the old one to the library.
    LeaveOld,
    Fail,
}

/// The result of a start, if this client is the starter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Serve,
    Fail,
    Panic,
    /// The instance starts, and `on_ready` fails.
    NotReady,
}

/// The way in which a client drives a future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Blocking,
    Smol,
    Tokio,
}

/// An operation of a client.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Pause(Duration),
    Acquire(Via, Start),
    TryJoin,
    /// Drops the future after this time, unless it has completed.
    AcquireCancelled(Duration),
    /// Acquires in this number of threads at once, and releases at once.
    Crowd(u32),
    /// Sleeps, and checks that the held service is still healthy.
    Hold(Duration),
    Drop,
    DropAll,
    Release(Via),
    /// Drops the future after this time, unless it has completed.
    ReleaseCancelled(Duration),
    /// Forks a child, which drops its copies and then holds its own handle for this time.
    Fork(Duration),
    /// Executes another program, which exits after this time.
    Exec(Duration),
    Pin,
    Unpin,
    Status,
    Gc,
}

/// The way in which a client exits if it is not killed.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Drop,
    Release,
    /// Exits while it holds all its handles.
    ExitAtOnce,
}

/// The moment at which a client kills itself by SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPlan {
    /// At a crash point of procref, after it was passed this number of times. If the crash point is one of a
    /// supervisor or a service, the process that this client has started dies.
    AtPoint(CrashPoint, u32),
    /// This time after the client was forked.
    After(Duration),
}

/// The operations of a client.
pub struct Workload {
    pub settings: Settings,
    pub steps: Vec<Step>,
    pub end: End,
    pub crash_plan: Option<CrashPlan>,
}

/// A fault from outside.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    KillClient(usize),
    /// Kills all clients of the service at the same moment.
    KillAllClients(usize),
    SuspendClient(usize, Duration),
    KillSupervisor(usize),
    KillInstance(usize),
    /// Makes a service unhealthy for this time.
    MakeUnhealthy {
        service: usize,
        time: Duration,
        /// Every instance is unhealthy, not only the current one.
        all: bool,
    },
}

/// The way in which the clients of a round finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundEnd {
    /// Each client finishes in its own way.
    Orderly,
    /// All clients are killed at the same moment.
    KillAll,
    /// About half of the clients are killed.
    KillHalf,
}

/// The call that cleans up after a dead supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    Acquire,
    Gc,
}

/// Returns a generator for one part of the workload. Each part has its own, so that no part depends on the
/// speed of another one.
fn rng(seed: u64, parts: [u64; 3]) -> Rng {
    let mix = |sum: u64, part: u64| Rng::with_seed(sum ^ part.wrapping_add(1)).u64(..);
    Rng::with_seed(parts.into_iter().fold(seed, mix))
}

fn millis(rng: &mut Rng, most: u64) -> Duration {
    Duration::from_micros(rng.u64(0..=most * 1000))
}

/// Returns `true` in `chance` of a hundred cases.
fn percent(rng: &mut Rng, chance: u32) -> bool {
    rng.u32(0..100) < chance
}

/// The workload of the client that is number `nth` in this slot. `doomed` percent of the clients kill themselves.
pub fn client(seed: u64, kind: Kind, slot: usize, nth: u64, doomed: u32) -> Workload {
    let rng = &mut rng(seed, [1, slot as u64, nth]);
    let lingers = percent(rng, 35);
    let callback = kind == Kind::Callback;
    let settings = Settings {
        linger: if lingers {
            millis(rng, 60)
        } else {
            Duration::ZERO
        },
        on_last_release: callback && !lingers && percent(rng, 40),
        recover: match rng.u32(0..10) {
            0..3 if callback => Some(Recover::Replace),
            3..5 if callback => Some(Recover::LeaveOld),
            5 if callback => Some(Recover::Fail),
            _ => None,
        },
        // This is rare, because `gc` gives such an instance the default stop timeout, which is long.
        ignore_sigterm: percent(rng, 1),
        slow_stop_ms: if percent(rng, 25) { rng.u64(1..40) } else { 0 },
        workers: if !callback && percent(rng, 30) {
            rng.u32(1..3)
        } else {
            0
        },
    };
    let length = rng.usize(8..60);
    // Fast clients meet each other in transitions. Slow clients are present when another client dies.
    let speed = if rng.bool() { 10 } else { 1 };
    let steps = (0..length * speed as usize / 2)
        .map(|_| step(rng, speed))
        .collect();
    let end = match rng.u32(0..3) {
        0 => End::Drop,
        1 => End::Release,
        _ => End::ExitAtOnce,
    };
    Workload {
        settings,
        steps,
        end,
        crash_plan: percent(rng, doomed).then(|| crash_plan(rng)),
    }
}

fn crash_plan(rng: &mut Rng) -> CrashPlan {
    if percent(rng, 70) {
        // A keeper serves all clients, so its death is not a doomed client's own: see --kill-keepers.
        let points: Vec<_> = CRASH_POINTS
            .iter()
            .filter(|point| point.site != CrashSite::Keeper)
            .collect();
        let point = *points[rng.usize(0..points.len())];
        let passed = rng.u32(0..9).saturating_sub(6);
        return CrashPlan::AtPoint(point, passed);
    }
    // The exponent is uniform, so that a tenth of a millisecond is as likely as a hundred milliseconds.
    let magnitude = rng.u32(5..18);
    CrashPlan::After(Duration::from_micros(rng.u64(0..1 << magnitude)))
}

fn step(rng: &mut Rng, speed: u64) -> Step {
    match rng.u32(0..100) {
        0..18 => Step::Pause(millis(rng, 80 / speed)),
        18..38 => {
            let start = match rng.u32(0..20) {
                0 => Start::Fail,
                1 => Start::Panic,
                2 => Start::NotReady,
                _ => Start::Serve,
            };
            Step::Acquire(via(rng), start)
        }
        38..41 => Step::TryJoin,
        41..47 => Step::AcquireCancelled(millis(rng, 12)),
        47..50 => Step::Crowd(rng.u32(2..5)),
        50..58 => Step::Hold(millis(rng, 60 / speed)),
        58..62 => Step::Drop,
        62..76 => Step::DropAll,
        76..83 => Step::Release(via(rng)),
        83..87 => Step::ReleaseCancelled(millis(rng, 12)),
        87..90 => Step::Fork(millis(rng, 80 / speed)),
        90 => Step::Exec(millis(rng, 150)),
        91 => Step::DropAll,
        92 => Step::Pin,
        93..97 => Step::Unpin,
        97..99 => Step::Status,
        _ => Step::Gc,
    }
}

fn via(rng: &mut Rng) -> Via {
    match rng.u32(0..3) {
        0 => Via::Blocking,
        1 => Via::Smol,
        _ => Via::Tokio,
    }
}

/// The faults of a round, each with the time since the previous one.
pub fn faults(
    seed: u64,
    round: u64,
    rate: f64,
    kill_keepers: u32,
    clients: usize,
    services: usize,
) -> impl Iterator<Item = (Duration, Fault)> {
    let mut rng = rng(seed, [2, round, 0]);
    std::iter::from_fn(move || {
        let gap = Duration::from_secs_f64(rng.f64() * 2.0 / rate);
        let client = rng.usize(0..clients);
        let service = rng.usize(0..services);
        if kill_keepers > 0 && percent(&mut rng, kill_keepers) {
            return Some((gap, Fault::KillSupervisor(service)));
        }
        let fault = match rng.u32(0..100) {
            0..40 => Fault::KillClient(client),
            40..50 => Fault::KillAllClients(service),
            50..64 => Fault::SuspendClient(client, millis(&mut rng, 250)),
            64..76 => Fault::KillSupervisor(service),
            76..90 => Fault::KillInstance(service),
            _ => Fault::MakeUnhealthy {
                service,
                time: millis(&mut rng, 120),
                all: percent(&mut rng, 30),
            },
        };
        Some((gap, fault))
    })
}

pub fn round_end(seed: u64, round: u64) -> RoundEnd {
    match rng(seed, [3, round, 0]).u32(0..3) {
        0 => RoundEnd::Orderly,
        1 => RoundEnd::KillAll,
        _ => RoundEnd::KillHalf,
    }
}

/// Returns `true` if [`RoundEnd::KillHalf`] kills this client.
pub fn is_killed(seed: u64, round: u64, slot: usize) -> bool {
    rng(seed, [4, round, slot as u64]).bool()
}

pub fn cleanup(seed: u64, round: u64, service: usize) -> Cleanup {
    match rng(seed, [5, round, service as u64]).bool() {
        true => Cleanup::Acquire,
        false => Cleanup::Gc,
    }
}
