//! The path of a program on Windows.

use std::ffi::OsStr;
use std::io;
use std::path::{self, PathBuf};

use procref_winsys::program as winsys_program;

use crate::error::{Error, Result};

/// Returns the program's absolute path. A name without a separator is searched in `search`, the service's
/// `PATH`. If the name has no extension, each extension of this process's `PATHEXT` is tried.
pub(in crate::command) fn find(
    service: &str,
    program: &OsStr,
    search: Option<&OsStr>,
) -> Result<PathBuf> {
    let shown = program.to_string_lossy();
    if let Some(found) = winsys_program::find(program, search) {
        return path::absolute(found).map_err(|error| Error::exec(service, &shown, error));
    }
    if winsys_program::is_path(&shown) {
        let error = io::ErrorKind::NotFound.into();
        return Err(Error::exec(service, &shown, error));
    }
    let search = search.unwrap_or_default().to_string_lossy();
    let reason = format!(
        "it was not found in the PATH of the service's environment ({search}); install it, or name its \
         path"
    );
    Err(Error::not_started(service, &shown, reason, None))
}
