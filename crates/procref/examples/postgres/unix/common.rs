//! The client's side of the pipes to the driver, and functions that several parts of the example use.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, BufRead, Write};

pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The orders for this client, one per line. They end when the driver exits for any reason.
pub fn orders() -> impl Iterator<Item = io::Result<String>> {
    io::stdin().lock().lines()
}

/// Sends one line to the driver.
pub fn report(line: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Runs blocking code on a thread of tokio's blocking pool.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> procref::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|panic| panic.to_string())?)
}

/// Prints an error with its causes.
pub fn print_error(context: &str, error: &(dyn Error + 'static)) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    // There is no other place to report that standard error is closed.
    let _ = writeln!(io::stderr(), "{context}: {text}");
}
