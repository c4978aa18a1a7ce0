//! The results of a run.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::stats::Measure;

/// The results of a run.
#[derive(Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    pub quick: bool,
    pub facts: Vec<(Contender, Facts)>,
    pub measures: Vec<Measure>,
}

/// The machine of a run. The description does not identify its owner.
#[derive(Serialize, Deserialize)]
pub struct Machine {
    pub processors: usize,
    pub processor: String,
    pub memory_gib: u64,
    pub kernel: String,
    pub architecture: String,
}

impl Machine {
    pub fn current() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split(':').nth(1));
            value.unwrap_or_default().trim().to_owned()
        };
        let release = read("/proc/sys/kernel/osrelease");
        // The rest of the release names the build.
        let kernel = release.trim().split('-').next().unwrap_or_default();
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib = memory
            .split(' ')
            .next()
            .and_then(|number| number.parse::<u64>().ok());
        Self {
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            memory_gib: kib.unwrap_or(0).div_ceil(1 << 20),
            kernel: format!("Linux {kernel}"),
            architecture: std::env::consts::ARCH.to_owned(),
        }
    }
}

/// The behavior of a contender in the trials. A trial shows what happened, not what the contender promises.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// `Err` contains the reason why the contender cannot be used.
    pub works: std::result::Result<(), String>,
    /// Errors of failed trials. A failed trial counts as "no".
    pub failures: Vec<String>,
    /// Number of services that ran when many clients attached at once. One is correct.
    pub starts_in_a_race: usize,
    /// No client returned from attach before the service was ready.
    pub waits_for_ready: bool,
    /// The service was stopped after the last client detached.
    pub stops_after_last: bool,
    /// The service was stopped after the other clients detached, although a client had been killed.
    pub survives_a_killed_client: bool,
    /// The service was stopped after the last client was killed.
    pub stops_after_last_is_killed: bool,
    /// A waiting client started the service after the starter was killed. `None` if clients do not start the service.
    pub takes_over: Option<bool>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            works: Err("not tried".to_owned()),
            failures: Vec::new(),
            starts_in_a_race: 0,
            waits_for_ready: false,
            stops_after_last: false,
            survives_a_killed_client: false,
            stops_after_last_is_killed: false,
            takes_over: None,
        }
    }
}
