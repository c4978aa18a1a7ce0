//! Checks for Linux: semaphores, `/proc`, pidfds, and programs that may delete files or objects that procref
//! needs.

use std::env;
use std::fs;
use std::path::Path;

use super::runtime_dir;
use crate::doctor::finding::Finding;
use crate::doctor::probe::{self, Mechanism};

mod kernel;
mod logind;
mod proc;
mod selection;
mod semaphores;

use kernel::Kernel;
pub(super) use selection::{file_system, source};

/// The longest path of a Unix socket.
pub(super) const SOCKET: usize = 107;

const UNDO: Mechanism = Mechanism {
    check: "undo",
    name: "SEM_UNDO",
    if_broken: "gVisor has this fault: stop all services, and set PROCREF_KERNEL=keeper",
    if_unchecked: "see the other findings, and check whether a sandbox forbids semget, semop or semctl",
};

const KEEPER: Mechanism = Mechanism {
    check: "undo",
    name: "keeper",
    if_broken: "report this as a fault of procref",
    if_unchecked: "see the other findings, and check whether a sandbox forbids Unix sockets or memfd_create",
};

pub(in crate::doctor) fn check(runtime_dir: Option<&Path>) -> Vec<Finding> {
    let (mut kernel, mut chosen) = kernel::check(runtime_dir);
    let undo = probe::check_with(|dir| {
        if kernel == Kernel::Keeper {
            kernel::record(dir)?;
        }
        let counted = probe::count_around_kill(dir);
        if kernel == Kernel::SystemV && kernel::is_recorded(dir) {
            (kernel, chosen) = (Kernel::Keeper, kernel::refused());
        }
        counted
    });
    let mechanism = match kernel {
        Kernel::SystemV => &UNDO,
        Kernel::Keeper => &KEEPER,
    };
    let mut findings = vec![chosen];
    if kernel == Kernel::SystemV {
        findings.extend(semaphores::check());
    }
    findings.push(probe::finding(mechanism, undo));
    findings.extend(runtime_dir::check(runtime_dir));
    findings.extend(proc::check());
    if kernel == Kernel::SystemV {
        findings.extend(logind::check());
    }
    findings
}

/// Returns the text of a file of the kernel or the system, or `None` if it cannot be read.
fn text_of(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn user_name() -> Option<String> {
    env::var("USER").ok().filter(|name| !name.is_empty())
}
