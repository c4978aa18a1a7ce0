//! `procref env`: prints the variables that `run` would export.

use std::process::ExitCode;

use crate::args::EnvArgs;
use crate::error::Result;
use crate::globals::Globals;
use crate::output;
use crate::resolve::running_variables;

mod format;

pub(crate) use format::EnvFormat;

pub(crate) fn run(globals: &Globals, args: &EnvArgs) -> Result<ExitCode> {
    let variables = running_variables(globals, &args.names, &args.which)?;
    output::print_bytes(&args.format.text(&variables)?)?;
    Ok(ExitCode::SUCCESS)
}
