//! Parses command lines with one command, without the arguments of all other commands.
//!
//! clap builds the arguments of all commands before it reads the first word, and that takes longer than `run` needs to
//! join a service. `#[command(defer = true)]` would avoid that, but it also changes the order of the help pages.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Args as _, FromArgMatches as _};
use procref_config::prestart::protocol::SUBCOMMAND;

use super::{
    AcquireArgs, Cli, ConnectArgs, EnvArgs, HoldArgs, LogsArgs, NamedArgs, PrestartArgs, PsArgs,
    RestartArgs, RunArgs, StatusArgs, StopArgs, WaitArgs,
};
use crate::globals::Globals;

/// A command's name, and the function that adds its arguments.
type NamedCommand = (&'static str, fn(clap::Command) -> clap::Command);

/// The commands that programs and scripts execute.
const COMMANDS: [NamedCommand; 13] = [
    ("run", RunArgs::augment_args),
    ("hold", HoldArgs::augment_args),
    ("connect", ConnectArgs::augment_args),
    ("pin", AcquireArgs::augment_args),
    ("unpin", NamedArgs::augment_args),
    ("env", EnvArgs::augment_args),
    ("ps", PsArgs::augment_args),
    ("status", StatusArgs::augment_args),
    ("logs", LogsArgs::augment_args),
    ("stop", StopArgs::augment_args),
    ("restart", RestartArgs::augment_args),
    ("wait", WaitArgs::augment_args),
    (SUBCOMMAND, PrestartArgs::augment_args),
];

/// Parses a valid command line with one of [`COMMANDS`], or a request for the version.
///
/// Returns `None` if the whole command line must be parsed: the help and the errors also describe other commands.
pub(super) fn parse(words: &[OsString]) -> Option<Result<Cli, clap::Error>> {
    let behind = || words.iter().skip(1);
    // A value of an option may be the name of a command. Then clap finds no command, or the same one.
    let command = behind().find_map(|word| COMMANDS.iter().find(|(name, _)| word == name));
    let wants_version = || behind().any(|word| word == "--version" || word == "-V");
    if command.is_none() && !wants_version() {
        return None;
    }
    let matches = with_command(command.copied()).try_get_matches_from(words);
    match matches.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches)) {
        Err(error) if error.kind() != ErrorKind::DisplayVersion => None,
        parsed => Some(parsed),
    }
}

fn with_command(command: Option<NamedCommand>) -> clap::Command {
    let root = clap::Command::new("procref")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true);
    let root = Globals::augment_args(root);
    match command {
        Some((name, with_args)) => root.subcommand(with_args(clap::Command::new(name))),
        None => root,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn args(command: &clap::Command) -> Vec<String> {
        command
            .get_arguments()
            .map(|arg| format!("{arg:?}"))
            .collect()
    }

    fn parsed(line: &str) -> Option<Result<Cli, clap::Error>> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&words)
    }

    #[test]
    fn commands_have_the_same_arguments_as_in_the_whole_command_line() {
        let whole = Cli::command();
        for command in COMMANDS {
            let one = with_command(Some(command));
            assert_eq!(args(&one), args(&whole));
            let name = command.0;
            let (one, whole) = (one.find_subcommand(name), whole.find_subcommand(name));
            assert_eq!(one.map(args), whole.map(args), "{name}");
        }
    }

    #[test]
    fn one_command_is_parsed_as_in_the_whole_command_line() {
        for line in [
            "procref run db -- ps",
            "procref run db --port 5 -c run",
            "procref --config run run db -- env --version",
            "procref -vv hold db --for-pid 7 -q",
            "procref connect db --socket x --color never",
            "procref pin db --json",
            "procref unpin db --fingerprint x",
            "procref env --format json a b",
            "procref ps --all --watch --interval 3s",
            "procref status status",
            "procref logs a b -fn 3",
            "procref stop --all --force",
            "procref restart a b",
            "procref wait db --stopped --timeout 3s",
        ] {
            let whole = <Cli as clap::Parser>::try_parse_from(line.split(' '));
            let whole = whole.map(|cli| format!("{cli:?}")).ok();
            // The command lines that are quiet and verbose at the same time are invalid.
            let one = parsed(line)
                .and_then(Result::ok)
                .map(|cli| format!("{cli:?}"));
            assert_eq!(one, whole, "{line}");
        }
    }

    #[test]
    fn version_is_the_only_error_that_one_command_returns() {
        for line in [
            "procref --version",
            "procref -q -V",
            "procref run -q --version",
        ] {
            let found = parsed(line).and_then(Result::err).map(|error| error.kind());
            let whole = <Cli as clap::Parser>::try_parse_from(line.split(' '));
            let whole = whole.err().map(|error| error.kind());
            let expected = whole.filter(|kind| *kind == ErrorKind::DisplayVersion);
            assert_eq!(found, expected, "{line}");
        }
        for line in [
            "procref",
            "procref rum",
            "procref run",
            "procref --help",
            "procref --config run",
        ] {
            assert!(parsed(line).is_none(), "{line}");
        }
    }
}
