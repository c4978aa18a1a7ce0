//! What both examples need besides procref: child processes that take orders
//! over pipes, readable output, and a look at the machine from outside.

pub mod cast;
pub mod outside;
pub mod screen;
pub mod signals;

use std::error::Error;
use std::fmt::Display;
use std::io::{self, BufRead, Write};

pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// A client's side of its pipes: the orders it is given, one a line. They end
/// when the process that gives them is gone, whatever ended it.
pub fn orders() -> impl Iterator<Item = io::Result<String>> {
    io::stdin().lock().lines()
}

/// A client's side of its pipes: one line of report.
pub fn report(line: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Runs blocking code on one of tokio's threads for that.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> procref::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|panic| panic.to_string())?)
}

/// Prints what went wrong, with everything that led to it.
pub fn complain(who: &str, error: &(dyn Error + 'static)) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    // Nobody is left to tell if even this cannot be written.
    let _ = writeln!(io::stderr(), "{who}: {text}");
}
