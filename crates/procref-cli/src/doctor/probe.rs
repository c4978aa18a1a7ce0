//! Checks whether the kernel releases the references of a killed process. All guarantees depend on that.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use procref::{PlatformRefCounter, RefCounter as _};

use super::finding::{Finding, Severity};
use crate::error::{Error, Result};

/// The name of the hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "__doctor-probe";

const NAME: &str = "doctor";

/// The kernel's mechanism that releases references, and the texts about it.
pub(super) struct Mechanism {
    pub(super) check: &'static str,
    pub(super) name: &'static str,
    /// Advice if the mechanism does not work.
    pub(super) if_broken: &'static str,
    /// Advice if the check failed.
    pub(super) if_unchecked: &'static str,
}

#[derive(Args, Debug)]
pub(crate) struct ProbeArgs {
    /// The runtime directory.
    #[arg(required_unless_present = "nothing")]
    dir: Option<PathBuf>,
    /// Exit immediately, for a caller that only starts a process.
    #[arg(long)]
    nothing: bool,
}

/// Runs the process that will be killed. It takes a reference, prints a line, and waits.
pub(crate) fn run(args: &ProbeArgs) -> Result<ExitCode> {
    let Some(dir) = args.dir.as_ref().filter(|_| !args.nothing) else {
        return Ok(ExitCode::SUCCESS);
    };
    let counter = PlatformRefCounter::in_dir(NAME, dir)?;
    counter.acquire()?;
    writeln!(io::stdout(), "held")
        .map_err(|error| Error::io("write to the standard output", error))?;
    // If the parent exits, standard input is closed, and this process exits, too.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    Ok(ExitCode::SUCCESS)
}

/// Counts in a temporary directory.
pub(super) fn check_with(count: impl FnOnce(&Path) -> Result<(u32, u32)>) -> Result<(u32, u32)> {
    match tempfile::Builder::new().prefix("procref-doctor-").tempdir() {
        Ok(dir) => count(dir.path()),
        Err(error) => Err(Error::Failed(format!(
            "could not create a temporary directory: {error}"
        ))),
    }
}

/// Returns the finding for these counts.
pub(super) fn finding(mechanism: &Mechanism, counted: Result<(u32, u32)>) -> Finding {
    let Mechanism { check, name, .. } = mechanism;
    match counted {
        Ok((1, 0)) => Finding::ok(
            check,
            format!("{name}: the kernel released the reference of a killed process"),
        ),
        Ok((before, after)) => Finding::new(
            check,
            Severity::Error,
            format!(
                "{name} does not work: the kernel counted {before} while a process held a reference, and {after} \
                 after the process was killed"
            ),
        )
        .advice(format!(
            "the kernel would count crashed clients indefinitely; {}",
            mechanism.if_broken
        )),
        Err(error) => Finding::new(
            check,
            Severity::Error,
            format!("{name}: could not check it: {error}"),
        )
        .advice(mechanism.if_unchecked),
    }
}

/// Returns the counts while a process holds a reference and after that process was killed.
pub(super) fn count_around_kill(dir: &Path) -> Result<(u32, u32)> {
    let failed = |error| Error::io("start a process", error);
    let counter = PlatformRefCounter::in_dir(NAME, dir)?;
    let mut child = Command::new(std::env::current_exe().map_err(failed)?)
        .arg(SUBCOMMAND)
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut line = String::new();
    let read = match child.stdout.take() {
        Some(stdout) => BufReader::new(stdout).read_line(&mut line),
        None => Ok(0),
    };
    let before = counter.count();
    child.kill().and_then(|()| child.wait()).map_err(failed)?;
    let after = counter.count();
    // The kernel object is removed with the last reference. If the kernel still counts the killed process, the object
    // remains.
    counter.acquire()?;
    counter.release()?;
    read.map_err(failed)?;
    Ok((before?, after?))
}
