//! Whether the kernel takes back what a process held that is killed: all else stands on that.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use procref::{PlatformRefCounter, RefCounter as _};

use super::sys::{CHECK, MECHANISM, UNTRIED, WITHOUT};
use super::{Finding, Severity};
use crate::error::{Error, Result};

/// How the hidden subcommand is called.
pub(crate) const SUBCOMMAND: &str = "__doctor-probe";

const NAME: &str = "doctor";

#[derive(Args, Debug)]
pub(crate) struct ProbeArgs {
    /// The runtime directory.
    #[arg(required_unless_present = "nothing")]
    dir: Option<PathBuf>,
    /// End at once: there was only to be a process.
    #[arg(long)]
    nothing: bool,
}

/// The process that will be killed: takes a reference, says so, and waits.
pub(crate) fn run(args: &ProbeArgs) -> Result<ExitCode> {
    let Some(dir) = args.dir.as_ref().filter(|_| !args.nothing) else {
        return Ok(ExitCode::SUCCESS);
    };
    let counter = PlatformRefCounter::in_dir(NAME, dir)?;
    counter.acquire()?;
    writeln!(io::stdout(), "held").map_err(|error| Error::io("say so", error))?;
    // Ends also if the process that asked is gone.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn look() -> Finding {
    let dir = tempfile::Builder::new().prefix("procref-doctor-").tempdir();
    let tried = match &dir {
        Ok(dir) => try_out(dir.path()),
        Err(error) => Err(Error::Failed(format!(
            "could not make a temporary directory: {error}"
        ))),
    };
    match tried {
        Ok((1, 0)) => Finding::ok(CHECK, format!(
            "{MECHANISM}: a process was killed, and the kernel took its reference back"
        )),
        Ok((held, left)) => Finding::new(
            CHECK,
            Severity::Error,
            format!(
                "{MECHANISM} does not work: the kernel counted {held} while a process held a reference, and \
                 {left} after it was killed"
            ),
        )
        .advice(format!("crashed clients would be counted for ever; {WITHOUT}")),
        Err(error) => Finding::new(CHECK, Severity::Error, format!("{MECHANISM} could not be tried: {error}"))
            .advice(UNTRIED),
    }
}

/// What was counted while a process held a reference, and after it was killed.
fn try_out(dir: &Path) -> Result<(u32, u32)> {
    let failed = |error| Error::io("start a process", error);
    let counter = PlatformRefCounter::in_dir(NAME, dir)?;
    let mut child = Command::new(std::env::current_exe().map_err(failed)?)
        .arg(SUBCOMMAND)
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = String::new();
    let heard = match child.stdout.take() {
        Some(stdout) => BufReader::new(stdout).read_line(&mut said),
        None => Ok(0),
    };
    let held = counter.count();
    child.kill().and_then(|()| child.wait()).map_err(failed)?;
    let left = counter.count();
    // The object goes with the last reference. Whoever is counted wrongly keeps it, and all that the kernel
    // gives us then is to say so.
    counter.acquire()?;
    counter.release()?;
    heard.map_err(failed)?;
    Ok((held?, left?))
}
