//! The storm on Linux. Clients are forked. The checker reads `/proc`, the kernel's table of semaphores, and the
//! exit statuses that it reaps.
//!
//! | module | role |
//! |---|---|
//! | `runner` | starts the clients, injects the faults, ends the rounds |
//! | `workload` | the operations and faults that a seed determines |
//! | `fork_server` | the process that forks the clients |
//! | `client`, `callbacks` | a client process, and the callbacks of its service |
//! | `service`, `event`, `reporter`, `operation_lock` | the parts that clients and runner share |
//! | `history`, `checker` | the history of a service, and the verdict on each event |
//! | `observe`, `stats` | observations from outside, and the table at the end |

mod callbacks;
mod checker;
mod client;
mod event;
mod fork_server;
mod history;
mod observe;
mod operation_lock;
mod reporter;
mod runner;
mod service;
mod stats;
mod workload;

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::options::Options;
use client::ClientSpec;
use runner::Runner;
use stats::Stats;

/// Runs this program in one of its other roles. Returns `None` if the arguments name no role.
pub fn run_role(args: &[String]) -> Option<ExitCode> {
    let (role, rest) = args.split_first()?;
    let args = || rest.iter().cloned();
    let arg = |index: usize| rest.get(index).map_or("", |arg| arg);
    Some(match role.as_str() {
        "service" => procref_testkit::fake::main(&["service"], args()),
        "sleep" => client::sleep(args()),
        "fork-server" => fork_server::main(),
        "cleanup" => clean_up(arg(0), arg(1)),
        _ => return None,
    })
}

/// Runs a storm. Returns its figures, and the violation if there was one.
pub fn run_storm(options: Options) -> io::Result<(Stats, Result<(), String>)> {
    Ok(Runner::new(options)?.run())
}

fn clean_up(spec: &str, task: &str) -> ExitCode {
    let Ok(spec) = serde_json::from_str::<ClientSpec>(spec) else {
        return ExitCode::from(2);
    };
    match client::clean_up(spec, task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
