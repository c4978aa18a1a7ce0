//! The program `procref`, which shares one background service between many processes.
//!
//! This crate is a program. Its modules are in a library so that procref's own tests and fuzz targets can reach them.
//! In your programs, use the library `procref`.

use std::process::ExitCode;

use args::{Cli, Command};
use error::Result;
use exit::CLIENT_NOT_RUN;

mod acquire;
mod args;
mod client;
mod commands;
mod completion;
mod config;
mod demo;
mod describe;
#[cfg(unix)]
mod descriptor;
mod doctor;
mod error;
mod exit;
mod follow;
mod globals;
mod helper;
mod json;
mod output;
mod prestart;
#[cfg(unix)]
mod process_tree;
mod resolve;
mod runtime_dir;
mod service_flags;
mod signals;
mod table;
mod text;
mod user;
mod watch;

/// Runs the program with the arguments of this process, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    completion::answer();
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return error.print(),
    };
    output::set_up(&cli.globals);
    let result = commands::dispatch(&cli);
    exit_code(&cli, result)
}

/// Prints the error, if there is one, and returns the exit code.
fn exit_code(cli: &Cli, result: Result<ExitCode>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        // The reader of the output has exited, for example `head`. That is not a failure.
        Err(error) if error.is_broken_pipe() => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    output::error(&error);
    match (&cli.command, error.code()) {
        (Command::Run(_), code) if code < CLIENT_NOT_RUN => ExitCode::from(CLIENT_NOT_RUN),
        (_, code) => ExitCode::from(code),
    }
}
