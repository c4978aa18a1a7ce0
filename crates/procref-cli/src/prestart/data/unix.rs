//! Locks with `flock`. Such a lock belongs to the open file description, which `fork` shares and `exec` keeps.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procref::process::Process;
use rustix::fs::{FlockOperation, Mode, OFlags, Stat};
use rustix::fs::{Gid, Uid};
use rustix::io::{Errno, FdFlags};

use crate::prestart::sys::OtherUser;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
mod user;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

use user::User;
pub(super) use user::text as user;

/// A function that is called before this process waits for a lock, with the process that holds the lock.
pub(super) type Waiting<'a> = &'a dyn Fn(Option<String>);

/// Creates the directory, closed to other users, if nothing is at the path.
///
/// A file or a dangling link at the path is reported when it is opened.
pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    match fs::symlink_metadata(dir) {
        Ok(_) => Ok(()),
        Err(_) => DirBuilder::new().recursive(true).mode(0o700).create(dir),
    }
}

/// Creates the directory that will have the data directory, if nothing is at the path. If the service runs as another
/// `user`, that user can enter the directory, but cannot list it.
pub(super) fn create_parent(dir: &Path, user: &OtherUser) -> io::Result<()> {
    if user.ids().is_none() {
        return create_private(dir);
    }
    match fs::symlink_metadata(dir) {
        // An earlier service without `user` may have created it.
        Ok(found) if found.is_dir() && dir.file_name() == Some(OsStr::new(OWN_DIR)) => {}
        Ok(_) => return Ok(()),
        Err(_) => DirBuilder::new().recursive(true).mode(0o711).create(dir)?,
    }
    // The umask may have closed the new directory.
    let mode = fs::metadata(dir)?.permissions().mode() & 0o7777;
    fs::set_permissions(dir, Permissions::from_mode(mode | 0o011))
}

/// The directory in a project that only procref uses.
const OWN_DIR: &str = ".procref";

/// Returns an error if the user cannot enter a directory above this path.
///
/// Access control lists are not read, so the error is only for modes that permit no other user at all.
pub(super) fn check_reachable(path: &Path, user: &OtherUser) -> io::Result<()> {
    let Some((uid, gid)) = user.ids() else {
        return Ok(());
    };
    for dir in path.ancestors().skip(1) {
        let stat = rustix::fs::stat(dir)?;
        let enter = match () {
            () if stat.st_uid == uid => Mode::XUSR,
            () if stat.st_gid == gid => Mode::XGRP,
            () => Mode::XOTH,
        };
        let (mode, group) = (Mode::from_raw_mode(stat.st_mode), Mode::RWXG);
        // The bits of the group are the mask of an access control list if there is one.
        if !mode.intersects(enter | (mode & group)) {
            let dir = dir.to_string_lossy();
            return Err(io::Error::other(format!(
                "uid {uid} (`user`) cannot enter {dir}, which has mode {:04o} (write another path for `data`, or run \
                 `chmod o+x {}`)",
                mode.bits() & 0o7777,
                shell_words::quote(&dir)
            )));
        }
    }
    Ok(())
}

/// The open data directory, locked if its file system has locks on directories.
pub(super) struct Directory {
    open: OwnedFd,
    is_locked: bool,
}

impl Directory {
    /// Opens and locks the directory that is at this path when the lock is taken.
    pub(super) fn lock(path: &Path, user: &OtherUser, waiting: Waiting<'_>) -> io::Result<Self> {
        loop {
            let directory = Self::open(path, user)?;
            let is_locked = match flock(&directory.open, waiting) {
                Ok(()) => true,
                // NFS locks only files that are open for writing, and a directory cannot be open for writing.
                Err(Errno::BADF) => false,
                Err(error) if is_unsupported(error) => false,
                Err(error) => return Err(error.into()),
            };
            // The process that held the lock may have replaced the directory. Later processes would not wait for a
            // lock on the old one.
            if directory.is_at(path) {
                let open = inherited(directory.open)?;
                return Ok(Self { open, is_locked });
            }
        }
    }

    /// Opens the directory and checks it through the descriptor, because another process may replace the
    /// directory between two calls.
    fn open(path: &Path, user: &OtherUser) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let open = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => not_a(path, "directory"),
            error => error.into(),
        })?;
        let stat = rustix::fs::fstat(&open)?;
        if user.ids().is_none_or(|(uid, _)| uid != stat.st_uid) {
            check_owner(&stat)?;
        }
        Ok(Self {
            open,
            is_locked: false,
        })
    }

    pub(super) fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Makes the user the owner of this directory.
    pub(super) fn give_to(&self, user: &OtherUser) -> io::Result<()> {
        let Some((uid, gid)) = user.ids() else {
            return Ok(());
        };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(rustix::fs::fchown(&self.open, Some(uid), Some(gid))?)
    }

    /// Returns `true` if this path leads to the directory.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        is_at(&self.open, path)
    }

    /// Returns a path to the open directory that stays valid if the directory is replaced. On macOS, the path is that of the
    /// directory at this time.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        sys::descriptor_path(&self.open)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.open)?)
    }

    /// Creates the marker, and waits until the whole file system is on the disk.
    pub(super) fn mark(&self, marker: &str) -> io::Result<()> {
        // `init` may have copied a marker or a link from another data directory.
        match rustix::fs::unlinkat(&self.open, marker, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let marker = rustix::fs::openat(&self.open, marker, flags, Mode::RUSR | Mode::WUSR)?;
        sys::sync_file_system(&marker)
    }
}

/// The locked file beside a data directory.
///
/// The file remains when the lock is released. If a process removed it, two processes could hold locks on two files of
/// the same name.
pub(super) struct LockFile {
    file: File,
    is_locked: bool,
}

impl LockFile {
    /// Returns `None` if this user cannot create files there. Then no process of this user can replace the directory.
    pub(super) fn lock(path: &Path, waiting: Waiting<'_>) -> io::Result<Option<Self>> {
        loop {
            let Some(file) = Self::open(path)? else {
                return Ok(None);
            };
            let described = |holder: Option<String>| {
                waiting(holder.or_else(|| User::of(&file).map(|user| user.hidden())));
            };
            let is_locked = match flock(&file, &described) {
                Ok(()) => true,
                Err(error) if is_unsupported(error) => false,
                Err(error) => return Err(error.into()),
            };
            if !is_at(&file, path) {
                continue;
            }
            // Writing to a file with several links would also change a backup that `cp -al` made. This process holds
            // the lock, so no other process loses it when the file is removed.
            if file.metadata()?.nlink() != 1 {
                fs::remove_file(path)?;
                continue;
            }
            let file = File::from(inherited(file.into())?);
            return Ok(Some(Self { file, is_locked }));
        }
    }

    fn open(path: &Path) -> io::Result<Option<File>> {
        // With O_NONBLOCK, a named pipe at the path does not block `open`.
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => {
                check_file(path, &rustix::fs::fstat(&file)?)?;
                Ok(Some(file.into()))
            }
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => Err(not_a(path, "regular file")),
            // If a file exists, it belongs to another user, and `is_own_file` returns that error.
            Err(error @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => match is_own_file(path)? {
                true => Err(error.into()),
                false => Ok(None),
            },
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Waits until the last process that used the directory has exited. That process may have closed the
    /// descriptors of its locks.
    pub(super) fn wait_user(&self, waiting: Waiting<'_>) -> io::Result<()> {
        while let Some(user) = User::of(&self.file).filter(User::is_alive) {
            waiting(sys::described(user.pid));
            // If the kernel reused the pid after the check, the next check notices.
            if let Ok(process) = Process::open(user.pid) {
                process.wait(Duration::MAX).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// Writes which process uses the directory. Writes nothing if the process cannot be read.
    pub(super) fn write_user(
        &self,
        service: &str,
        namespace: Option<&str>,
        pid: u32,
    ) -> io::Result<()> {
        let Some(text) = user::text(service, namespace, pid) else {
            return Ok(());
        };
        self.file.set_len(0)?;
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

/// The parent of a data directory, locked for `init`. Programs do not inherit this lock.
///
/// procref 0.2 had only this lock, and ran one `init` at a time for all data directories in a parent. Current processes
/// share the lock, because their data directories have their own locks.
pub(super) struct Parent(File);

impl Parent {
    pub(super) fn lock(parent: &Path, waiting: Waiting<'_>) -> io::Result<Self> {
        let parent = File::open(parent)?;
        match flock_as(&parent, SHARED, waiting) {
            Ok(()) => Ok(Self(parent)),
            // procref 0.2 also continued without a lock.
            Err(error) if is_unsupported(error) => Ok(Self(parent)),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until created and removed entries are on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// Returns `true` if the file exists. Fails if it is not a regular file of this user.
pub(super) fn is_own_file(path: &Path) -> io::Result<bool> {
    match rustix::fs::lstat(path) {
        Ok(stat) => check_file(path, &stat).map(|()| true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes a note and waits until it is on the disk.
pub(super) fn write_note(path: &Path, content: &str) -> io::Result<()> {
    // No O_TRUNC, because the file must be checked before it is truncated.
    let mut note = match LockFile::open(path)? {
        Some(note) => note,
        None => return Err(io::ErrorKind::PermissionDenied.into()),
    };
    note.set_len(0)?;
    note.write_all(content.as_bytes())?;
    note.sync_all()
}

const EXCLUSIVE: [FlockOperation; 2] = [
    FlockOperation::NonBlockingLockExclusive,
    FlockOperation::LockExclusive,
];
const SHARED: [FlockOperation; 2] = [
    FlockOperation::NonBlockingLockShared,
    FlockOperation::LockShared,
];

fn flock(file: &impl AsFd, waiting: Waiting<'_>) -> Result<(), Errno> {
    flock_as(file, EXCLUSIVE, waiting)
}

/// Locks a file, and waits without a limit. The client that starts the service has a limit, and kills this process
/// then.
fn flock_as(
    file: &impl AsFd,
    [nonblocking, blocking]: [FlockOperation; 2],
    waiting: Waiting<'_>,
) -> Result<(), Errno> {
    let mut operation = nonblocking;
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::WOULDBLOCK) => {
                waiting(sys::of(file));
                operation = blocking;
            }
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

fn is_unsupported(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS | Errno::INVAL
    )
}

/// The lowest descriptor numbers to try for inherited locks. Scripts use low numbers for their own files. The lower
/// values are for processes with a small limit on descriptors.
const NUMBERS: [i32; 4] = [400, 200, 50, 10];

/// Duplicates a descriptor to a number that `exec` keeps.
fn inherited(open: OwnedFd) -> io::Result<OwnedFd> {
    let mut error = Errno::MFILE;
    for number in NUMBERS {
        match rustix::io::fcntl_dupfd_cloexec(&open, number) {
            Ok(duplicate) => {
                rustix::io::fcntl_setfd(&duplicate, FdFlags::empty())?;
                return Ok(duplicate);
            }
            Err(refused) => error = refused,
        }
    }
    Err(error.into())
}

/// Returns `true` if the path leads to this file and is not a symbolic link.
fn is_at(open: &impl AsFd, path: &Path) -> bool {
    let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
    match (rustix::fs::fstat(open), rustix::fs::lstat(path)) {
        (Ok(open), Ok(found)) => identity(open) == identity(found),
        _ => false,
    }
}

fn check_file(path: &Path, stat: &Stat) -> io::Result<()> {
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::RegularFile => check_owner(stat),
        _ => Err(not_a(path, "regular file")),
    }
}

fn check_owner(stat: &Stat) -> io::Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    if stat.st_uid == uid {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "it belongs to uid {}, and this process runs as uid {uid} (run procref as the owner, or change the owner)",
        stat.st_uid
    )))
}

fn not_a(path: &Path, what: &str) -> io::Error {
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    io::Error::other(match is_link {
        true => format!(
            "it is a symbolic link (write the path of the {what} that it leads to, or remove it)"
        ),
        false => format!("it is not a {what}"),
    })
}
