//! What procref costs, beside the least that the kernel asks for, and beside what people use today.
//!
//! One run measures all of it side by side: in every round each contender has its turn, and whatever
//! has a floor is told as the ratio to it. The result is a table, JSON and plots. `docs/benchmarks.md`
//! tells how to read them.

mod client;
mod contender;
mod driver;
mod groups;
mod isolate;
mod many;
mod peers;
mod plot;
mod raw;
mod report;
mod service;
mod site;
mod stats;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::contender::Contender;
use crate::groups::{Effort, Group};

/// An error that ends a run, or one role of it, with what was being done.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

#[derive(Parser)]
#[command(
    name = "procref-bench",
    about = "Measures procref beside the kernel and beside what people use today"
)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// A short run that shows whether everything works: its figures mean little
    #[arg(long)]
    quick: bool,
    /// Only these groups
    #[arg(long, value_delimiter = ',')]
    only: Vec<Group>,
    /// Only these contenders
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<Contender>,
    /// Where table.md, results.json and the plots go
    #[arg(long, value_name = "DIR", default_value = "target/benchmarks")]
    out: PathBuf,
    /// Fails where a ratio to the floor is above its limit
    #[arg(long)]
    check: bool,
}

/// What this program is besides: all the processes of a measurement are it.
#[derive(Subcommand)]
enum Role {
    /// In namespaces of its own, the measurement
    #[command(hide = true)]
    Measure { scratch: PathBuf },
    /// A client that does what it reads from its standard input
    #[command(hide = true)]
    Client { contender: Contender, site: PathBuf },
    /// The service
    #[command(hide = true)]
    Serve { site: PathBuf },
    /// The service, as a D-Bus bus starts it
    #[command(hide = true)]
    ServeDbus { site: PathBuf },
    /// What counts the connections of its clients
    #[command(hide = true)]
    Daemon { site: PathBuf },
    /// Starts many services, each hosted by this very process
    #[command(hide = true)]
    Host { dir: PathBuf, count: usize },
    /// Holds a bare reference
    #[command(hide = true)]
    RawHold { id: i32 },
    /// Sleeps in a bare array
    #[command(hide = true)]
    RawWait { id: i32, until: raw::Until },
    /// Counts up and down on a bare set
    #[command(hide = true)]
    RawLast { id: i32, seconds: f64 },
    /// Holds ever more services, and tells what each costs
    #[command(hide = true)]
    Many {
        what: many::What,
        dir: PathBuf,
        points: Vec<usize>,
    },
    /// Takes many handles of one service, and tells what each weighs
    #[command(hide = true)]
    Handles { site: PathBuf, count: usize },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.role {
        None => return isolate::run(),
        Some(Role::Measure { scratch }) => {
            let effort = Effort::new(arguments.quick);
            groups::measure(scratch, &effort, &arguments)
        }
        Some(Role::Client { contender, site }) => client::run(*contender, site),
        Some(Role::Serve { site }) => service::run(site),
        Some(Role::ServeDbus { site }) => peers::dbus::serve(site),
        Some(Role::Daemon { site }) => peers::daemon::run(site),
        Some(Role::Host { dir, count }) => many::host(dir, *count),
        Some(Role::RawHold { id }) => raw::hold(*id),
        Some(Role::RawWait { id, until }) => raw::wait(*id, *until),
        Some(Role::RawLast { id, seconds }) => raw::last(*id, *seconds),
        Some(Role::Many { what, dir, points }) => many::hold(*what, dir, points),
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
