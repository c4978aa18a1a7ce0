//! What is printed, and how.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use tracing_subscriber::EnvFilter;

use crate::args::Globals;
use crate::error::{Error, Result};

const ERROR: Style = AnsiColor::Red.on_default().bold();

/// Colours and messages, as the flags and the environment want them.
pub(crate) fn set_up(globals: &Globals) {
    globals.color.write_global();
    let level = match (globals.quiet, globals.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

/// An error, as the last thing that is said.
pub(crate) fn error(error: &Error) {
    // Where nobody hears it, there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "{ERROR}procref:{ERROR:#} {error}");
}

/// A line for people, unless they want none.
pub(crate) fn note(globals: &Globals, text: &str) {
    if !globals.quiet {
        let _ = writeln!(anstream::stderr(), "{text}");
    }
}

/// What was asked for.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| Error::io("write to the standard output", source))
}

/// The same for programs: one line of JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text =
        serde_json::to_string(value).map_err(|error| Error::io("write JSON", error.into()))?;
    print(&format!("{text}\n"))
}
