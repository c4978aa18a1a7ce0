//! The data directory, which is filled once and used by one service at a time.
//!
//! # One user at a time
//!
//! Before it runs `init` or the program, the service's process takes two locks: one on the directory itself and one on
//! the file `.NAME.procref-lock` beside it. Each program that it executes inherits the locks. The kernel therefore
//! releases them when the last process that may use the directory has exited, even if procref's own processes are gone.
//!
//! | situation | lock on the directory | lock on the file beside it |
//! |---|---|---|
//! | another path leads to the directory: a link above it, a bind mount, a renamed project | effective | may be another file |
//! | `init` or the user removes the directory and recreates it | on the old directory | effective |
//! | the file system has no locks on directories (NFS) | none | effective |
//! | the parent directory is not writable, so no process can replace the directory | effective | none |
//!
//! A program may close descriptors that it does not know. The lock file therefore also names the process that uses the
//! directory. The next user also waits until that process has exited.
//!
//! # Filled once
//!
//! | note beside it | marker in it | other entries | meaning and action |
//! |---|---|---|---|
//! | any | yes | any | the directory is filled |
//! | no | no | none | write the note, run `init`, write the marker, remove the note |
//! | yes | no | any | `init` was interrupted: empty the directory and run `init` again |
//! | no | no | some | the directory belongs to another program: fail and change nothing |
//!
//! With only a marker, the last two rows would be equal. With only a note, a directory that `init` never
//! filled would count as filled. A temporary directory that is renamed after `init` would need neither, but
//! many programs write the path of the directory to their files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use procref::Services;
use procref_config::prestart::protocol::{MARKER, WAITING, beside, note_of};

use crate::error::{Error, Result};
use crate::text::shown;

use super::log;
use super::sys::OtherUser;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// The name of the directory in a project that holds only data of services.
const OWN_DIR: &str = ".procref";

/// The locks on a data directory. Each process that this process starts or becomes also holds them.
pub(super) struct DataLock {
    directory: sys::Directory,
    /// `None` if the parent directory is not writable.
    beside: Option<sys::LockFile>,
}

/// Creates and locks the directory, and runs `init` if the directory is not filled.
pub(super) fn prepare(
    service: &str,
    runtime_dir: &Path,
    data: &Path,
    user: &OtherUser,
    init: Option<Command>,
) -> Result<DataLock> {
    let services = Services::in_dir(runtime_dir);
    let data_dir = DataDir {
        // An error is ignored. The namespace only shows people where the user's record is.
        namespace: services.and_then(|services| services.namespace_id()).ok(),
        ..DataDir::new(service, data, user)?
    };
    let mut lock = data_dir.lock()?;
    // The files of a directory that is in use belong to the user that wrote them.
    if data_dir.entries(&lock)?.is_empty() {
        lock.directory
            .give_to(user)
            .map_err(|error| data_dir.failed_at("change the owner of", data, error))?;
    }
    if let Some(init) = init {
        data_dir.fill(&mut lock, init)?;
    }
    // While `init` ran, the lock file named the process of `init`.
    data_dir.write_user(&lock, std::process::id())?;
    Ok(lock)
}

struct DataDir<'a> {
    service: &'a str,
    /// The digest of the service's namespace.
    namespace: Option<String>,
    data: &'a Path,
    user: &'a OtherUser,
    parent: PathBuf,
    /// The file that exists while the directory is being filled.
    note: PathBuf,
    lock_file: PathBuf,
}

impl<'a> DataDir<'a> {
    fn new(service: &'a str, data: &'a Path, user: &'a OtherUser) -> Result<Self> {
        let (Some(parent), Some(note), Some(lock_file)) =
            (data.parent(), note_of(data), beside(data, ".procref-lock"))
        else {
            let (service, data) = (shown(service), data.display());
            return Err(Error::Usage(format!(
                "service `{service}`: {data} cannot be a data directory"
            )));
        };
        Ok(Self {
            service,
            namespace: None,
            data,
            user,
            note,
            lock_file,
            parent: parent.to_owned(),
        })
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        let (service, data) = (shown(self.service), self.data.display());
        Error::io(
            format!("{what} for the data directory {data} of service `{service}`"),
            error,
        )
    }

    /// An error about a file or a directory beside or in the data directory.
    fn failed_at(&self, what: &str, path: &Path, error: io::Error) -> Error {
        if path == self.data {
            let (service, data) = (shown(self.service), self.data.display());
            return Error::io(
                format!("{what} the data directory {data} of service `{service}`"),
                error,
            );
        }
        self.failed(&format!("{what} {}", path.display()), error)
    }

    /// Writes a line with the directory to the service's log.
    fn log(&self, what: &str) {
        let data = self.data.display();
        log::write(&format!("{what} {data}"));
    }

    /// Writes to the log which process uses the directory.
    fn log_waiting(&self, holder: Option<String>) {
        let holder = holder.unwrap_or_else(|| {
            "a process that this process cannot see (of another user or in another container)"
                .to_owned()
        });
        self.log(&format!("{WAITING}{holder}, which uses the data directory"));
    }

    /// Waits until no process uses the directory, and creates it if it is missing.
    ///
    /// All processes take the two locks in this order. The lock on the directory is always the last one, so two
    /// processes that use different paths cannot wait for each other.
    fn lock(&self) -> Result<DataLock> {
        sys::create_parent(&self.parent, self.user)
            .map_err(|error| self.failed_at("create", &self.parent, error))?;
        self.ignore_own_dir();
        let waiting = |holder| self.log_waiting(holder);
        let beside = sys::LockFile::lock(&self.lock_file, &waiting)
            .map_err(|error| self.failed_at("lock", &self.lock_file, error))?;
        let directory = self.lock_directory()?;
        let lock = DataLock { directory, beside };
        if !lock.is_effective() {
            let unsupported = io::Error::other(
                "its file system has no locks (move `data` to a file system with `flock`)",
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

    /// Makes git ignore the directory `.procref` that contains this data directory. An existing file is kept.
    ///
    /// The data directory itself gets no file, because programs such as `initdb` want it to be empty. The service works
    /// without the file, so a failed write is not an error.
    fn ignore_own_dir(&self) {
        let mut above = self.data.ancestors().skip(1);
        let own = above.find(|dir| dir.file_name().is_some_and(|name| name == OWN_DIR));
        if let Some(own) = own {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(own.join(".gitignore"));
            let _ = file.and_then(|mut file| file.write_all(b"*\n"));
        }
    }

    /// Locks the directory at the path.
    fn lock_directory(&self) -> Result<sys::Directory> {
        // The user becomes the owner. Other users could use a socket in an open directory.
        sys::create_private(self.data)
            .map_err(|error| self.failed_at("create", self.data, error))?;
        sys::check_reachable(self.data, self.user)
            .map_err(|error| self.failed_at("use", self.data, error))?;
        sys::Directory::lock(self.data, self.user, &|holder| self.log_waiting(holder))
            .map_err(|error| self.failed_at("use", self.data, error))
    }

    /// Locks the directory at the path again if a program replaced it.
    fn renew(&self, lock: &mut DataLock) -> Result<()> {
        if !lock.directory.is_at(self.data) {
            lock.directory = self.lock_directory()?;
        }
        Ok(())
    }

    fn write_user(&self, lock: &DataLock, pid: u32) -> Result<()> {
        let written = match &lock.beside {
            Some(beside) => beside.write_user(self.service, self.namespace.as_deref(), pid),
            None => Ok(()),
        };
        written.map_err(|error| self.failed_at("write", &self.lock_file, error))
    }

    fn fill(&self, lock: &mut DataLock, mut init: Command) -> Result<()> {
        if self.is_filled(lock)? {
            return Ok(());
        }
        // Before 0.3, this was the only lock, and it was exclusive. Current processes share it.
        let parent = sys::Parent::lock(&self.parent, &|holder| self.log_waiting(holder))
            .map_err(|error| self.failed_at("lock", &self.parent, error))?;
        self.renew(lock)?;
        if self.is_filled(lock)? {
            return Ok(());
        }
        if self.has_note()? {
            self.log("procref: emptying the data directory, because `init` was interrupted:");
            self.empty(lock)?;
        } else if !self.entries(lock)?.is_empty() {
            return Err(self.foreign());
        }
        self.write_note(lock, &parent)?;
        self.log("procref: running `init` for the data directory");
        self.run_init(lock, &mut init)?;
        if !self.data.is_dir() {
            let missing =
                io::Error::other("`init` removed it (`init` must leave a directory there)");
            return Err(self.failed_at("use", self.data, missing));
        }
        self.renew(lock)?;
        self.finish(lock, &parent)
    }

    fn run_init(&self, lock: &DataLock, init: &mut Command) -> Result<()> {
        let service = shown(self.service);
        let program = init.get_program().to_string_lossy().into_owned();
        let program = shown(&program);
        let mut child = init.spawn().map_err(|error| {
            let reason = log::exec_reason(init.get_program(), &error);
            Error::Failed(format!(
                "service `{service}`: could not execute `{program}` for `init`: {reason}"
            ))
        })?;
        // If `init` closes its descriptors and procref is killed, only the lock file shows that `init` is still
        // running.
        let written = self.write_user(lock, child.id());
        let status = child
            .wait()
            .map_err(|error| self.failed("wait for `init`", error))?;
        written?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "service `{service}`: `init` failed with {status}: `{}` (the next start empties {} and runs `init` again)",
            log::shown_command(init),
            self.data.display()
        )))
    }

    /// Returns `true` if the marker is in the directory.
    fn is_filled(&self, lock: &DataLock) -> Result<bool> {
        let marker = lock.directory.path().map(|it| it.join(MARKER));
        marker
            .and_then(|marker| sys::is_own_file(&marker))
            .map_err(|error| self.failed_at("use the marker", &self.data.join(MARKER), error))
    }

    /// Returns `true` if the note is beside the directory.
    fn has_note(&self) -> Result<bool> {
        sys::is_own_file(&self.note)
            .map_err(|error| self.failed_at("use the note", &self.note, error))
    }

    fn entries(&self, lock: &DataLock) -> Result<Vec<fs::DirEntry>> {
        let path = lock.directory.path();
        let entries = path.and_then(fs::read_dir).and_then(Iterator::collect);
        entries.map_err(|error| self.failed_at("read", self.data, error))
    }

    /// Removes all entries, but not the directory itself, because it may be a mount point.
    fn empty(&self, lock: &DataLock) -> Result<()> {
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
        let (service, data) = (shown(self.service), self.data.display());
        let marker = self.data.join(MARKER);
        Error::Failed(format!(
            "service `{service}`: could not use the data directory {data}: it has entries that `init` did not create (if \
             they are the service's data, run `touch {}`; otherwise remove them)",
            marker.display()
        ))
    }

    /// Writes the note before `init` writes to the directory. After a crash of the machine, a partly filled directory
    /// must have a note.
    fn write_note(&self, lock: &DataLock, parent: &sys::Parent) -> Result<()> {
        let own_pid = std::process::id();
        let content = sys::user(self.service, self.namespace.as_deref(), own_pid);
        sys::write_note(&self.note, &content.unwrap_or_default())
            .and_then(|()| parent.sync())
            .and_then(|()| lock.directory.sync())
            .map_err(|error| self.failed_at("write", &self.note, error))
    }

    /// Writes the marker and then removes the note. Each step is on the disk before the next one.
    fn finish(&self, lock: &DataLock, parent: &sys::Parent) -> Result<()> {
        lock.directory
            .mark(MARKER)
            .map_err(|error| self.failed_at("write", &self.data.join(MARKER), error))?;
        fs::remove_file(&self.note)
            .and_then(|()| parent.sync())
            .map_err(|error| self.failed_at("remove", &self.note, error))
    }
}

impl DataLock {
    /// Returns `true` if at least one of the two locks is supported by its file system.
    fn is_effective(&self) -> bool {
        self.directory.is_locked() || self.beside.as_ref().is_some_and(sys::LockFile::is_locked)
    }
}
