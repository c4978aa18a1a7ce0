//! Prints results, notes and errors.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::text::without_controls;

const BAD: Style = AnsiColor::Red.on_default().bold();

/// Sets up colors and log events from the options and the environment.
pub(crate) fn set_up(globals: &Globals) {
    globals.color.write_global();
    let level = match (globals.quiet, globals.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "procref=info,warn",
        (false, _) => "procref=debug,warn",
    };
    // `Targets` reads levels and module paths. The log events have no spans, and `EnvFilter` would add the largest
    // dependency of all for them, a matcher of regular expressions.
    let set = env::var("RUST_LOG").ok().filter(|it| !it.is_empty());
    let filter = set.and_then(|text| text.parse::<Targets>().ok());
    let filter = filter.or_else(|| level.parse().ok()).unwrap_or_default();
    let choice = anstream::AutoStream::choice(&io::stderr());
    let log = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(choice != anstream::ColorChoice::Never)
        .with_writer(io::stderr);
    if globals.verbose > 1 {
        log.finish().with(filter).init();
    } else {
        let log = log.without_time().with_target(false);
        log.finish().with(filter).init();
    }
}

/// Prints an error.
pub(crate) fn error(error: &Error) {
    // The library's messages contain unescaped names, and may have several lines.
    let text = without_controls(&error.to_string(), &['\n', '\t']);
    // A failed write is ignored: without standard error, there is no place to report it.
    let _ = writeln!(anstream::stderr(), "{BAD}procref:{BAD:#} {text}");
}

/// Prints a line on standard error, unless `--quiet` is set.
pub(crate) fn note(globals: &Globals, text: &str) {
    if !globals.quiet {
        let _ = writeln!(anstream::stderr(), "{text}");
    }
}

/// Prints a result that need not be Unicode on standard output.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|source| Error::io("write to the standard output", source))
}

/// Prints a line about what the user can do next, unless standard error is not a terminal or `--quiet` is set.
pub(crate) fn next(globals: &Globals, text: &str) {
    if io::stderr().is_terminal() {
        note(globals, &format!("next: {text}"));
    }
}

/// Prints a result on standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| Error::io("write to the standard output", source))
}

/// Prints a result as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    let text =
        serde_json::to_string(value).map_err(|error| Error::io("write JSON", error.into()))?;
    print(&format!("{text}\n"))
}
