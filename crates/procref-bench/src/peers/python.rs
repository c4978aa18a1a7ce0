//! Python's filelock. The client is `peers/filelock_counter.py`, in a virtual environment.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Result;

const FILELOCK: &str = "filelock==3.20.0";

pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/filelock_counter.py")
}

/// Returns the interpreter of the virtual environment in `dir`. Creates the environment if it does not have filelock.
pub fn interpreter(dir: &Path) -> Result<PathBuf> {
    let python = dir.join("bin/python");
    if has_filelock(&python) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", FILELOCK]))?;
    Ok(python)
}

fn has_filelock(python: &Path) -> bool {
    let import = Command::new(python)
        .args(["-c", "import filelock"])
        .output();
    import.is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .map_err(|error| format!("could not run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed: {}", errors.trim()).into())
}
