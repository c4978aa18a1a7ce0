//! The commands, one file each.

use std::process::ExitCode;

use crate::args::{Cli, Command};
use crate::demo;
use crate::doctor::{self, probe};
use crate::error::Result;
use crate::prestart;

mod check;
mod completions;
mod connect;
pub(crate) mod env;
mod gc;
mod help;
mod hold;
mod init;
mod logs;
mod man;
mod pin;
mod ps;
mod restart;
mod run;
mod status;
mod stop;
mod unpin;
mod wait;

pub(crate) fn dispatch(cli: &Cli) -> Result<ExitCode> {
    let globals = &cli.globals;
    match &cli.command {
        Command::Run(args) => run::run(globals, args),
        Command::Hold(args) => hold::run(globals, args),
        Command::Connect(args) => connect::run(globals, args),
        Command::Pin(args) => pin::run(globals, args),
        Command::Env(args) => env::run(globals, args),
        Command::Unpin(args) => unpin::run(globals, args),
        Command::Ps(args) => ps::run(globals, args),
        Command::Status(args) => status::run(globals, args),
        Command::Logs(args) => logs::run(globals, args),
        Command::Stop(args) => stop::run(globals, args),
        Command::Restart(args) => restart::run(globals, args),
        Command::Wait(args) => wait::run(globals, args),
        Command::Gc(args) => gc::run(globals, args),
        Command::Doctor(args) => doctor::run(globals, args),
        Command::Check(args) => check::run(globals, args),
        Command::Init(args) => init::run(globals, args),
        Command::Demo => demo::run(),

        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::Help(args) => help::run(args),
        Command::Prestart(args) => prestart::exec::run(args),
        Command::DoctorProbe(args) => probe::run(args),
        Command::DemoClient => demo::client(),
        Command::DemoService(args) => demo::service(args),
    }
}
