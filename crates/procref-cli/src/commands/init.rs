//! `procref init`: writes a configuration file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::args::InitArgs;
use crate::config::find::FILE_NAME;
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::output;
use crate::recipes::{self, RECIPES, SKELETON};

pub(crate) fn run(globals: &Globals, args: &InitArgs) -> Result<ExitCode> {
    if args.list {
        list(args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = text(&args.recipes);
    if args.print {
        output::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = globals
        .config
        .clone()
        .unwrap_or_else(|| PathBuf::from(FILE_NAME));
    write_new(&file, &text)?;
    output::note(globals, &format!("wrote {}", file.display()));
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

fn text(names: &[String]) -> String {
    // Each recipe is written once, because a repeated table is an error.
    let mut chosen: Vec<&str> = Vec::new();
    for recipe in names.iter().filter_map(|name| recipes::find(name)) {
        if !chosen.contains(&recipe.text) {
            chosen.push(recipe.text);
        }
    }
    match chosen.is_empty() {
        true => SKELETON.to_owned(),
        false => chosen.join("\n"),
    }
}

/// Writes the complete text to a new file, or leaves no file.
fn write_new(file: &Path, text: &str) -> Result<()> {
    let shown = file.display();
    let created = OpenOptions::new().write(true).create_new(true).open(file);
    let mut created = match created {
        Ok(created) => created,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::Usage(format!(
                "could not create {shown}: the file exists (`procref init --print` prints the text that it would get)"
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
