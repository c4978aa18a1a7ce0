//! What happens in a storm, as far as the seed decides it: operations and their order. When each of them
//! takes place, and what it meets there, differs from run to run.

use std::time::Duration;

use fastrand::Rng;
use procref::{CRASH_POINTS, CrashPoint};

use crate::Kind;

/// How a client builds its service. An instance has its starter's settings.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub linger: Duration,
    pub on_last_release: bool,
    pub recover: Option<Recover>,
    /// The instance ignores SIGTERM.
    pub stubborn: bool,
    /// What the instance takes to end when it is asked to.
    pub slow_stop_ms: u64,
    /// Processes that the instance starts and that nobody is the parent of.
    pub workers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recover {
    /// Stops the old instance, and starts another.
    Replace,
    /// Starts another, and leaves the old one to the library.
    Beside,
    Fail,
}

/// What a start comes to, if this client is the one to make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Serve,
    Fail,
    Panic,
    /// It starts, and `on_ready` fails.
    NotReady,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Blocking,
    Smol,
    Tokio,
}

/// One thing that a client does.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Pause(Duration),
    Acquire(Via, Start),
    TryJoin,
    /// The future is dropped after this time, unless it is done.
    AcquireCancelled(Duration),
    /// Several threads at once, which let go at once.
    Crowd(u32),
    /// Sleeps, and looks whether the service it holds is still well.
    Hold(Duration),
    Drop,
    DropAll,
    Release(Via),
    /// The future is dropped after this time, unless it is done.
    ReleaseCancelled(Duration),
    /// The child drops its copies, and acquires for itself for this time.
    Fork(Duration),
    /// Executes something else, which ends after this time.
    Exec(Duration),
    Pin,
    Unpin,
    Status,
    Gc,
}

/// How a client ends that nobody kills.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Drop,
    Release,
    /// With all it holds.
    ExitAtOnce,
}

/// How a client dies that kills itself, by SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// At one of procref's own steps, after so many times. If that is a supervisor's or a service's, then
    /// the one that this client has started.
    At(CrashPoint, u32),
    /// So long after its birth, whatever it does then.
    After(Duration),
}

pub struct Life {
    pub settings: Settings,
    pub steps: Vec<Step>,
    pub end: End,
    pub doom: Option<Doom>,
}

/// What is done to the cast from outside.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    KillClient(usize),
    /// All clients of the service in the same moment.
    KillAll(usize),
    StopClient(usize, Duration),
    KillSupervisor(usize),
    KillService(usize),
    /// For this time; the one that runs now, or whoever comes.
    Sicken(usize, Duration, bool),
}

/// How a round ends for its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finale {
    /// Each ends in its own way.
    Orderly,
    /// All are killed in the same moment.
    Massacre,
    /// Half of them.
    Mixed,
}

/// What is called for what a dead supervisor has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    Acquire,
    Gc,
}

/// Numbers of their own for every part of the plan, so that none depends on how fast another one was.
fn dice(seed: u64, parts: [u64; 3]) -> Rng {
    let mix = |sum: u64, part: u64| Rng::with_seed(sum ^ part.wrapping_add(1)).u64(..);
    Rng::with_seed(parts.into_iter().fold(seed, mix))
}

fn millis(dice: &mut Rng, most: u64) -> Duration {
    Duration::from_micros(dice.u64(0..=most * 1000))
}

/// True in so many of a hundred cases.
fn percent(dice: &mut Rng, chance: u32) -> bool {
    dice.u32(0..100) < chance
}

/// What the client in this place does the nth time that the place is filled.
///
/// `doomed` of a hundred kill themselves.
pub fn life(seed: u64, kind: Kind, slot: usize, nth: u64, doomed: u32) -> Life {
    let dice = &mut dice(seed, [1, slot as u64, nth]);
    let lingers = percent(dice, 35);
    let callback = kind == Kind::Callback;
    let settings = Settings {
        linger: if lingers {
            millis(dice, 60)
        } else {
            Duration::ZERO
        },
        on_last_release: callback && !lingers && percent(dice, 40),
        recover: match dice.u32(0..10) {
            0..3 if callback => Some(Recover::Replace),
            3..5 if callback => Some(Recover::Beside),
            5 if callback => Some(Recover::Fail),
            _ => None,
        },
        // Whoever collects such an instance gives it the default time to stop, which is long.
        stubborn: percent(dice, 1),
        slow_stop_ms: if percent(dice, 25) {
            dice.u64(1..40)
        } else {
            0
        },
        workers: if !callback && percent(dice, 30) {
            dice.u32(1..3)
        } else {
            0
        },
    };
    let length = dice.usize(8..60);
    // Those in haste meet each other in transitions; the others are there when somebody dies.
    let haste = if dice.bool() { 10 } else { 1 };
    let steps = (0..length * haste as usize / 2)
        .map(|_| step(dice, haste))
        .collect();
    let end = match dice.u32(0..3) {
        0 => End::Drop,
        1 => End::Release,
        _ => End::ExitAtOnce,
    };
    Life {
        settings,
        steps,
        end,
        doom: percent(dice, doomed).then(|| doom(dice)),
    }
}

fn doom(dice: &mut Rng) -> Doom {
    if percent(dice, 70) {
        let point = CRASH_POINTS[dice.usize(0..CRASH_POINTS.len())];
        let survived = dice.u32(0..9).saturating_sub(6);
        return Doom::At(point, survived);
    }
    // As often in the first millisecond as between the hundredth and the two hundredth.
    let magnitude = dice.u32(5..18);
    Doom::After(Duration::from_micros(dice.u64(0..1 << magnitude)))
}

fn step(dice: &mut Rng, haste: u64) -> Step {
    match dice.u32(0..100) {
        0..18 => Step::Pause(millis(dice, 80 / haste)),
        18..38 => {
            let start = match dice.u32(0..20) {
                0 => Start::Fail,
                1 => Start::Panic,
                2 => Start::NotReady,
                _ => Start::Serve,
            };
            Step::Acquire(via(dice), start)
        }
        38..41 => Step::TryJoin,
        41..47 => Step::AcquireCancelled(millis(dice, 12)),
        47..50 => Step::Crowd(dice.u32(2..5)),
        50..58 => Step::Hold(millis(dice, 60 / haste)),
        58..62 => Step::Drop,
        62..76 => Step::DropAll,
        76..83 => Step::Release(via(dice)),
        83..87 => Step::ReleaseCancelled(millis(dice, 12)),
        87..90 => Step::Fork(millis(dice, 80 / haste)),
        90 => Step::Exec(millis(dice, 150)),
        91 => Step::DropAll,
        92 => Step::Pin,
        93..97 => Step::Unpin,
        97..99 => Step::Status,
        _ => Step::Gc,
    }
}

fn via(dice: &mut Rng) -> Via {
    match dice.u32(0..3) {
        0 => Via::Blocking,
        1 => Via::Smol,
        _ => Via::Tokio,
    }
}

/// The blows of one round, each with the time since the one before.
pub fn blows(
    seed: u64,
    round: u64,
    rate: f64,
    clients: usize,
    services: usize,
) -> impl Iterator<Item = (Duration, Blow)> {
    let mut dice = dice(seed, [2, round, 0]);
    std::iter::from_fn(move || {
        let gap = Duration::from_secs_f64(dice.f64() * 2.0 / rate);
        let client = dice.usize(0..clients);
        let service = dice.usize(0..services);
        let blow = match dice.u32(0..100) {
            0..40 => Blow::KillClient(client),
            40..50 => Blow::KillAll(service),
            50..64 => Blow::StopClient(client, millis(&mut dice, 250)),
            64..76 => Blow::KillSupervisor(service),
            76..90 => Blow::KillService(service),
            _ => Blow::Sicken(service, millis(&mut dice, 120), percent(&mut dice, 30)),
        };
        Some((gap, blow))
    })
}

pub fn finale(seed: u64, round: u64) -> Finale {
    match dice(seed, [3, round, 0]).u32(0..3) {
        0 => Finale::Orderly,
        1 => Finale::Massacre,
        _ => Finale::Mixed,
    }
}

/// Whether this client is among those that a mixed finale kills.
pub fn is_killed(seed: u64, round: u64, slot: usize) -> bool {
    dice(seed, [4, round, slot as u64]).bool()
}

pub fn remedy(seed: u64, round: u64, service: usize) -> Remedy {
    match dice(seed, [5, round, service as u64]).bool() {
        true => Remedy::Acquire,
        false => Remedy::Gc,
    }
}
