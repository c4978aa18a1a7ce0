//! Processes that hold many services, or many handles.

use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use clap::ValueEnum;
use procref::{Orphan, ServiceHandle, ServiceInfo, SharedService};
use procref_testkit::observe::Identity;

use crate::error::Result;
use crate::raw::BareSet;
use crate::stdio::print_line;

/// Number of held objects that are released and taken again for a mean.
const SAMPLES: usize = 400;

/// A service that its starter hosts, so that only the counting is measured. There is no supervisor, because each service
/// would have its own.
pub fn hosted(dir: &Path, number: usize) -> Result<SharedService> {
    build(dir, number, Orphan::Keep)
}

/// A service that its starter hosts. It has a supervisor if it is not kept without clients.
fn build(dir: &Path, number: usize, orphan: Orphan) -> Result<SharedService> {
    Ok(SharedService::builder(&format!("service-{number}"))
        .base_dir(dir)
        .orphan(orphan)
        .on_first_acquire(|| async { Ok(ServiceInfo::with_pid(std::process::id())) })
        .build()?)
}

/// Starts services, prints `NS MEMORY` (the time and the private memory for each), and holds them until the input ends.
pub fn host(dir: &Path, count: usize, orphan: Orphan) -> Result<()> {
    let (began, memory) = (Instant::now(), private_memory());
    let handles = (0..count).map(|number| Ok(build(dir, number, orphan)?.acquire_blocking()?));
    let handles: Vec<ServiceHandle> = handles.collect::<Result<_>>()?;
    let took = began.elapsed().as_nanos() as f64 / count as f64;
    let grown = (private_memory().saturating_sub(memory) * 1024) as f64 / count as f64;
    print_line(&format!("{took} {grown}"))?;
    let _ = std::io::stdin().read(&mut [0])?;
    drop(handles);
    Ok(())
}

/// The objects that a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Services,
    Sets,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Sets => "sets",
        }
    }
}

/// A held object that can be released and taken again.
trait Held {
    fn retake(&mut self) -> Result<()>;
}

struct HeldService(SharedService, Option<ServiceHandle>);

impl Held for HeldService {
    fn retake(&mut self) -> Result<()> {
        self.1 = None;
        self.1 = Some(self.0.acquire_blocking()?);
        Ok(())
    }
}

impl Held for BareSet {
    fn retake(&mut self) -> Result<()> {
        self.pair()
    }
}

/// Holds more and more objects, and prints `NUMBER FIRST AGAIN MEMORY` at each point, in ns and bytes. FIRST is the mean
/// time to take an object for the first time since the last point. AGAIN is the mean time to release an object and take
/// it again.
pub fn hold(kind: Kind, dir: &Path, points: &[usize]) -> Result<()> {
    let mut held: Vec<Box<dyn Held>> = Vec::new();
    let memory = private_memory();
    for &point in points {
        let before = held.len();
        let mut fresh: Vec<Box<dyn Held>> = Vec::new();
        let mut services = Vec::new();
        for number in before..point {
            match kind {
                Kind::Services => services.push(hosted(dir, number)?),
                Kind::Sets => fresh.push(Box::new(BareSet::new()?)),
            }
        }
        let began = Instant::now();
        for service in services {
            let handle = service.acquire_blocking()?;
            fresh.push(Box::new(HeldService(service, Some(handle))));
        }
        for set in fresh.iter_mut().filter(|_| kind == Kind::Sets) {
            set.retake()?;
        }
        let first = began.elapsed().as_nanos() as f64 / (point - before) as f64;
        held.append(&mut fresh);
        let step = held.len().div_ceil(SAMPLES);
        let rounds = (2 * SAMPLES).div_ceil(held.len().div_ceil(step));
        let mut count = 0;
        let began = Instant::now();
        for _ in 0..rounds {
            for object in held.iter_mut().step_by(step) {
                object.retake()?;
                count += 1;
            }
        }
        let again = began.elapsed().as_nanos() as f64 / f64::from(count);
        let grown = private_memory().saturating_sub(memory);
        print_line(&format!("{point} {first} {again} {}", grown * 1024))?;
    }
    Ok(())
}

/// Takes handles of one service, and prints the size of each in bytes.
pub fn handles(dir: &Path, count: usize) -> Result<()> {
    let service = hosted(dir, 0)?;
    let first = service.acquire_blocking()?;
    let before = private_memory();
    let handles = (0..count).map(|_| Ok(service.acquire_blocking()?));
    let handles: Vec<ServiceHandle> = handles.collect::<Result<_>>()?;
    let grown = private_memory().saturating_sub(before) * 1024;
    print_line(&format!("{}", grown as f64 / count as f64))?;
    drop((handles, first));
    Ok(())
}

/// Returns the private memory of this process, in KiB.
fn private_memory() -> u64 {
    Identity::own().private_memory()
}
