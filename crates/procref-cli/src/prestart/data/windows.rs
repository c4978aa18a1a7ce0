use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::prestart::sys::OtherUser;

/// ERROR_SHARING_VIOLATION: another process has the file open.
const IN_USE: i32 = 32;

/// The interval of the checks whether the lock was released.
const INTERVAL: Duration = Duration::from_millis(50);

/// A function that is called before this process waits for a lock. Windows does not report which process holds it.
pub(super) type Waiting<'a> = &'a dyn Fn(Option<String>);

/// Creates the directory, closed to other users, if it is missing.
pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above)?;
    }
    procref_winsys::directory::create(dir)
}

/// Creates the directory that will have the data directory. Services have no other user on Windows.
pub(super) fn create_parent(dir: &Path, _: &OtherUser) -> io::Result<()> {
    create_private(dir)
}

/// Does nothing, because services have no other user on Windows.
pub(super) fn check_reachable(_: &Path, _: &OtherUser) -> io::Result<()> {
    Ok(())
}

/// The data directory. Windows has no locks on directories.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn lock(path: &Path, _: &OtherUser, _: Waiting<'_>) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        if found.is_symlink() {
            return Err(io::Error::other(
                "it is a link (write the path of the directory that it leads to, or remove it)",
            ));
        }
        if !found.is_dir() {
            return Err(io::Error::other("it is not a directory"));
        }
        Ok(Self(path.to_owned()))
    }

    pub(super) fn is_locked(&self) -> bool {
        false
    }

    /// Does nothing, because services have no other user on Windows.
    pub(super) fn give_to(&self, _: &OtherUser) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn is_at(&self, _: &Path) -> bool {
        true
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract of all systems")]
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        Ok(self.0.clone())
    }

    /// Does nothing. Windows writes changes of directories in order, and has no call that waits for them.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Writes the marker. Only an administrator can flush a whole volume, so `init` must flush its own files.
    pub(super) fn mark(&self, marker: &str) -> io::Result<()> {
        File::create(self.0.join(marker))?.sync_all()
    }
}

/// The open file beside a data directory. While it is open, no other process can open it.
///
/// This process keeps it open until the service's program has exited. All processes of the service are in one job with
/// this process.
pub(super) struct LockFile {
    _open: File,
}

impl LockFile {
    pub(super) fn lock(path: &Path, waiting: Waiting<'_>) -> io::Result<Option<Self>> {
        let mut is_reported = false;
        loop {
            if path.is_symlink() {
                return Err(io::Error::other("it is a link (remove it)"));
            }
            let opened = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .share_mode(0)
                .open(path);
            match opened {
                Ok(open) => return Ok(Some(Self { _open: open })),
                Err(error) if error.raw_os_error() == Some(IN_USE) => {
                    if !is_reported {
                        waiting(Some("another process".to_owned()));
                        is_reported = true;
                    }
                    thread::sleep(INTERVAL);
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn is_locked(&self) -> bool {
        true
    }

    /// Does nothing, because no process of the job outlives the process that has the file open.
    pub(super) fn wait_user(&self, _: Waiting<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Does nothing, because no other process can read the file while the directory is in use.
    pub(super) fn write_user(&self, _: &str, _: Option<&str>, _: u32) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the place of the parent's lock, which does not exist on Windows. procref 0.2 used the same lock file
/// there.
pub(super) struct Parent;

impl Parent {
    pub(super) fn lock(_: &Path, _: Waiting<'_>) -> io::Result<Self> {
        Ok(Self)
    }

    /// See [`Directory::sync`].
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns `true` if the file exists. Fails if it is a link.
pub(super) fn is_own_file(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(io::Error::other("it is a link (remove it)")),
        Ok(found) if !found.is_file() => Err(io::Error::other("it is not a file")),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns `None`, because no file names the process that uses a directory.
pub(super) fn user(_: &str, _: Option<&str>, _: u32) -> Option<String> {
    None
}

pub(super) fn write_note(path: &Path, content: &str) -> io::Result<()> {
    fs::write(path, content)?;
    File::options().write(true).open(path)?.sync_all()
}
