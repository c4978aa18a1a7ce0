//! Measures the costs of procref, and compares them with the minimal cost in the kernel and with common
//! alternatives.
//!
//! A run measures everything side by side: each contender has its turn in every round. A measure with a floor is
//! reported as the ratio to the floor of the same round. The results are a table, JSON and plots.
//! `docs/benchmarks.md` explains them.

mod arguments;
mod client;
mod contender;
mod driver;
mod error;
mod groups;
mod isolate;
mod many;
mod peers;
mod plot;
mod raw;
mod report;
mod results;
mod service;
mod site;
mod stats;
mod stdio;

use std::process::ExitCode;

use clap::Parser as _;
use procref::Orphan;

use crate::arguments::{Arguments, Role};
use crate::groups::{Effort, Selection};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.role {
        None => return isolate::run(),
        Some(Role::Measure { scratch }) => {
            let selection = Selection {
                only: &arguments.only,
                contenders: &arguments.contenders,
                out: &arguments.out,
                check: arguments.check,
            };
            groups::measure(scratch, &Effort::new(arguments.quick), &selection)
        }
        Some(Role::Client { contender, site }) => client::run(*contender, site),
        Some(Role::Serve { site }) => service::run(site),
        Some(Role::ServeDbus { site }) => peers::dbus::serve(site),
        Some(Role::Daemon { site }) => peers::daemon::run(site),
        Some(Role::Host {
            dir,
            count,
            supervised,
        }) => {
            let orphan = match supervised {
                true => Orphan::Stop,
                false => Orphan::Keep,
            };
            many::host(dir, *count, orphan)
        }
        Some(Role::RawHold { id }) => raw::hold(*id),
        Some(Role::RawWait { id, until }) => raw::wait(*id, *until),
        Some(Role::RawLast { id, seconds }) => raw::repeat_for(*id, *seconds),
        Some(Role::Many { kind, dir, points }) => many::hold(*kind, dir, points),
        Some(Role::Handles { site, count }) => many::handles(site, *count),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("procref-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
