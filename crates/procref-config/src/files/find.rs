//! Finds the configuration files, and checks whether they are trusted.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// The name of a project's configuration file.
pub const FILE_NAME: &str = "procref.toml";

/// The variable that names a project's file, like `--config`.
pub const VARIABLE: &str = "PROCREF_CONFIG";

/// The largest size of a configuration file.
const MAX_SIZE: u64 = 1 << 20;

/// Returns the nearest project file in `dir` or above it.
pub(super) fn upwards(dir: &Path) -> Option<PathBuf> {
    let candidates = dir.ancestors().map(|dir| dir.join(FILE_NAME));
    // A file that is not a regular file is reported when it is read.
    candidates
        .into_iter()
        .find(|file| fs::symlink_metadata(file).is_ok())
}

/// Returns the user's file, if it exists.
pub(super) fn user_file() -> Option<PathBuf> {
    user_path().filter(|file| fs::symlink_metadata(file).is_ok())
}

/// Returns the path of the user's file, even if the file does not exist.
pub(super) fn user_path() -> Option<PathBuf> {
    Some(sys::base()?.join("procref").join("config.toml"))
}

/// The reason why a file may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The user named the file, and is responsible for it.
    Named,
    /// The search found the file. The file determines which programs are executed, so no other user may be
    /// able to change it. The file, its link and its directory must belong to this user or to root.
    Found,
    /// A file of either kind names this file, which has variables of a service.
    EnvFile,
    /// The file is the user's own. Environment variables determine its path, so the same conditions apply.
    User,
}

impl Trust {
    /// Returns advice about a file that another user may have changed.
    fn advice(self, file: &Path) -> String {
        let file = shell_words::quote(&file.to_string_lossy()).into_owned();
        match self {
            Self::User => "use `sudo -H` if HOME or XDG_CONFIG_HOME is another user's, as with `sudo -E` and `su` without \
                           `-`; otherwise use `--no-config`"
                .to_owned(),
            Self::EnvFile => {
                format!("if you trust the file, name `procref.toml` with `--config` or {VARIABLE}")
            }
            Self::Named | Self::Found => format!(
                "if you trust the file, name it with `--config {file}` or {VARIABLE}; otherwise use `--no-config`"
            ),
        }
    }
}

/// Reads a file. `root` is its directory, without links.
pub(super) fn read(file: &Path, root: &Path, trust: Trust) -> Result<String, Diagnostic> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Diagnostic::of_file(file, "no such file"),
        _ => Diagnostic::io(file, "read it", &error),
    };
    let untrusted = |reason: String| {
        let advice = trust.advice(file);
        let message = format!("{reason}, and the file decides what is executed; {advice}");
        Err(Diagnostic::of_file(file, message))
    };
    if trust == Trust::Named {
        let opened = sys::open(file).map_err(failed)?;
        return match opened.metadata().map_err(failed)?.is_dir() {
            true => Err(Diagnostic::of_file(file, "it is not a regular file")),
            false => read_text(file, &opened),
        };
    }
    let Some(name) = file.file_name() else {
        return Err(Diagnostic::of_file(file, "it is not a regular file"));
    };
    let opened = match sys::open_found(root, name).map_err(failed)? {
        Ok(opened) => opened,
        Err(reason) => return untrusted(reason),
    };
    if !opened.metadata().map_err(failed)?.is_file() {
        return Err(Diagnostic::of_file(file, "it is not a regular file"));
    }
    match sys::untrusted_reason(file, &opened)
        .map_err(|error| Diagnostic::io(file, "read its owner", &error))?
    {
        Some(reason) => untrusted(reason),
        None => read_text(file, &opened),
    }
}

/// Returns why a named file would be rejected if the search had found it.
pub(super) fn untrusted_reason(file: &Path, root: &Path) -> Option<String> {
    let opened = sys::open_found(root, file.file_name()?).ok()?;
    match opened {
        Ok(opened) => sys::untrusted_reason(file, &opened).ok()?,
        Err(reason) => Some(reason),
    }
}

fn read_text(file: &Path, opened: &File) -> Result<String, Diagnostic> {
    let mut bytes = Vec::new();
    let read = opened.take(MAX_SIZE + 1).read_to_end(&mut bytes);
    read.map_err(|error| Diagnostic::io(file, "read it", &error))?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(Diagnostic::of_file(file, "it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(error.as_bytes());
        let source = super::diagnostic::SourceText { file, text: &text };
        let valid = error.utf8_error().valid_up_to();
        source.diagnostic(Some(valid..valid), "invalid UTF-8")
    })
}
