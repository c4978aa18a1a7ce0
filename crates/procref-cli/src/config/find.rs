//! Where the configuration files are, and whether they may be used.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::diagnostic::Problem;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

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
    place_of_user().filter(|file| fs::symlink_metadata(file).is_ok())
}

/// Where the user's own file is, or would be.
pub(super) fn place_of_user() -> Option<PathBuf> {
    Some(sys::base()?.join("procref").join("config.toml"))
}

/// What makes a file one that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The user named it, and answers for it.
    Named,
    /// The search upwards found it. It tells what to execute, so no other user may be able to change what is
    /// found: the file, the path and the directory belong to this user or to root.
    Found,
    /// The same of the user's own file, which variables of the environment lead to.
    OfUser,
}

impl Trust {
    /// What to do about a file that another user may have changed.
    fn advice(self, file: &Path) -> String {
        let file = shell_words::quote(&file.to_string_lossy()).into_owned();
        match self {
            Self::OfUser => "if HOME or XDG_CONFIG_HOME is another user's, which `sudo -E` and `su` without `-` \
                             keep, use `sudo -H`; otherwise `--no-config`"
                .to_owned(),
            Self::Named | Self::Found => format!(
                "if you trust it, name it: `--config {file}`, or {VARIABLE}; otherwise `--no-config`"
            ),
        }
    }
}

/// The text of a file. `root` is its directory, without links.
pub(super) fn read(file: &Path, root: &Path, trust: Trust) -> Result<String, Problem> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Problem::of_file(file, "there is no such file"),
        _ => Problem::io(file, "read it", &error),
    };
    let doubtful = |doubt: String| {
        let advice = trust.advice(file);
        let message = format!("{doubt}, and it tells what to execute; {advice}");
        Err(Problem::of_file(file, message))
    };
    if trust == Trust::Named {
        let opened = sys::open(file).map_err(failed)?;
        return match opened.metadata().map_err(failed)?.is_dir() {
            true => Err(Problem::of_file(file, "it is no regular file")),
            false => read_text(file, &opened),
        };
    }
    let Some(name) = file.file_name() else {
        return Err(Problem::of_file(file, "it is no regular file"));
    };
    let opened = match sys::open_found(root, name).map_err(failed)? {
        Ok(opened) => opened,
        Err(doubt) => return doubtful(doubt),
    };
    if !opened.metadata().map_err(failed)?.is_file() {
        return Err(Problem::of_file(file, "it is no regular file"));
    }
    match sys::doubt(file, &opened).map_err(|error| Problem::io(file, "ask whose it is", &error))? {
        Some(doubt) => doubtful(doubt),
        None => read_text(file, &opened),
    }
}

/// Why a file that was named would not be read if it had been found.
pub(super) fn doubt(file: &Path, root: &Path) -> Option<String> {
    let opened = sys::open_found(root, file.file_name()?).ok()?;
    match opened {
        Ok(opened) => sys::doubt(file, &opened).ok()?,
        Err(doubt) => Some(doubt),
    }
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
        let source = super::diagnostic::Source { file, text: &text };
        let valid = error.utf8_error().valid_up_to();
        source.problem(Some(valid..valid), "this is no UTF-8")
    })
}
