//! The kernel that counts the clients: System V semaphore sets, or keepers.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::doctor::finding::{Finding, Severity, services};
use crate::error::{Error, Result};

const CHECK: &str = "kernel";
const VARIABLE: &str = "PROCREF_KERNEL";
/// The file of a runtime directory that records the choice of the keeper, and its contents.
const FILE: &str = "kernel";
const KEEPER: &str = "keeper\n";

/// The kernel of the runtime directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    SystemV,
    Keeper,
}

/// Returns the kernel of the runtime directory, and why it is used.
pub(super) fn check(named: Option<&Path>) -> (Kernel, Finding) {
    let value = env::var_os(VARIABLE).unwrap_or_default();
    let recorded = match services(CHECK, named) {
        Ok(services) => recorded(services.dir()),
        // The check of the directory reports it.
        Err(_) => Ok(None),
    };
    let (kernel, found) = match (recorded, value.to_str()) {
        (Ok(Some(file)), _) => (
            Kernel::Keeper,
            format!("kernel: keepers, as {} records", file.display()),
        ),
        (Err(error), _) => {
            let found = format!("kernel: {error}");
            let advice = "stop the services of this directory, and remove the file";
            let finding = Finding::new(CHECK, Severity::Error, found).advice(advice);
            return (Kernel::SystemV, finding);
        }
        (Ok(None), Some("")) => (
            Kernel::SystemV,
            "kernel: System V semaphores, the default".to_owned(),
        ),
        (Ok(None), Some("sysv")) => (
            Kernel::SystemV,
            format!("kernel: System V semaphores, which {VARIABLE} selects"),
        ),
        (Ok(None), Some("keeper")) => (
            Kernel::Keeper,
            format!("kernel: keepers, which {VARIABLE} selects for the first service"),
        ),
        (Ok(None), _) => {
            let found = format!("kernel: {VARIABLE} is {value:?}, so no service can start");
            let advice = "set it to `sysv` or `keeper`, or unset it";
            let finding = Finding::new(CHECK, Severity::Error, found).advice(advice);
            return (Kernel::SystemV, finding);
        }
    };
    (kernel, Finding::ok(CHECK, found))
}

/// Returns the finding for a system that refuses System V semaphores.
pub(super) fn refused() -> Finding {
    Finding::ok(
        CHECK,
        "kernel: keepers, because this system refuses System V semaphores",
    )
}

/// Chooses the keeper for a directory.
pub(super) fn record(dir: &Path) -> Result<()> {
    let path = dir.join(FILE);
    fs::write(&path, KEEPER).map_err(|error| Error::io(format!("write {}", path.display()), error))
}

/// Returns `true` if a process has chosen the keeper for a directory.
pub(super) fn is_recorded(dir: &Path) -> bool {
    recorded(dir).is_ok_and(|file| file.is_some())
}

/// Returns the file that records the choice of the keeper, if it exists.
fn recorded(dir: &Path) -> std::result::Result<Option<PathBuf>, String> {
    let file = dir.join(FILE);
    match fs::read(&file) {
        Ok(text) if text == KEEPER.as_bytes() => Ok(Some(file)),
        Ok(_) => Err(format!(
            "{} does not contain the word `keeper`",
            file.display()
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("could not read {}: {error}", file.display())),
    }
}
