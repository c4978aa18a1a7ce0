//! The options of the command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const USAGE: &str = "usage: storm [--processes N] [--seconds N] [--kill-rate N] [--doomed PERCENT] \
                     [--seed N] [--kind callback|command|both] [--kill-keepers PERCENT] [--trace DIR]";

/// The kind of a service: the way in which it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A start callback spawns the process.
    Callback,
    /// procref executes the program.
    Command,
}

/// The options of a storm.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of client processes that run at a time.
    pub processes: usize,
    /// No further round begins after this time.
    pub time: Duration,
    /// Faults per second: deaths, suspensions and unhealthy instances.
    pub rate: f64,
    /// Percentage of clients that kill themselves.
    pub doomed: u32,
    /// Determines the operations of all clients, and their order.
    pub seed: u64,
    /// The services take these kinds in turn.
    pub kinds: Vec<Kind>,
    /// Percentage of additional faults that kill a keeper or a supervisor.
    pub kill_keepers: u32,
    /// Directory for the traces of procref in the clients.
    pub trace: Option<PathBuf>,
}

impl Options {
    /// Parses the arguments of the command line.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        fn number<T: FromStr>(text: &str) -> Result<T, String> {
            text.parse().map_err(|_| format!("{text} is no number"))
        }

        let mut options = Self {
            processes: 32,
            time: Duration::from_secs(20),
            rate: 5.0,
            doomed: 20,
            seed: fastrand::u64(0..1_000_000),
            kinds: vec![Kind::Callback, Kind::Command],
            kill_keepers: 0,
            trace: None,
        };
        while let Some(arg) = args.next() {
            let value = args.next().ok_or(USAGE)?;
            match arg.as_str() {
                "--processes" => options.processes = number::<usize>(&value)?.clamp(1, 2000),
                "--doomed" => options.doomed = number::<u32>(&value)?.min(100),
                "--kill-keepers" => options.kill_keepers = number::<u32>(&value)?.min(100),
                "--seconds" => options.time = Duration::from_secs(number(&value)?),
                "--kill-rate" => options.rate = number::<f64>(&value)?.clamp(0.01, 1000.0),
                "--seed" => options.seed = number(&value)?,
                "--trace" => options.trace = Some(value.into()),
                "--kind" => {
                    options.kinds = match value.as_str() {
                        "callback" => vec![Kind::Callback],
                        "command" => vec![Kind::Command],
                        "both" => vec![Kind::Callback, Kind::Command],
                        _ => return Err(USAGE.to_owned()),
                    }
                }
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }
}
