use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The directory beside a data directory, locked.
pub(super) struct Parent(File);

impl Parent {
    pub(super) fn lock(parent: &Path, _data: &Path) -> io::Result<Self> {
        let parent = File::open(parent)?;
        loop {
            match rustix::fs::flock(&parent, FlockOperation::LockExclusive) {
                // Where there are no such locks, one runtime directory has to do.
                Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK) => return Ok(Self(parent)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What was made and removed in it is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// Leaves the marker, behind all that was written before.
pub(super) fn mark(marker: &Path) -> io::Result<()> {
    let marker = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(marker)?;
    Ok(rustix::fs::syncfs(marker)?)
}
