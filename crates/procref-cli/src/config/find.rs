//! Where the configuration files are, and whether they may be used.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::problem::Problem;

#[cfg_attr(unix, path = "find/unix.rs")]
#[cfg_attr(windows, path = "find/windows.rs")]
mod sys;

/// The name of a project's file.
pub(crate) const FILE_NAME: &str = "procref.toml";

/// Names a project's file, as `--config` does.
pub(crate) const VARIABLE: &str = "PROCREF_CONFIG";

/// A longer file is no configuration.
const LONGEST: u64 = 1 << 20;

/// The project's file that is nearest, from `dir` upwards.
pub(super) fn upwards(dir: &Path) -> Option<PathBuf> {
    let candidates = dir.ancestors().map(|dir| dir.join(FILE_NAME));
    // Whatever else it is than missing, it is said when it is read.
    candidates
        .into_iter()
        .find(|file| fs::symlink_metadata(file).is_ok())
}

/// The user's own file, if there is one.
pub(super) fn of_user() -> Option<PathBuf> {
    let file = sys::base()?.join("procref").join("config.toml");
    fs::symlink_metadata(&file).is_ok().then_some(file)
}

/// What makes a file one that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Somebody named it.
    Named,
    /// It was found, and tells what to execute: so it has to be this user's, or root's.
    Found,
}

/// The text of a file.
pub(super) fn read(file: &Path, trust: Trust) -> Result<String, Problem> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Problem::of_file(file, "there is no such file"),
        _ => Problem::io(file, "read it", &error),
    };
    let opened = sys::open(file).map_err(failed)?;
    let metadata = opened.metadata().map_err(failed)?;
    if metadata.is_dir() || (trust == Trust::Found && !metadata.is_file()) {
        return Err(Problem::of_file(file, "it is no regular file"));
    }
    if trust == Trust::Found {
        check_owner(file, &opened)?;
    }
    read_text(file, &opened)
}

fn check_owner(file: &Path, opened: &File) -> Result<(), Problem> {
    let doubt = sys::doubt(opened).map_err(|error| Problem::io(file, "ask whose it is", &error))?;
    let Some(doubt) = doubt else {
        return Ok(());
    };
    Err(Problem::of_file(
        file,
        format!(
            "{doubt}, and it tells what to execute; if you trust it, name it: `--config {}`, or \
             {VARIABLE}; otherwise `--no-config`",
            file.display()
        ),
    ))
}

fn read_text(file: &Path, opened: &File) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    let read = opened.take(LONGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Problem::io(file, "read it", &error))?;
    if bytes.len() as u64 > LONGEST {
        return Err(Problem::of_file(
            file,
            "it is longer than 1 MiB, so it is no configuration",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(error.as_bytes());
        let source = super::problem::Source { file, text: &text };
        let valid = error.utf8_error().valid_up_to();
        source.problem(Some(valid..valid), "this is no UTF-8")
    })
}
