//! The manual page procref.toml(5), from the table of keys that the parser accepts.

use std::io;

use clap_mangen::roff::{Roff, bold, italic, roman};
use procref_config::files::find::FILE_NAME;
use procref_config::files::keys::{self, Form, Key};
use procref_config::recipes;

use super::{entry, list, places, section, verbatim};
use crate::error::{Error, Result};

const PLACEHOLDERS: &[(&str, &str)] = &[
    ("{port}", "The port of the service."),
    (
        "{dir}",
        "The runtime directory, which is private to the user.",
    ),
    ("{data}", "The data directory of the service."),
    ("{root}", "The directory of the file."),
    (
        "{NAME.port}, {NAME.dir}",
        "The port and the runtime directory of a dependency.",
    ),
];

pub(super) fn page() -> Result<Vec<u8>> {
    let mut page = Vec::new();
    write(&mut page).map_err(|error| Error::io("write the page", error))?;
    Ok(page)
}

fn write(page: &mut Vec<u8>) -> io::Result<()> {
    let version = concat!("procref ", env!("CARGO_PKG_VERSION"));
    let mut title = Roff::new();
    title.control("TH", [FILE_NAME, "5", version, "procref"]);
    page.extend_from_slice(title.to_roff().as_bytes());
    section(page, "NAME", |roff| {
        roff.text([roman("procref.toml - services that processes share")]);
    })?;
    section(page, "SYNOPSIS", |roff| {
        roff.text([
            bold("procref.toml"),
            roman(" in the working directory or above it, "),
            bold("~/.config/procref/config.toml"),
        ]);
    })?;
    section(page, "DESCRIPTION", |roff| {
        roff.text([roman(
            "The file describes services in TOML. procref reads a file that it finds only if no other user can have \
             written it. It reports all mistakes in a file at once, and starts nothing if there are any. `procref init` \
             writes a file with comments.",
        )]);
        roff.control("PP", []);
        roff.text([roman(
            "A time has a unit: 500ms, 2s, 1m 30s. A relative path is relative to the directory of the file.",
        )]);
    })?;
    section(page, "KEYS OF THE FILE", |roff| describe(roff, &keys::FILE))?;
    section(page, "KEYS OF A SERVICE", |roff| {
        describe(roff, &keys::SERVICE)
    })?;
    section(page, "KEYS OF A CLUSTER", |roff| {
        describe(roff, &keys::CLUSTER)
    })?;
    section(page, "PLACEHOLDERS", |roff| {
        roff.text([roman(
            "procref replaces these in commands, in the values of `env`, `export`, `cwd` and `log`, and in conditions. \
             {{port}} stands for a literal {port}.",
        )]);
        list(roff, PLACEHOLDERS);
    })?;
    section(page, "EXAMPLES", |roff| {
        let redis = recipes::find("redis").map_or("", |recipe| recipe.text);
        verbatim(roff, redis);
    })?;
    section(page, "FILES", |roff| list(roff, places::FILES))?;
    section(page, "SEE ALSO", |roff| {
        roff.control("BR", ["procref", "(1)"]);
    })
}

fn describe(roff: &mut Roff, keys: &[Key]) {
    for key in keys {
        let term = [bold(key.name), roman(" = "), italic(placeholder(&key.form))];
        entry(roff, term, key.about);
        if let Form::Choice(texts) = key.form {
            roff.text([roman(format!("One of: {}.", texts.join(", ")))]);
        }
    }
}

fn placeholder(form: &Form) -> &'static str {
    match form {
        Form::Boolean => "BOOLEAN",
        Form::Text | Form::NonEmptyText | Form::Choice(_) | Form::Pattern(..) => "TEXT",
        Form::Time => "TIME",
        Form::Port => "PORT",
        Form::Command => "COMMAND",
        Form::Names | Form::Texts => "ARRAY",
        Form::Variables | Form::Services | Form::Clusters => "TABLE",
    }
}
