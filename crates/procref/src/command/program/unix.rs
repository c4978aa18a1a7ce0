//! The path of a program on Unix.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{self, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use crate::error::{Error, Result};

/// The search path in an environment without a `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Returns the program's absolute path. A name without a `/` is searched in `search`, the service's `PATH`.
pub(in crate::command) fn find(
    service: &str,
    program: &OsStr,
    search: Option<&OsStr>,
) -> Result<PathBuf> {
    let shown = program.to_string_lossy();
    if program.as_bytes().contains(&b'/') {
        return executable(Path::new(program)).map_err(|error| Error::exec(service, &shown, error));
    }
    let search = search.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut denied = None;
    for dir in env::split_paths(search) {
        // An empty entry means the working directory, so `./` replaces it.
        match executable(&Path::new(".").join(dir).join(program)) {
            Ok(found) => return Ok(found),
            // Continue the search as a shell does, because a later directory may have an executable file of
            // this name.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied = Some(error),
            Err(_) => {}
        }
    }
    Err(match denied {
        Some(error) => Error::exec(service, &shown, error),
        None => {
            let search = search.to_string_lossy();
            let reason = format!(
                "not found in the PATH of the service's environment, {search} (install it, or name its \
                 path)"
            );
            Error::not_started(service, &shown, reason, None)
        }
    })
}

/// Returns the absolute path of a regular file that may be executed.
fn executable(program: &Path) -> io::Result<PathBuf> {
    if !fs::metadata(program)?.is_file() {
        return Err(rustix::io::Errno::ACCESS.into());
    }
    // Checks the effective user, as `execve` does. Root may execute a file only if any user may.
    rustix::fs::accessat(CWD, program, Access::EXEC_OK, AtFlags::EACCESS)?;
    path::absolute(program)
}
