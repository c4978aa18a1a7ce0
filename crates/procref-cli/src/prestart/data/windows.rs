use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Another process has the file open: ERROR_SHARING_VIOLATION.
const IN_USE: i32 = 32;

/// How often to check whether the lock was released.
const LOOK: Duration = Duration::from_millis(50);

/// Is called before a lock is waited for. Windows does not tell which process holds it.
pub(super) type Waiting<'a> = &'a dyn Fn(Option<String>);

/// Closed to others, if it is new.
pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above)?;
    }
    procref::windows::create_private_dir(dir)
}

/// The data directory. There are no locks on directories.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn lock(path: &Path, _: Waiting<'_>) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        if found.is_symlink() {
            return Err(io::Error::other(
                "it is a link (name the directory that it leads to, or remove it)",
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

    pub(super) fn is_at(&self, _: &Path) -> bool {
        true
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.clone()
    }

    /// Windows writes what is done to directories in order, and has no way to wait for it.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Writes the marker. What `init` has written is on the disk when `init` has seen to that: to write all of a
    /// volume is for administrators.
    pub(super) fn mark(&self, marker: &str) -> io::Result<()> {
        File::create(self.0.join(marker))?.sync_all()
    }
}

/// The file beside a data directory, open, so that no other process can open it. This process has it open until
/// the service's program has ended, and every process of the service is in one job with this one.
pub(super) struct LockFile {
    _open: File,
}

impl LockFile {
    pub(super) fn lock(path: &Path, waiting: Waiting<'_>) -> io::Result<Option<Self>> {
        let mut is_told = false;
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
                    if !is_told {
                        waiting(Some("another process".to_owned()));
                        is_told = true;
                    }
                    thread::sleep(LOOK);
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn is_locked(&self) -> bool {
        true
    }

    /// No process of the job outlives the one that has the file open.
    pub(super) fn wait_user(&self, _: Waiting<'_>) -> io::Result<()> {
        Ok(())
    }

    /// No other process can read it while the directory is used.
    pub(super) fn write_user(&self, _: &str, _: Option<&str>, _: u32) -> io::Result<()> {
        Ok(())
    }
}

/// There is no lock of procref 0.2's to be shared: it had the same file.
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

/// Returns `true` if there is a file, and no link.
pub(super) fn is_own_file(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(io::Error::other("it is a link (remove it)")),
        Ok(found) if !found.is_file() => Err(io::Error::other("it is not a file")),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is written about the process that uses a directory.
pub(super) fn user(_: &str, _: Option<&str>, _: u32) -> Option<String> {
    None
}

pub(super) fn write_note(path: &Path, content: &str) -> io::Result<()> {
    fs::write(path, content)?;
    File::options().write(true).open(path)?.sync_all()
}
