use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Somebody else has the file open: ERROR_SHARING_VIOLATION.
const IN_USE: i32 = 32;

/// How often to look whether that is over. It is rare: two runtime directories with one data directory.
const LOOK: Duration = Duration::from_millis(50);

/// Closed to others, if it is new.
pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above)?;
    }
    procref::windows::create_private_dir(dir)
}

/// The right to make a data directory: a file beside it, open, that nobody else can open meanwhile.
pub(super) struct Parent {
    _lock: File,
}

impl Parent {
    pub(super) fn lock(parent: &Path, data: &Path) -> io::Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(data.file_name().unwrap_or_default());
        name.push(".procref-lock");
        loop {
            let opened = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .share_mode(0)
                .open(parent.join(&name));
            match opened {
                Ok(_lock) => return Ok(Self { _lock }),
                Err(error) if error.raw_os_error() == Some(IN_USE) => thread::sleep(LOOK),
                Err(error) => return Err(error),
            }
        }
    }

    /// Windows writes what is done to directories in order, and has no way to wait for it.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Leaves the marker. What `init` has written is on the disk when `init` has seen to that: to write all of a
/// volume is for administrators.
pub(super) fn mark(marker: &Path) -> io::Result<()> {
    File::create(marker)?.sync_all()
}
