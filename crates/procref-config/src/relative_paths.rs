//! Makes relative paths absolute, because a relative path is only valid in the directory in which procref was
//! started.

use std::env;
use std::ffi::OsString;
use std::path::{self, Path, PathBuf, is_separator};

use crate::files::find::VARIABLE;
use crate::files::template::{OWN, literal};

/// The variable that names the common runtime directory, like `--runtime-dir`.
pub const RUNTIME_DIR: &str = "PROCREF_RUNTIME_DIR";

/// Returns procref's own variables with relative paths, as absolute paths.
///
/// A service runs in its own directory, and a client may change its directory before it starts procref again.
pub fn absolute_variables() -> Vec<(&'static str, PathBuf)> {
    let names = [RUNTIME_DIR, VARIABLE];
    let relative = names.into_iter().filter_map(|name| {
        let value = env::var_os(name).filter(|value| !value.is_empty())?;
        Path::new(&value)
            .is_relative()
            .then(|| Some((name, path::absolute(value).ok()?)))?
    });
    relative.collect()
}

/// Returns the program of a command line as a template with an absolute path, if the program is a relative path.
pub fn absolute_program(program: &OsString) -> OsString {
    let text = program.to_string_lossy();
    let is_relative = Path::new(program).is_relative();
    if !is_relative || !text.contains(is_separator) || OWN.begins_with_dir(&text) {
        return program.clone();
    }
    match env::current_dir() {
        Ok(dir) => Path::new(&literal(dir.as_os_str())).join(program).into(),
        Err(_) => program.clone(),
    }
}
