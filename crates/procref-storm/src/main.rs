//! A storm: many processes acquire, hold and release services, fork, execute programs, and die at random.
//! A checker watches from outside and stops the storm at the first broken guarantee.
//!
//! ```sh
//! cargo run --release -p procref-storm -- --processes 32 --seconds 20 --kill-rate 5
//! ```
//!
//! The seed determines the operations of all clients, and their order. `--seed` repeats them, but not at the
//! same moments. The exit code is 1 after a violation, and the report describes it.

#[cfg(target_os = "linux")]
mod linux;
mod options;
#[cfg(windows)]
mod windows;

use std::io::{self, Write};
use std::process::ExitCode;

#[cfg(target_os = "linux")]
use crate::linux as sys;
use crate::options::Options;
#[cfg(windows)]
use crate::windows as sys;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    sys::run_role(&args).unwrap_or_else(|| run_storm(args.into_iter()))
}

fn run_storm(args: impl Iterator<Item = String>) -> ExitCode {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(text) => {
            let _ = writeln!(io::stderr(), "{text}");
            return ExitCode::from(2);
        }
    };
    let seed = options.seed;
    let (stats, result) = match sys::run_storm(options) {
        Ok(finished) => finished,
        Err(error) => {
            let _ = writeln!(io::stderr(), "could not run the storm: {error}");
            return ExitCode::from(2);
        }
    };
    let mut out = io::stdout();
    let _ = writeln!(out, "seed {seed}\n{stats}");
    match result {
        Ok(()) => {
            let _ = writeln!(out, "all well");
            ExitCode::SUCCESS
        }
        Err(text) => {
            let _ = writeln!(out, "FAILED, with --seed {seed}: {text}");
            ExitCode::FAILURE
        }
    }
}
