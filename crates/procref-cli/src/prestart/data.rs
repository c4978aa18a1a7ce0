//! The data directory: filled once, completely, and used by one service at a time.
//!
//! # One user
//!
//! Before `init`, and before a program that needs no `init`, the service's process takes two locks: one on the
//! directory itself and one on the file `.NAME.procref-lock` beside it. Every program that it executes inherits
//! them, so the kernel releases them when the last process that may use the directory has ended, whatever has
//! become of procref's own processes.
//!
//! | | the lock on the directory | the lock beside it |
//! |---|---|---|
//! | another path leads to it: a link above it, a bind mount, a renamed project | holds | may be another file |
//! | `init` or the user removes the directory and creates it again | is on the old one | holds |
//! | the file system has no locks on directories (NFS) | none | holds |
//! | the directory above it is not writable, so no process can replace the directory | holds | none |
//!
//! A program may close descriptors that it does not know. The lock file therefore also tells which process uses
//! the directory. The next user waits until that process has ended too.
//!
//! # Filled once
//!
//! | beside it: the note | in it: the marker | other entries | |
//! |---|---|---|---|
//! | | yes | | it is filled |
//! | no | no | none | write the note, run `init`, write the marker, remove the note |
//! | yes | no | | `init` was interrupted: empty the directory and begin again |
//! | no | no | some | it is another program's: an error, and nothing is touched |
//!
//! A marker alone would not tell the last two apart, and a note alone would treat a directory as filled that
//! `init` has never seen. To fill another directory and rename it would need neither, but the directory's path is
//! part of what many programs write.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use procref::Services;

use crate::error::{Error, Result};
use crate::output;

use super::failure::{self, WAITING};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// In the directory, once it is filled.
const MARKER: &str = ".procref-initialised";

/// The right to use a data directory. It also belongs to every process that this one starts or becomes.
pub(super) struct Lock {
    directory: sys::Directory,
    /// `None` if the directory above does not allow it.
    beside: Option<sys::LockFile>,
}

/// Locks the directory, creates it, and runs `init` if it was not filled before.
pub(super) fn prepare(
    service: &str,
    runtime_dir: &Path,
    data: &Path,
    init: Option<Command>,
) -> Result<Lock> {
    let services = Services::in_dir(runtime_dir);
    let place = Place {
        // The lock file is written without it, too: it only tells people where the user's record is.
        namespace: services.and_then(|services| services.namespace_id()).ok(),
        ..Place::new(service, data)?
    };
    let mut lock = place.lock()?;
    if let Some(init) = init {
        place.fill(&mut lock, init)?;
    }
    // Again after `init`: it was the user that the file named until now.
    place.write_user(&lock, std::process::id())?;
    Ok(lock)
}

/// Returns `true` if `init` was begun in this directory and has not ended.
pub(super) fn is_begun(data: &Path) -> bool {
    Place::new("", data).is_ok_and(|place| fs::symlink_metadata(&place.begun).is_ok())
}

struct Place<'a> {
    service: &'a str,
    /// The digest of the service's namespace.
    namespace: Option<String>,
    data: &'a Path,
    parent: PathBuf,
    /// The note that the directory is being filled.
    begun: PathBuf,
    lock_file: PathBuf,
}

impl<'a> Place<'a> {
    fn new(service: &'a str, data: &'a Path) -> Result<Self> {
        let (Some(parent), Some(name)) = (data.parent(), data.file_name()) else {
            let data = data.display();
            return Err(Error::Usage(format!(
                "service {service:?}: {data} is no directory for data"
            )));
        };
        let beside = |ending: &str| {
            let mut file = OsString::from(".");
            file.push(name);
            file.push(ending);
            parent.join(file)
        };
        Ok(Self {
            service,
            namespace: None,
            data,
            begun: beside(".procref-begun"),
            lock_file: beside(".procref-lock"),
            parent: parent.to_owned(),
        })
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        let (service, data) = (self.service, self.data.display());
        Error::io(
            format!("{what} for the data directory {data} of service {service:?}"),
            error,
        )
    }

    /// An error about a file or a directory beside or in the data directory.
    fn failed_at(&self, what: &str, path: &Path, error: io::Error) -> Error {
        if path == self.data {
            let (service, data) = (self.service, self.data.display());
            return Error::io(
                format!("{what} the data directory {data} of service {service:?}"),
                error,
            );
        }
        self.failed(&format!("{what} {}", path.display()), error)
    }

    /// Writes a line with the directory to the service's log.
    fn tell(&self, what: &str) {
        let data = self.data.display();
        failure::log(&format!("{what} {data}"));
    }

    /// Reports which process uses the directory.
    fn tell_waiting(&self, holder: Option<String>) {
        let holder = holder.unwrap_or_else(|| {
            "a process that this one cannot see, of another user or in another container".to_owned()
        });
        self.tell(&format!("{WAITING}{holder}, which uses the data directory"));
    }

    /// Waits until no process uses the directory, and creates it if it is missing.
    ///
    /// All processes take the two locks in this order. The lock on the directory is always the last one, so two
    /// processes that come by different paths cannot wait for each other.
    fn lock(&self) -> Result<Lock> {
        sys::create_private(&self.parent)
            .map_err(|error| self.failed_at("create", &self.parent, error))?;
        let waiting = |holder| self.tell_waiting(holder);
        let beside = sys::LockFile::lock(&self.lock_file, &waiting)
            .map_err(|error| self.failed_at("lock", &self.lock_file, error))?;
        let directory = self.lock_directory()?;
        let lock = Lock { directory, beside };
        if !lock.is_effective() {
            let unsupported = io::Error::other(
                "its file system has no locks (put `data` on another one; `flock` must work there)",
            );
            return Err(self.failed_at("lock", self.data, unsupported));
        }
        if let Some(beside) = &lock.beside {
            beside
                .wait_user(&waiting)
                .map_err(|error| self.failed_at("read", &self.lock_file, error))?;
        }
        self.write_user(&lock, std::process::id())?;
        Ok(lock)
    }

    /// Locks the directory that the path leads to now.
    fn lock_directory(&self) -> Result<sys::Directory> {
        sys::create_private(self.data)
            .map_err(|error| self.failed_at("create", self.data, error))?;
        sys::Directory::lock(self.data, &|holder| self.tell_waiting(holder))
            .map_err(|error| self.failed_at("use", self.data, error))
    }

    /// Follows the path again, because a program may have put another directory there.
    fn renew(&self, lock: &mut Lock) -> Result<()> {
        if !lock.directory.is_at(self.data) {
            lock.directory = self.lock_directory()?;
        }
        Ok(())
    }

    fn write_user(&self, lock: &Lock, pid: u32) -> Result<()> {
        let written = match &lock.beside {
            Some(beside) => beside.write_user(self.service, self.namespace.as_deref(), pid),
            None => Ok(()),
        };
        written.map_err(|error| self.failed_at("write", &self.lock_file, error))
    }

    fn fill(&self, lock: &mut Lock, mut init: Command) -> Result<()> {
        if self.is_filled(lock)? {
            return Ok(());
        }
        // Before 0.3, this was the only lock, and it was exclusive. Processes of today share it.
        let parent = sys::Parent::lock(&self.parent, &|holder| self.tell_waiting(holder))
            .map_err(|error| self.failed_at("lock", &self.parent, error))?;
        self.renew(lock)?;
        if self.is_filled(lock)? {
            return Ok(());
        }
        if self.is_noted()? {
            self.tell("procref: emptying the data directory, because `init` was interrupted:");
            self.empty(lock)?;
        } else if !self.entries(lock)?.is_empty() {
            return Err(self.foreign());
        }
        self.note(lock, &parent)?;
        self.tell("procref: running `init` for the data directory");
        self.run_init(lock, &mut init)?;
        if !self.data.is_dir() {
            let missing =
                io::Error::other("`init` has removed it (it must leave a directory there)");
            return Err(self.failed_at("use", self.data, missing));
        }
        self.renew(lock)?;
        self.finish(lock, &parent)
    }

    fn run_init(&self, lock: &Lock, init: &mut Command) -> Result<()> {
        let service = self.service;
        let program = init.get_program().to_string_lossy().into_owned();
        let program = output::shown(&program);
        let mut child = init.spawn().map_err(|error| {
            let reason = failure::exec_reason(init.get_program(), &error);
            Error::Failed(format!(
                "service {service:?}: `init` could not execute `{program}`: {reason}"
            ))
        })?;
        // If it closes its descriptors and procref is killed, only this tells that it is still at work.
        let written = self.write_user(lock, child.id());
        let status = child
            .wait()
            .map_err(|error| self.failed("wait for `init`", error))?;
        written?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "service {service:?}: `init` failed with {status}: `{}`; the next start removes what it has left \
             in {} and runs it again",
            failure::shown_command(init),
            self.data.display()
        )))
    }

    /// Returns `true` if the marker is in the directory.
    fn is_filled(&self, lock: &Lock) -> Result<bool> {
        let marker = lock.directory.path().join(MARKER);
        sys::is_own_file(&marker)
            .map_err(|error| self.failed_at("use the marker", &self.data.join(MARKER), error))
    }

    /// Returns `true` if the note is beside the directory.
    fn is_noted(&self) -> Result<bool> {
        sys::is_own_file(&self.begun)
            .map_err(|error| self.failed_at("use the note", &self.begun, error))
    }

    fn entries(&self, lock: &Lock) -> Result<Vec<fs::DirEntry>> {
        let entries = fs::read_dir(lock.directory.path()).and_then(Iterator::collect);
        entries.map_err(|error| self.failed_at("read", self.data, error))
    }

    /// Not the directory itself: it may be a mount point.
    fn empty(&self, lock: &Lock) -> Result<()> {
        for entry in self.entries(lock)? {
            let removed = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
                Ok(_) => fs::remove_file(entry.path()),
                Err(error) => Err(error),
            };
            removed.map_err(|error| {
                let entry = self.data.join(entry.file_name());
                self.failed_at("remove", &entry, error)
            })?;
        }
        Ok(())
    }

    fn foreign(&self) -> Error {
        let (service, data, marker) = (self.service, self.data.display(), self.data.join(MARKER));
        Error::Failed(format!(
            "service {service:?}: there is something in {data}, and it was not put there by `init`; if it is \
             what the service needs, run `touch {}`, and otherwise remove it",
            marker.display()
        ))
    }

    /// Before anything is written into the directory: a crash of the machine must not leave a part of it without
    /// the note.
    fn note(&self, lock: &Lock, parent: &sys::Parent) -> Result<()> {
        let own_pid = std::process::id();
        let content = sys::user(self.service, self.namespace.as_deref(), own_pid);
        sys::write_note(&self.begun, &content.unwrap_or_default())
            .and_then(|()| parent.sync())
            .and_then(|()| lock.directory.sync())
            .map_err(|error| self.failed_at("write", &self.begun, error))
    }

    /// In this order, and each on the disk before the next.
    fn finish(&self, lock: &Lock, parent: &sys::Parent) -> Result<()> {
        lock.directory
            .mark(MARKER)
            .map_err(|error| self.failed_at("write", &self.data.join(MARKER), error))?;
        fs::remove_file(&self.begun)
            .and_then(|()| parent.sync())
            .map_err(|error| self.failed_at("remove", &self.begun, error))
    }
}

impl Lock {
    /// Returns `true` if at least one of the two locks is supported by its file system.
    fn is_effective(&self) -> bool {
        self.directory.is_locked() || self.beside.as_ref().is_some_and(sys::LockFile::is_locked)
    }
}
