use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::args::{self, Cli, HelpArgs};
use crate::error::{Error, Result};

/// Prints what `--help` prints.
pub(crate) fn run(args: &HelpArgs) -> Result<ExitCode> {
    let mut words = vec!["procref"];
    if let Some(name) = &args.command {
        args::command_named(&Cli::command(), name)?;
        words.push(name);
    }
    words.push("--help");
    // clap returns the text as an error of the kind `DisplayHelp`.
    match Cli::try_parse_from(words) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(help) => help
            .print()
            .map(|()| ExitCode::SUCCESS)
            .map_err(|source| Error::io("write to the standard output", source)),
    }
}
