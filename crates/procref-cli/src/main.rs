//! `procref`: one background service for many processes, from any language and by hand.

use std::process::ExitCode;

mod args;
mod commands;
mod config;
mod demo;
mod doctor;
mod error;
mod output;
mod plan;
mod recipes;
mod setup;
mod spec;
mod values;

fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(refused) => return refused.tell(),
    };
    output::set_up(&cli.globals);
    let ended = commands::dispatch(&cli);
    error::exit_code(&cli, ended)
}
