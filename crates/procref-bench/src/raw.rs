//! The floors: the cost of the system calls that the kernel needs to count a reference.

use std::io::Read as _;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use procref_testkit::kernel::Set;
use procref_testkit::observe::now_ns;

use crate::error::Result;
use crate::stdio::{cpu_time, print_line};

/// Number of slots, as in a set of procref.
pub const SLOTS: usize = 130;
const REFS: u16 = 0;
const PIN: u16 = 1;
const LOCK: u16 = 2;

/// A semaphore set without procref. Dropping it removes the set.
pub struct BareSet(Set);

impl BareSet {
    pub fn new() -> Result<Self> {
        // The key is IPC_PRIVATE, so no other process finds the set.
        Ok(Self(Set::create(0, SLOTS, 0o600)?))
    }

    pub fn id(&self) -> String {
        self.0.id.to_string()
    }

    /// Increments and decrements the count.
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

    /// Returns the mean time of a pair, in ns.
    pub fn floor(&self) -> Result<f64> {
        const REPEATS: u32 = 20_000;
        let began = Instant::now();
        for _ in 0..REPEATS {
            self.pair()?;
        }
        Ok(began.elapsed().as_nanos() as f64 / f64::from(REPEATS))
    }
}

impl Drop for BareSet {
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
        state: None,
    }
}

/// Holds a reference and the lock until the input ends.
pub fn hold(id: i32) -> Result<()> {
    set(id).operate(&[(REFS, 1), (LOCK, 1)])?;
    print_line("held")?;
    let _ = std::io::stdin().read(&mut [0])?;
    Ok(())
}

/// The condition that a bare array waits for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Until {
    /// No reference is left; the array also takes the lock
    Idle,
    /// No process holds the lock
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

/// Waits in a bare array, and prints when the process woke up.
pub fn wait(id: i32, until: Until) -> Result<()> {
    print_line("ready")?;
    let cpu = cpu_time();
    let set = set(id);
    match until {
        Until::Idle => set.operate(&[(REFS, 0), (PIN, 0), (LOCK, 0), (LOCK, 1)])?,
        Until::Unlocked => set.wait_for_zero(LOCK)?,
    }
    let awake = now_ns();
    print_line(&format!("ok {awake} {awake} {}", cpu_time() - cpu))?;
    // If the process exited now, its exit would delay the wakes of the others.
    let _ = std::io::stdin().read(&mut [0])?;
    Ok(())
}

/// Performs pairs for this time, and prints their number.
pub fn repeat_for(id: i32, seconds: f64) -> Result<()> {
    let set = set(id);
    print_line("ready")?;
    std::io::stdin().read_line(&mut String::new())?;
    let (cpu, began) = (cpu_time(), now_ns());
    let limit = Duration::from_secs_f64(seconds);
    let start = Instant::now();
    let mut count = 0_u64;
    while start.elapsed() < limit {
        set.up_and_down(REFS)?;
        count += 1;
    }
    print_line(&format!(
        "ok {began} {} {} {count}",
        now_ns(),
        cpu_time() - cpu
    ))
}
