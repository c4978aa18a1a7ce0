//! `procref init`: writes a configuration file, or adds services to one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use procref_config::files::diagnostic::listed;
use procref_config::files::find::FILE_NAME;
use procref_config::files::{WrittenFile, check_syntax, path_text};
use procref_config::recipes::{self, RECIPES, Recipe, SKELETON};

use crate::args::InitArgs;
use crate::config;
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::output;
use crate::text::shown;

/// The address of the JSON schema, which editors find by a comment at the beginning of a file.
const SCHEMA: &str = concat!(
    env!("CARGO_PKG_REPOSITORY"),
    "/raw/HEAD/docs/procref.schema.json"
);

pub(crate) fn run(globals: &Globals, args: &InitArgs) -> Result<ExitCode> {
    if args.list {
        list(args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(args);
    let text = text(&chosen);
    let new_file = format!("#:schema {SCHEMA}\n\n{text}");
    if args.print {
        // Recipes are printed so that they can be added to a file, in which the comment must come first.
        let printed = if chosen.is_empty() { &new_file } else { &text };
        output::print(printed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = globals
        .config
        .clone()
        .unwrap_or_else(|| PathBuf::from(FILE_NAME));
    let shown = shown(&file.to_string_lossy());
    // A link to a missing file is not followed, so it is an existing file here.
    if chosen.is_empty() || fs::symlink_metadata(&file).is_err() {
        let outer = config::outer_file(globals)?;
        write_new(&file, &new_file)?;
        output::note(globals, &format!("wrote {shown}"));
        if let Some(outer) = outer {
            let outer = path_text(&outer);
            output::note(
                globals,
                &format!(
                    "the services of {outer} are not available in this directory any more (to add a service to that \
                     file instead, remove {shown}, and run procref init there)"
                ),
            );
        }
    } else {
        add(&file, &chosen, &text)?;
        let names: Vec<&str> = chosen.iter().map(|recipe| recipe.name).collect();
        output::note(globals, &format!("added {} to {shown}", listed(&names)));
    }
    if let Some(example) = example(&text) {
        output::note(globals, &format!("next: {example}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &InitArgs) -> Result<()> {
    if args.json {
        let recipes: Vec<_> = RECIPES
            .iter()
            .map(|recipe| serde_json::json!({ "name": recipe.name, "about": recipe.about }))
            .collect();
        return output::print_json(&recipes);
    }
    let longest = RECIPES.iter().map(|recipe| recipe.name.len()).max();
    let width = longest.unwrap_or_default();
    let lines = RECIPES
        .iter()
        .map(|recipe| format!("{:width$}  {}\n", recipe.name, recipe.about));
    output::print(&lines.collect::<String>())
}

/// Returns each named recipe once, because a repeated table is an error.
fn chosen(args: &InitArgs) -> Vec<&'static Recipe> {
    let mut chosen: Vec<&Recipe> = Vec::new();
    let names = args.recipes.iter().chain(&args.more_recipes);
    for recipe in names.filter_map(|name| recipes::find(name)) {
        if !chosen.iter().any(|it| it.name == recipe.name) {
            chosen.push(recipe);
        }
    }
    chosen
}

fn text(chosen: &[&Recipe]) -> String {
    let texts: Vec<&str> = chosen.iter().map(|recipe| recipe.text).collect();
    match texts.is_empty() {
        true => SKELETON.to_owned(),
        false => texts.join("\n"),
    }
}

/// Returns the command that a recipe's comment shows.
fn example(text: &str) -> Option<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix('#'));
    lines
        .map(str::trim)
        .find(|line| line.starts_with("procref run "))
}

/// Writes the complete text to a new file, or leaves no file.
fn write_new(file: &Path, text: &str) -> Result<()> {
    let shown = shown(&file.to_string_lossy());
    let created = OpenOptions::new().write(true).create_new(true).open(file);
    let mut created = match created {
        Ok(created) => created,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::Usage(format!(
                "could not create {shown}: the file exists (`procref init RECIPE` adds a service to it, and `procref \
                 init --print` prints the text that it would get)"
            )));
        }
        Err(error) => return Err(Error::io(format!("create {shown}"), error)),
    };
    created.write_all(text.as_bytes()).map_err(|error| {
        // A truncated file would be an error at every later command.
        let _ = fs::remove_file(file);
        Error::io(format!("write {shown}"), error)
    })
}

/// Appends recipes to a file. The text before them stays as it is, byte for byte.
fn add(file: &Path, chosen: &[&Recipe], text: &str) -> Result<()> {
    let before = WrittenFile::read(file)?;
    let names: Vec<&str> = chosen
        .iter()
        .map(|recipe| recipe.name)
        .filter(|name| before.names.iter().any(|it| it == name))
        .collect();
    let shown = shown(&file.to_string_lossy());
    if !names.is_empty() {
        let names = listed(&names);
        return Err(Error::Usage(format!(
            "could not add {names} to {shown}: the file has a service of this name (`procref init --print RECIPE` prints \
             the recipe)"
        )));
    }
    let mut added = String::new();
    if !before.text.is_empty() {
        added += if before.text.ends_with('\n') {
            "\n"
        } else {
            "\n\n"
        };
    }
    added += text;
    if before.text.contains("\r\n") {
        added = added.replace('\n', "\r\n");
    }
    // An array or an inline table cannot get another table, for example.
    check_syntax(file, &format!("{}{added}", before.text)).map_err(|error| {
        Error::Usage(format!(
            "could not add a table to {shown}: {error} (write each service as a table `[services.NAME]`)"
        ))
    })?;
    let failed = |error| Error::io(format!("write {shown}"), error);
    let mut opened = OpenOptions::new().append(true).open(file).map_err(failed)?;
    opened.write_all(added.as_bytes()).map_err(|error| {
        // A part of a table would be an error at every later command.
        let _ = opened.set_len(before.text.len() as u64);
        failed(error)
    })
}
