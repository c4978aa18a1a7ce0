//! Processes that hold many services, or many handles.

use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use clap::ValueEnum;
use procref::{Orphan, ServiceHandle, ServiceInfo, SharedService};
use procref_testkit::observe::Identity;

use crate::Result;
use crate::client::say;
use crate::raw::Bare;

/// How many of those that are held are let go and taken again, for a mean.
const TURNS: usize = 400;

/// A service that is the process which starts it: what is measured is counting. Without a supervisor,
/// of which there would be as many as services.
pub fn hosted(dir: &Path, number: usize) -> Result<SharedService> {
    Ok(SharedService::builder(&format!("service-{number}"))
        .base_dir(dir)
        .orphan(Orphan::Keep)
        .on_first_acquire(|| async { Ok(ServiceInfo::with_pid(std::process::id())) })
        .build()?)
}

/// Starts them all, and keeps them until the end of its input.
pub fn host(dir: &Path, count: usize) -> Result<()> {
    let handles = (0..count).map(|number| Ok(hosted(dir, number)?.acquire_blocking()?));
    let handles: Vec<ServiceHandle> = handles.collect::<Result<_>>()?;
    say("here")?;
    let _ = std::io::stdin().read(&mut [0])?;
    drop(handles);
    Ok(())
}

/// What a process has many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    Services,
    Sets,
}

impl What {
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Sets => "sets",
        }
    }
}

/// Something that is held and can be let go and taken again.
trait Held {
    fn turn(&mut self) -> Result<()>;
}

struct HeldService(SharedService, Option<ServiceHandle>);

impl Held for HeldService {
    fn turn(&mut self) -> Result<()> {
        self.1 = None;
        self.1 = Some(self.0.acquire_blocking()?);
        Ok(())
    }
}

impl Held for Bare {
    fn turn(&mut self) -> Result<()> {
        self.pair()
    }
}

/// At each point tells, in ns and bytes: `NUMBER FIRST AGAIN MEMORY`, where FIRST is the mean of taking
/// those since the last point, AGAIN of letting one go and taking it again, all of them in turn.
pub fn hold(what: What, dir: &Path, points: &[usize]) -> Result<()> {
    let mut held: Vec<Box<dyn Held>> = Vec::new();
    let memory = private_memory();
    for &point in points {
        let before = held.len();
        let mut fresh: Vec<Box<dyn Held>> = Vec::new();
        let mut services = Vec::new();
        for number in before..point {
            match what {
                What::Services => services.push(hosted(dir, number)?),
                What::Sets => fresh.push(Box::new(Bare::new()?)),
            }
        }
        let began = Instant::now();
        for service in services {
            let handle = service.acquire_blocking()?;
            fresh.push(Box::new(HeldService(service, Some(handle))));
        }
        for set in fresh.iter_mut().filter(|_| what == What::Sets) {
            set.turn()?;
        }
        let first = began.elapsed().as_nanos() as f64 / (point - before) as f64;
        held.append(&mut fresh);
        let step = held.len().div_ceil(TURNS);
        let rounds = (2 * TURNS).div_ceil(held.len().div_ceil(step));
        let mut turns = 0;
        let began = Instant::now();
        for _ in 0..rounds {
            for one in held.iter_mut().step_by(step) {
                one.turn()?;
                turns += 1;
            }
        }
        let again = began.elapsed().as_nanos() as f64 / f64::from(turns);
        let grown = private_memory().saturating_sub(memory);
        say(&format!("{point} {first} {again} {}", grown * 1024))?;
    }
    Ok(())
}

/// Tells how many bytes each of so many handles of one service takes.
pub fn handles(dir: &Path, count: usize) -> Result<()> {
    let service = hosted(dir, 0)?;
    let first = service.acquire_blocking()?;
    let before = private_memory();
    let handles = (0..count).map(|_| Ok(service.acquire_blocking()?));
    let handles: Vec<ServiceHandle> = handles.collect::<Result<_>>()?;
    let grown = private_memory().saturating_sub(before) * 1024;
    say(&format!("{}", grown as f64 / count as f64))?;
    drop((handles, first));
    Ok(())
}

/// In KiB.
fn private_memory() -> u64 {
    Identity::own().private_memory()
}
