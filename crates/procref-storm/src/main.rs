//! A storm: many processes acquire, hold and let go of services, fork, execute and die at random, for as
//! long as one likes, and what procref promises is judged from outside all the while.
//!
//! ```sh
//! cargo run --release -p procref-storm -- --processes 32 --seconds 20 --kill-rate 5
//! ```
//!
//! The seed decides what everybody does and in which order; `--seed` does it again, though not at the same
//! moments. Exits with 1 after the first thing that must not happen, and tells what it was.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
use crate::linux as sys;
#[cfg(windows)]
use crate::windows as sys;

const USAGE: &str = "storm [--processes N] [--seconds N] [--kill-rate N] [--doomed PERCENT] \
                     [--seed N] [--kind callback|command|both] [--trace DIR]";

/// How a service is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A callback spawns it.
    Callback,
    /// procref executes it.
    Command,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Client processes at a time.
    pub processes: usize,
    /// After that no further round begins.
    pub time: Duration,
    /// Blows per second: deaths, suspensions and spells of ill health.
    pub rate: f64,
    /// Of a hundred clients, so many kill themselves.
    pub doomed: u32,
    /// What everybody does, and in which order.
    pub seed: u64,
    /// In turns.
    pub kinds: Vec<Kind>,
    /// Where clients write what procref traces.
    pub trace: Option<PathBuf>,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    fn number<T: FromStr>(text: &str) -> Result<T, String> {
        text.parse().map_err(|_| format!("{text} is no number"))
    }

    let mut options = Options {
        processes: 32,
        time: Duration::from_secs(20),
        rate: 5.0,
        doomed: 20,
        seed: fastrand::u64(0..1_000_000),
        kinds: vec![Kind::Callback, Kind::Command],
        trace: None,
    };
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(USAGE)?;
        match arg.as_str() {
            "--processes" => options.processes = number::<usize>(&value)?.clamp(1, 2000),
            "--doomed" => options.doomed = number::<u32>(&value)?.min(100),
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

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    sys::play(&args).unwrap_or_else(|| direct(args.into_iter()))
}

fn direct(args: impl Iterator<Item = String>) -> ExitCode {
    let options = match parse(args) {
        Ok(options) => options,
        Err(text) => {
            let _ = writeln!(io::stderr(), "{text}");
            return ExitCode::from(2);
        }
    };
    let seed = options.seed;
    let (tally, outcome) = match sys::storm(options) {
        Ok(over) => over,
        Err(error) => {
            let _ = writeln!(io::stderr(), "no storm: {error}");
            return ExitCode::from(2);
        }
    };
    let mut out = io::stdout();
    let _ = writeln!(out, "seed {seed}\n{tally}");
    match outcome {
        Ok(()) => {
            let _ = writeln!(out, "all well");
            ExitCode::SUCCESS
        }
        Err(text) => {
            let _ = writeln!(out, "WRONG, with --seed {seed}: {text}");
            ExitCode::FAILURE
        }
    }
}
