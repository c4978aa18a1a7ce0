//! Programs by name.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// The endings of programs if the environment has no `PATHEXT`.
const DEFAULT_ENDINGS: &str = ".COM;.EXE;.BAT;.CMD";

/// Returns `true` if a program is given by a path and not by a name.
#[must_use]
pub fn is_path(program: &str) -> bool {
    program.contains(['/', '\\', ':'])
}

/// Finds a program as a shell does. Returns `None` if there is none.
///
/// A bare name is searched for in the directories of `search`, which has the form of `PATH`. If the name has no ending,
/// those of this process's `PATHEXT` are tried.
#[must_use]
pub fn find(program: &OsStr, search: Option<&OsStr>) -> Option<PathBuf> {
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
