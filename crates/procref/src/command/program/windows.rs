//! Finds the program before the fork, so that a missing program is an error of the caller.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{self, Path, PathBuf};

use crate::error::{Error, Result};

/// The extensions of programs, if the environment has no `PATHEXT`.
const DEFAULT_ENDINGS: &str = ".COM;.EXE;.BAT;.CMD";

/// Returns the program's absolute path. A name without a separator is searched in `search`, the service's
/// `PATH`, with each extension of this process's `PATHEXT` if it has none.
pub(super) fn find(service: &str, program: &OsStr, search: Option<&OsStr>) -> Result<PathBuf> {
    let shown = program.to_string_lossy();
    if let Some(found) = look_up(program, search) {
        return path::absolute(found).map_err(|error| Error::exec(service, &shown, error));
    }
    if is_path(&shown) {
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

fn is_path(program: &str) -> bool {
    program.contains(['/', '\\', ':'])
}

/// [`find`] without an error message.
pub(crate) fn look_up(program: &OsStr, search: Option<&OsStr>) -> Option<PathBuf> {
    let endings = env::var("PATHEXT").unwrap_or_else(|_| DEFAULT_ENDINGS.to_owned());
    if is_path(&program.to_string_lossy()) {
        return with_ending(Path::new(program), &endings);
    }
    env::split_paths(search.unwrap_or_default())
        .filter(|dir| !dir.as_os_str().is_empty())
        .find_map(|dir| with_ending(&dir.join(program), &endings))
}

fn with_ending(program: &Path, endings: &str) -> Option<PathBuf> {
    let is_file = |path: &Path| fs::metadata(path).is_ok_and(|it| it.is_file());
    if program.extension().is_some() && is_file(program) {
        return Some(program.to_owned());
    }
    let with = |ending: &str| {
        let mut name = OsString::from(program);
        name.push(ending);
        PathBuf::from(name)
    };
    endings.split(';').map(with).find(|path| is_file(path))
}
