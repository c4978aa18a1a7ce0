//! Parses the command line, and finds the commands that help and completions show.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{CommandFactory as _, Parser as _};
use procref_config::files::{diagnostic, find::FILE_NAME};

use super::{Cli, hints, one_command};
use crate::error::Error;
use crate::exit;

/// An invalid command line, or a request for help.
pub(crate) struct ParseError {
    error: clap::Error,
    /// `run` has its own exit codes, because its client may use the codes of other commands.
    in_run: bool,
}

impl ParseError {
    pub(crate) fn print(self) -> ExitCode {
        // A failed write does not change the exit code.
        let _ = self.error.print();
        match self.error.exit_code() {
            0 => ExitCode::SUCCESS,
            _ if self.in_run => ExitCode::from(exit::CLIENT_NOT_RUN),
            _ => ExitCode::from(exit::USAGE),
        }
    }
}

pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, ParseError> {
    let words: Vec<OsString> = words.into_iter().collect();
    let parsed = one_command::parse(&words).unwrap_or_else(|| Cli::try_parse_from(&words));
    parsed.map_err(|error| {
        // The help and the version are no errors of the command line.
        if !error.use_stderr() {
            let in_run = false;
            return ParseError { error, in_run };
        }
        let texts = words.iter().map(|word| word.to_string_lossy().into_owned());
        let texts: Vec<String> = texts.collect();
        let in_run = is_run(words);
        ParseError {
            error: hints::add(error, &texts, in_run),
            in_run,
        }
    })
}

fn is_run(words: Vec<OsString>) -> bool {
    let lenient = Cli::command().ignore_errors(true);
    let found = lenient.try_get_matches_from(words);
    found.is_ok_and(|found| found.subcommand_name() == Some("run"))
}

/// Returns the command line without the hidden commands.
pub(crate) fn public_command() -> clap::Command {
    let whole = Cli::command();
    let shown: Vec<clap::Command> = shown_commands(&whole).cloned().collect();
    let names: Vec<String> = shown.iter().map(|it| it.get_name().to_owned()).collect();
    let takes_command = |command: clap::Command| {
        let mut names = names.clone();
        if command.get_name() == "man" {
            names.push(FILE_NAME.to_owned());
        }
        let names = PossibleValuesParser::new(names);
        command.mut_arg("command", |arg| arg.value_parser(names))
    };
    // clap cannot remove a command from the derived one, so this builds another one.
    clap::Command::new("procref")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(whole.get_arguments().cloned())
        .subcommands(shown)
        .mut_subcommand("help", takes_command)
        .mut_subcommand("man", takes_command)
}

pub(crate) fn shown_commands(root: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    root.get_subcommands().filter(|it| !it.is_hide_set())
}

/// Finds a command that is not hidden by its name or an alias.
pub(crate) fn command_named<'a>(
    root: &'a clap::Command,
    name: &str,
) -> Result<&'a clap::Command, Error> {
    let found = root.find_subcommand(name).filter(|it| !it.is_hide_set());
    found.ok_or_else(|| {
        let names = shown_commands(root).map(clap::Command::get_name);
        let suggested = match hints::for_command(name) {
            Some(hint) => format!("; {hint}"),
            None => diagnostic::suggestion(name, names),
        };
        Error::Usage(format!("unknown command {name:?}{suggested}"))
    })
}
