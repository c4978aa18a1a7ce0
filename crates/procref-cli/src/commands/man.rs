use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use procref_config::files::find::FILE_NAME;

use crate::args::{self, Cli, ManArgs};
use crate::error::{Error, Result};
use crate::exit::EXIT_CODES;
use crate::output;

mod examples;
mod places;
mod toml;

pub(crate) fn run(args: &ManArgs) -> Result<ExitCode> {
    let mut root = Cli::command();
    // After `build`, each page has the global options and the full name of its command.
    root.build();
    if let Some(dir) = &args.out {
        write_all(&root, dir)?;
        return Ok(ExitCode::SUCCESS);
    }
    let page = match args.command.as_deref() {
        None => page(&root, &root),
        Some(FILE_NAME) => toml::page(),
        Some(name) => page(&root, args::command_named(&root, name)?),
    };
    output::print(&String::from_utf8_lossy(&page?))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the pages of all commands and of the configuration file.
fn write_all(root: &Command, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)
        .map_err(|error| Error::io(format!("create {}", dir.display()), error))?;
    let write = |name: String, page: Result<Vec<u8>>| {
        let path = dir.join(name);
        fs::write(&path, page?)
            .map_err(|error| Error::io(format!("write {}", path.display()), error))
    };
    for command in std::iter::once(root).chain(args::shown_commands(root)) {
        write(format!("{}.1", page_name(command)), page(root, command))?;
    }
    write(format!("{FILE_NAME}.5"), toml::page())
}

fn page_name(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    name.replace(' ', "-")
}

fn page(root: &Command, command: &Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    write_page(root, command, &mut page).map_err(|error| Error::io("write the page", error))?;
    Ok(page)
}

fn write_page(root: &Command, command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let name = page_name(command);
    let is_root = name == root.get_name();
    let man = Man::new(command.clone().name(name.clone()).display_name(name));
    let version = env!("CARGO_PKG_VERSION");
    let man = man.source(format!("procref {version}")).manual("procref");
    man.render_title(page)?;
    man.render_name_section(page)?;
    section(page, "SYNOPSIS", |roff| synopsis(roff, root, command))?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if is_root {
        man.render_subcommands_section(page)?;
        section(page, "EXIT STATUS", |roff| {
            let (_, codes) = EXIT_CODES.split_once('\n').unwrap_or_default();
            verbatim(roff, codes);
        })?;
        section(page, "ENVIRONMENT", |roff| list(roff, places::ENVIRONMENT))?;
        section(page, "FILES", |roff| list(roff, places::FILES))?;
    }
    let examples = examples::of(command.get_name());
    if !examples.is_empty() {
        section(page, "EXAMPLES", |roff| {
            for (about, code) in examples {
                roff.control("PP", []).text([roman(*about)]);
                verbatim(roff, code);
            }
        })?;
    }
    if is_root {
        section(page, "REPORTING BUGS", |roff| {
            roff.text([roman(places::ISSUES)]);
        })?;
    }
    section(page, "SEE ALSO", |roff| {
        let other = if is_root { "procref-run" } else { "procref" };
        roff.control("BR", [other, "(1), ", FILE_NAME, "(5)"]);
    })
}

/// Writes the command line of a command, or those of all commands.
fn synopsis(roff: &mut Roff, root: &Command, command: &Command) {
    let commands: Vec<&Command> = match command.get_name() == root.get_name() {
        true => args::shown_commands(root).collect(),
        false => vec![command],
    };
    for (number, command) in commands.into_iter().enumerate() {
        if number > 0 {
            roff.control("br", []);
        }
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        let mut line = Vec::new();
        for word in usage.split_whitespace() {
            if !line.is_empty() {
                line.push(roman(" "));
            }
            line.push(match word.contains(['<', '[']) {
                true => italic(word.replace(['<', '>'], "")),
                false => bold(word),
            });
        }
        roff.text(line);
    }
}

/// Writes a section that the crate `clap_mangen` does not have.
fn section(page: &mut Vec<u8>, heading: &str, fill: impl FnOnce(&mut Roff)) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    fill(&mut roff);
    page.write_all(roff.render().as_bytes())
}

/// Writes a list of terms with their meanings.
fn list(roff: &mut Roff, terms: &[(&str, &str)]) {
    for (term, about) in terms {
        entry(roff, [bold(*term)], about);
    }
}

fn entry(roff: &mut Roff, term: impl Into<Vec<Inline>>, about: &str) {
    roff.control("TP", []).text(term).text([roman(about)]);
}

/// Writes lines that are not filled.
fn verbatim(roff: &mut Roff, text: &str) {
    roff.control("RS", ["4"]).control("nf", []);
    for line in text.trim_end().lines() {
        match line.is_empty() {
            true => roff.control("sp", []),
            false => roff.text([roman(line)]),
        };
    }
    roff.control("fi", []).control("RE", []);
}
