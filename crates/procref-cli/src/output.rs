//! What is printed, and how.

use std::io::{self, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::args::Globals;
use crate::error::{Error, Result};

const BAD: Style = AnsiColor::Red.on_default().bold();

/// Colours and messages, as the flags and the environment want them.
pub(crate) fn set_up(globals: &Globals) {
    globals.color.write_global();
    let level = match (globals.quiet, globals.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "procref=info,warn",
        (false, _) => "procref=debug,warn",
    };
    let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let choice = anstream::AutoStream::choice(&io::stderr());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(choice != anstream::ColorChoice::Never)
        .with_writer(io::stderr);
    if globals.verbose > 1 {
        log.init();
    } else {
        log.without_time().with_target(false).init();
    }
}

/// An error, as the last thing that is said.
pub(crate) fn error(error: &Error) {
    // The library's messages contain names as they are, and may have several lines.
    let text = without_controls(&error.to_string(), &['\n', '\t']);
    // Where nobody hears it, there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "{BAD}procref:{BAD:#} {text}");
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
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    let text =
        serde_json::to_string(value).map_err(|error| Error::io("write JSON", error.into()))?;
    print(&format!("{text}\n"))
}

/// A text of somebody else's on one line of the terminal: what would move the cursor or change the colour
/// is replaced.
pub(crate) fn shown(text: &str) -> String {
    without_controls(text, &[])
}

fn without_controls(text: &str, kept: &[char]) -> String {
    text.chars()
        .map(|c| match c.is_control() && !kept.contains(&c) {
            true => char::REPLACEMENT_CHARACTER,
            false => c,
        })
        .collect()
}

/// How long, for people: the two largest units.
pub(crate) fn time(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        return format!("{:.1}s", time.as_secs_f64());
    }
    let whole = humantime::format_duration(Duration::from_secs(time.as_secs())).to_string();
    let units: Vec<&str> = whole.split(' ').take(2).collect();
    units.join(" ")
}
