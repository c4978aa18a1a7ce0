//! The configuration that applies to the working directory, and what commands say about it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use procref::{Collected, Services};
use procref_config::files::diagnostic::{most_similar, suggestion};
use procref_config::files::find::FILE_NAME;
use procref_config::files::namespace::{self, Namespace};
use procref_config::files::{CheckedFiles, Files, Selection, path_text};
use procref_config::recipes::RECIPES;
use procref_config::spec::ServiceSpec;

use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::signals::Unsuspended;
use crate::text::shown;

/// Returns the files and the runtime directory that the options select.
pub(crate) fn selection(globals: &Globals) -> Selection {
    Selection {
        runtime_dir: globals.runtime_dir.clone(),
        file: globals.config.clone(),
        option: Some("`--config`"),
        no_file: globals.no_config,
        from: None,
    }
}

/// Reads the files that apply to the working directory.
pub(crate) fn read(globals: &Globals) -> Result<Files> {
    Ok(Files::read(&selection(globals))?)
}

/// Reads the files that apply to the working directory, and searches for the programs of their services.
pub(crate) fn check(globals: &Globals) -> Result<CheckedFiles> {
    Ok(read(globals)?.check()?)
}

/// Reads the files that apply to the working directory, and returns their paths.
pub(crate) fn read_files(globals: &Globals) -> Result<Vec<String>> {
    Ok(read(globals)?.paths().map(path_text).collect())
}

/// Returns the services that the project's file describes, without their dependencies.
pub(crate) fn of_project(globals: &Globals) -> Result<Vec<ServiceSpec>> {
    let files = read(globals)?;
    // Like every start, this removes what projects that do not exist any more have left.
    let _unsuspended = Unsuspended::begin();
    Ok(files.of_project(globals.runtime_dir.as_deref())?)
}

/// Returns the names of the services that the files describe, with their file.
pub(crate) fn described(globals: &Globals) -> Result<BTreeMap<String, String>> {
    let services = read(globals)?.described().into_iter();
    Ok(services
        .map(|(name, path)| (name, path_text(&path)))
        .collect())
}

/// Returns the common namespace and that of the current project. With `all`, returns those of all projects.
pub(crate) fn namespaces(globals: &Globals, all: bool) -> Result<Vec<Namespace>> {
    Ok(selection(globals).namespaces(all)?)
}

/// Returns the services of projects that do not exist any more.
pub(crate) fn vanished(globals: &Globals) -> Result<Vec<Services>> {
    Ok(selection(globals).vanished()?)
}

/// Removes what crashes have left in the runtime directory of a project that does not exist any more, and the directory
/// if no service runs there.
pub(crate) fn collect(vanished: &Services) -> Result<Collected> {
    let _unsuspended = Unsuspended::begin();
    Ok(namespace::collect(vanished)?)
}

/// Returns the services of a command without names: those of the project's file, or of the user's file.
pub(crate) fn default_names(globals: &Globals) -> Result<Vec<String>> {
    let files = read(globals)?;
    if let Some(names) = files.default_names() {
        return Ok(names.to_vec());
    }
    let paths: Vec<String> = files.paths().map(path_text).collect();
    let place = match paths.is_empty() {
        true => format!("there is no {FILE_NAME}"),
        false => format!("there is no `default` in {}", paths.join(" or ")),
    };
    Err(Error::Usage(format!(
        "the command names no service, and {place} (name a service, or write `default = [\"NAME\"]` above all tables)"
    )))
}

/// Describes a name that no file has and that no running service has.
pub(crate) struct UnknownName {
    /// The files that were read, or why none was read.
    pub(crate) place: String,
    /// A similar name, or a way to describe the service.
    pub(crate) advice: String,
}

/// Returns what the user can do about an unknown name. `running` are the names of running services.
pub(crate) fn unknown_name(
    globals: &Globals,
    name: &str,
    running: &[String],
) -> Result<UnknownName> {
    let files = read(globals)?;
    let names: BTreeSet<&str> = files
        .names()
        .chain(running.iter().map(String::as_str))
        .collect();
    let suggested = suggestion(name, names);
    let paths: Vec<String> = files.paths().map(path_text).collect();
    let name = shown(name);
    if !paths.is_empty() {
        let advice = match suggested.is_empty() {
            true => " (describe it there, or use `procref run` with `--start COMMAND`)".to_owned(),
            false => suggested,
        };
        let place = format!("no service `{name}` in {}", paths.join(" or "));
        return Ok(UnknownName { place, advice });
    }
    if globals.no_config {
        return Ok(UnknownName {
            place: format!("service `{name}` is not running, and --no-config reads no file"),
            advice: format!(" (to start it, use `procref run` with `--start COMMAND`){suggested}"),
        });
    }
    let recipes = RECIPES.iter().map(|recipe| recipe.name);
    let recipe = most_similar(&name, recipes).unwrap_or("redis");
    Ok(UnknownName {
        place: format!(
            "service `{name}` is not running, and there is no {FILE_NAME} in {} or above it",
            path_text(&selection(globals).dir()?)
        ),
        advice: format!(
            " (`procref init --recipe {recipe}` writes one, and `procref run` with `--start COMMAND` needs \
             none){suggested}"
        ),
    })
}

/// Returns the error of a command that needs a file if there is none.
pub(crate) fn no_file(globals: &Globals) -> Result<String> {
    if globals.no_config {
        return Ok("there is no file to read with --no-config (remove the option)".to_owned());
    }
    Ok(format!(
        "there is no {FILE_NAME} in {} or above it (`procref init` writes one)",
        path_text(&selection(globals).dir()?)
    ))
}

/// Returns the project file that applies in the working directory until a file is written there. Returns `None` if a file
/// is named, because the search finds no other one then.
pub(crate) fn outer_file(globals: &Globals) -> Result<Option<PathBuf>> {
    Ok(selection(globals).outer_file()?)
}
