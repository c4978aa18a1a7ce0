//! Clients that are forked, and judged by `/proc`, by the kernel's table of semaphores, and by who has reaped them.

mod callbacks;
mod client;
mod fork_server;
mod history;
mod observe;
mod runner;
mod service;
mod stats;
mod workload;

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::Options;
use client::Orders;
use runner::Director;
use stats::Tally;

/// What this program does as another one than the director. `None`: that is not asked for.
pub fn play(args: &[String]) -> Option<ExitCode> {
    let (role, rest) = args.split_first()?;
    let args = || rest.iter().cloned();
    let word = |at: usize| rest.get(at).map_or("", |word| word);
    Some(match role.as_str() {
        "service" => procref_testkit::fake::main(&["service"], args()),
        "rest" => client::rest(args()),
        "nursery" => fork_server::main(),
        "visit" => visit(word(0), word(1)),
        _ => return None,
    })
}

/// The figures, and what was wrong.
pub fn storm(options: Options) -> io::Result<(Tally, Result<(), String>)> {
    Ok(Director::new(options)?.run())
}

fn visit(orders: &str, nth: &str) -> ExitCode {
    let Ok(orders) = serde_json::from_str::<Orders>(orders) else {
        return ExitCode::from(2);
    };
    match client::visit(orders, nth) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
