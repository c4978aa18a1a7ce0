//! `procref`: one background service for many processes, from any language and by hand.
//!
//! This is a program. What it is made of stands in a library only for procref's own tests and fuzzing to
//! reach it; use `procref`, the library, in programs of your own.

use std::process::ExitCode;

mod acquire;
mod args;
mod client;
mod commands;
mod config;
mod definition;
mod demo;
mod doctor;
mod error;
mod follow;
mod json;
mod output;
mod prestart;
mod program;
mod recipes;
mod relative_paths;
mod resolve;
mod shell;
mod signals;
mod spec;
mod table;
mod value_parsers;
mod watch;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

/// The whole program: reads its arguments, does what they say, and tells what came of it.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(refused) => return refused.tell(),
    };
    output::set_up(&cli.globals);
    let ended = commands::dispatch(&cli);
    error::exit_code(&cli, ended)
}
