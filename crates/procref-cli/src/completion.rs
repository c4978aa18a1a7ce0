//! Completes a command line in a shell: commands and options, and the services, projects and recipes that exist.
//!
//! The shell's script executes procref with the variable [`VARIABLE`] and the words of the command line, and procref
//! prints the possible words. A script with all words in it cannot know the services of a project.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{self, PathBuf};

use clap::{Arg, Command, CommandFactory as _, Parser as _};
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter as _,
};
use clap_complete::env::CompleteEnv;
use procref_config::files::find::FILE_NAME;
use procref_config::program;

use crate::args::{self, Cli};
use crate::config;
use crate::globals::Globals;
use crate::runtime_dir::services;

/// The variable with the index of the word to complete. Some shells do not set it, and complete the last word.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";

/// The variable that asks for completions.
pub(crate) const VARIABLE: &str = "PROCREF_COMPLETE";

/// Prints completions and exits, if a shell asks for them.
pub(crate) fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

/// Returns the command line without hidden commands, with the values that its arguments can have.
fn command() -> Command {
    // An alias would be shown instead of its command.
    args::public_command()
        .mut_args(with_values)
        .mut_subcommands(|command| command.visible_alias(None).mut_args(with_values))
}

fn with_values(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "name" => arg.add(ArgValueCandidates::new(service_names)),
        "names" => arg.add(ArgValueCompleter::new(names_or_client)),
        "config" => arg.add(ArgValueCompleter::new(files)),
        _ => arg,
    }
}

/// Returns the names of services, or the words of a client's command line after `--`.
///
/// clap_complete treats all positional words alike, also those after `--`.
fn names_or_client(current: &OsStr) -> Vec<CompletionCandidate> {
    let words: Vec<OsString> = env::args_os()
        .skip_while(|word| word != "--")
        .skip(1)
        .collect();
    let index = env::var(INDEX).ok().and_then(|index| index.parse().ok());
    let index = index.unwrap_or(words.len().saturating_sub(1));
    let before = &words[..index.min(words.len())];
    let Some(dashes) = before.iter().position(|word| word == "--") else {
        let begin = current.to_string_lossy();
        let mut names = service_names();
        names.retain(|name| name.get_value().to_string_lossy().starts_with(&*begin));
        return names;
    };
    let is_program = dashes + 1 == before.len();
    let is_path = current.to_string_lossy().contains(path::is_separator);
    match is_program && !is_path {
        true => programs(current),
        false => PathCompleter::any().complete(current),
    }
}

/// Returns the programs in `PATH` whose names begin with this text.
fn programs(current: &OsStr) -> Vec<CompletionCandidate> {
    let begin = current.to_string_lossy();
    let path = env::var_os("PATH").unwrap_or_default();
    let entries = env::split_paths(&path).filter_map(|dir| fs::read_dir(dir).ok());
    let names: BTreeSet<OsString> = entries
        .flat_map(|entries| entries.flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&*begin))
        .filter(|entry| program::find_in(entry.path().as_os_str(), None).is_some())
        .map(|entry| entry.file_name())
        .collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Returns the services of the files that apply here, and the running services.
///
/// An error has no place in the output of a completion. The command itself reports it.
fn service_names() -> Vec<CompletionCandidate> {
    let globals = globals();
    let mut found = config::described(&globals).unwrap_or_default();
    for namespace in config::namespaces(&globals, false).unwrap_or_default() {
        let running = services(namespace.dir.as_deref()).and_then(|it| it.list());
        for service in running.unwrap_or_default() {
            if let Some(name) = service.name() {
                found.insert(name.to_owned(), service.status().state().to_string());
            }
        }
    }
    let found = found.into_iter();
    // A shell inserts a candidate as it is. A name with spaces would become several words, and one with control
    // characters could change the terminal.
    let found = found.filter(|(name, _)| shell_words::quote(name) == *name);
    found
        .map(|(name, about)| CompletionCandidate::new(name).help(Some(about.into())))
        .collect()
}

/// Returns the files of the projects that have used procref, and the files in the directory.
fn files(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = PathCompleter::file().complete(current);
    let projects = config::namespaces(&globals(), true).unwrap_or_default();
    let projects = projects.into_iter().filter_map(|it| it.project);
    let files = projects.map(|project| project.join(FILE_NAME));
    let begins = |file: &PathBuf| {
        file.to_string_lossy()
            .starts_with(&*current.to_string_lossy())
    };
    found.extend(files.filter(begins).map(CompletionCandidate::new));
    found
}

/// Returns the global options that the command line has so far. An incomplete command line is not an error.
fn globals() -> Globals {
    let mut globals = Cli::parse_from(["procref", "ps"]).globals;
    let words = env::args_os().skip_while(|word| word != "--").skip(1);
    let written = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(words);
    if let Ok(written) = written {
        let path = |id| written.get_one::<PathBuf>(id).cloned();
        globals.runtime_dir = path("runtime_dir");
        globals.config = path("config");
        globals.no_config = written.get_one("no_config").is_some_and(|set| *set);
    }
    globals
}
