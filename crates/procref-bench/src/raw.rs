//! The floors: what the bare system calls cost that any reference counted by the kernel needs.

use std::io::Read as _;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use procref_testkit::kernel::Set;
use procref_testkit::observe::now_ns;

use crate::Result;
use crate::client::{cpu_time, say};

/// As many slots as a service of procref's has.
pub const SLOTS: usize = 130;
const REFS: u16 = 0;
const PIN: u16 = 1;
const LOCK: u16 = 2;

/// A set of this run's; removed when it is dropped.
pub struct Bare(Set);

impl Bare {
    pub fn new() -> Result<Self> {
        // IPC_PRIVATE: no key, nobody else finds it.
        Ok(Self(Set::create(0, SLOTS, 0o600)?))
    }

    pub fn id(&self) -> String {
        self.0.id.to_string()
    }

    pub fn pair(&self) -> Result<()> {
        Ok(self.0.up_and_down(REFS)?)
    }

    pub fn lock(&self, change: i16) -> Result<()> {
        Ok(self.0.operate(&[(LOCK, change)])?)
    }

    pub fn sleepers(&self) -> u32 {
        [REFS, LOCK]
            .iter()
            .filter_map(|&slot| self.0.sleepers(slot.into()).ok())
            .sum()
    }

    /// A bare pair, in ns.
    pub fn floor(&self) -> Result<f64> {
        const REPEATS: u32 = 20_000;
        let began = Instant::now();
        for _ in 0..REPEATS {
            self.pair()?;
        }
        Ok(began.elapsed().as_nanos() as f64 / f64::from(REPEATS))
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

fn set(id: i32) -> Set {
    Set {
        key: 0,
        id,
        mode: 0o600,
        len: SLOTS,
        uid: rustix::process::geteuid().as_raw(),
    }
}

/// Holds a reference and the lock until the end of its input.
pub fn hold(id: i32) -> Result<()> {
    set(id).operate(&[(REFS, 1), (LOCK, 1)])?;
    say("held")?;
    let _ = std::io::stdin().read(&mut [0])?;
    Ok(())
}

/// What a bare array sleeps for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Until {
    /// Nobody is left; and takes the lock
    Idle,
    /// Nobody has the lock
    Unlocked,
}

impl Until {
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Unlocked => "unlocked",
        }
    }
}

pub fn wait(id: i32, until: Until) -> Result<()> {
    say("here")?;
    let cpu = cpu_time();
    let set = set(id);
    match until {
        Until::Idle => set.operate(&[(REFS, 0), (PIN, 0), (LOCK, 0), (LOCK, 1)])?,
        Until::Unlocked => set.wait_for_zero(LOCK)?,
    }
    let awake = now_ns();
    say(&format!("ok {awake} {awake} {}", cpu_time() - cpu))?;
    // Its end would keep the others from waking.
    let _ = std::io::stdin().read(&mut [0])?;
    Ok(())
}

pub fn last(id: i32, seconds: f64) -> Result<()> {
    let set = set(id);
    say("here")?;
    std::io::stdin().read_line(&mut String::new())?;
    let (cpu, began) = (cpu_time(), now_ns());
    let limit = Duration::from_secs_f64(seconds);
    let start = Instant::now();
    let mut count = 0_u64;
    while start.elapsed() < limit {
        set.up_and_down(REFS)?;
        count += 1;
    }
    say(&format!(
        "ok {began} {} {} {count}",
        now_ns(),
        cpu_time() - cpu
    ))
}
