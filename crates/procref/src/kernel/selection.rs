//! The choice between System V semaphore sets and keepers.
//!
//! The choice belongs to the namespace, because two kernels would count one service twice. System V is the default. A
//! process that chooses the keeper writes the file `kernel` into the runtime directory, and every process reads that
//! file when it opens an object.
//!
//! A process may create a set while another one writes the file. Both check again, in an order in which at least one of
//! them detects the other:
//!
//! ```text
//! System V   create the set, claim it, read the file: if it exists, give up
//! keeper     write the file, create the state file, look for a set of the service: if one is in use, give up
//! ```

use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::semset::{OpenArray as _, decode, digests_in};
use super::sysv::{self, SysvArray};
use super::{Kernel as _, Missing};
use crate::error::{Error, Result};
use crate::key::ServiceKey;
use crate::namespace::{Namespace, PROJECTS};

/// The variable that chooses the kernel of a new namespace.
const VARIABLE: &str = "PROCREF_KERNEL";
/// The file in the runtime directory that records the choice of the keeper.
pub(crate) const FILE: &str = "kernel";
/// The contents of that file.
const KEEPER: &str = "keeper\n";

/// A kernel of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    SystemV,
    Keeper,
}

/// Returns the kernel that the processes of a runtime directory use.
pub(crate) fn recorded(dir: &Path) -> Result<Choice> {
    let path = dir.join(FILE);
    // `O_NONBLOCK`, because opening a FIFO with this name would block otherwise.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let failed = |error| Error::runtime_dir_io(dir, "could not read its file `kernel`", error);
    let file = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(file) => fs::File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Choice::SystemV),
        Err(error) => return Err(failed(error.into())),
    };
    let mut text = Vec::new();
    let limit = KEEPER.len() as u64 + 1;
    file.take(limit).read_to_end(&mut text).map_err(failed)?;
    match text == KEEPER.as_bytes() {
        true => Ok(Choice::Keeper),
        false => Err(Error::runtime_dir(
            dir,
            "its file `kernel` does not contain the word `keeper` (stop the services of this directory, and remove the \
             file)",
        )),
    }
}

/// Returns the kernel that the next object of a service will have, as far as that is known before it is opened.
pub(crate) fn expected(key: &ServiceKey) -> Result<Choice> {
    let dir = key.namespace.dir();
    if recorded(dir)? == Choice::Keeper {
        return Ok(Choice::Keeper);
    }
    match wanted(key.name())? {
        Some(choice) => Ok(choice),
        None if has_keeper_above(dir)? => Ok(Choice::Keeper),
        None => Ok(Choice::SystemV),
    }
}

/// Returns the kernel for a namespace that has used System V sets, or nothing yet.
pub(crate) fn choose(key: &ServiceKey) -> Result<Choice> {
    let namespace = &key.namespace;
    match wanted(key.name())? {
        Some(Choice::SystemV) => Ok(Choice::SystemV),
        Some(Choice::Keeper) => establish(namespace),
        // The runtime directory of a project takes the choice of the common one.
        None if has_keeper_above(namespace.dir())? => establish(namespace),
        // Without a record, a directory that existed before may be in use.
        None if namespace.is_new() && !sysv::has_working_undo() => establish(namespace),
        None => Ok(Choice::SystemV),
    }
}

/// Returns `true` if this is the directory of a project, `COMMON/projects/NAME`, and the common one uses the keeper.
fn has_keeper_above(dir: &Path) -> Result<bool> {
    let projects = dir.parent().filter(|dir| dir.ends_with(PROJECTS));
    match projects.and_then(Path::parent) {
        Some(common) => Ok(recorded(common)? == Choice::Keeper),
        None => Ok(false),
    }
}

/// Chooses the keeper, because this process may not use System V semaphores.
pub(crate) fn fall_back(key: &ServiceKey, error: Error) -> Result<Choice> {
    match wanted(key.name())? {
        Some(Choice::SystemV) => Err(error),
        _ => establish(&key.namespace),
    }
}

/// Returns the choice of the user.
fn wanted(service: &str) -> Result<Option<Choice>> {
    let value = env::var_os(VARIABLE).unwrap_or_default();
    match value.to_str() {
        Some("") => Ok(None),
        Some("sysv") => Ok(Some(Choice::SystemV)),
        Some("keeper") => Ok(Some(Choice::Keeper)),
        _ => Err(Error::InvalidSetting {
            service: service.to_owned(),
            setting: VARIABLE,
            reason: format!("{value:?} is not a kernel (use `sysv` or `keeper`)"),
        }),
    }
}

/// Records the choice of the keeper.
fn establish(namespace: &Namespace) -> Result<Choice> {
    let dir = namespace.dir();
    if !has_no_sets() && !sysv::SystemV.survey(namespace)?.is_empty() {
        return Err(Error::runtime_dir(
            dir,
            format!(
                "its services use System V semaphores, so it cannot use the keeper (stop these services first, or unset \
                 {VARIABLE})"
            ),
        ));
    }
    let failed = |error| Error::runtime_dir_io(dir, "could not write its file `kernel`", error);
    crate::namespace::check_unchanged(namespace)?;
    // All processes write the same contents, so the last one to rename its draft changes nothing.
    let draft = dir.join(format!("{FILE}.{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&draft)
        .and_then(|mut file| file.write_all(KEEPER.as_bytes()))
        .and_then(|()| fs::rename(&draft, dir.join(FILE)))
        .map_err(failed)?;
    tracing::debug!(dir = %dir.display(), "chose the keeper");
    Ok(Choice::Keeper)
}

/// Checks that no process uses a service through a System V set, which this process would not meet.
///
/// A process that has read the namespace before the keeper was chosen may still use one. `semget` is called only if the
/// kernel's list has the key, because some sandboxes kill a process that calls it.
pub(crate) fn check_unused_by_system_v(key: &ServiceKey) -> Result<()> {
    if !sysv::is_listed(key.short()) {
        return Ok(());
    }
    let Some(array) = SysvArray::open(key, Missing::Ignore).ok().flatten() else {
        return Ok(());
    };
    let Ok(values) = array.checked_values(key) else {
        return Ok(());
    };
    let (space, name) = key.digests();
    let is_ours = digests_in(&values) == (space.bits().into(), name.bits().into());
    let snapshot = decode(&values, is_ours);
    let is_used = snapshot.clients > 0 || snapshot.instance.is_some() || snapshot.supervised;
    match is_ours && is_used {
        false => Ok(()),
        true => Err(Error::Kernel {
            service: key.name().to_owned(),
            operation: "open its object in a keeper",
            advice: format!(
                "other processes use the service through a System V semaphore set, because they did not find the file \
                 {}; stop them first",
                key.namespace.dir().join(FILE).display()
            ),
            source: io::ErrorKind::ResourceBusy.into(),
        }),
    }
}

/// Returns `true` if the kernel's list shows no set of this user that could be a service's, or if there is no list.
pub(crate) fn has_no_sets() -> bool {
    sysv::has_no_candidates()
}

/// Returns `true` if this process may not use System V semaphores.
pub(crate) fn is_refused(error: &Error) -> bool {
    let Error::Kernel { source, .. } = error else {
        return false;
    };
    matches!(source.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// Adds the file that chose the keeper to an error.
pub(crate) fn named(mut error: Error, dir: &Path) -> Error {
    if let Error::Kernel { advice, .. } = &mut error {
        let path = dir.join(FILE);
        advice.push_str(&format!("; {} chooses the keeper", path.display()));
    }
    error
}
