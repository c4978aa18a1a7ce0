//! Runtime directories on Linux: their default path, and inotify.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::fs::inotify;

use super::{Namespace, check_unchanged, variable};
use crate::error::{Error, Result};

/// A watch for records that are moved into a runtime directory. It starts when it is created.
pub(crate) struct RecordWatch(OwnedFd);

impl RecordWatch {
    pub(crate) fn new(namespace: &Namespace) -> Result<Self> {
        let dir = namespace.dir();
        check_unchanged(namespace)?;
        let watch = || {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
            // Records are written to another path and then renamed. The watch also ends when the directory is
            // removed.
            let events = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ONLYDIR;
            inotify::add_watch(&watch, dir, events)?;
            Ok(Self(watch))
        };
        watch().map_err(|error: rustix::io::Errno| {
            let advice = "could not watch it (see `sysctl fs.inotify`)";
            Error::runtime_dir_io(dir, advice, error.into())
        })
    }

    /// Waits for a record, and blocks the thread. Returns an error if the directory was removed.
    pub(crate) fn wait(&self, namespace: &Namespace) -> Result<()> {
        let mut room = [MaybeUninit::uninit(); 4096];
        let read = loop {
            match rustix::io::read(&self.0, &mut room[..]) {
                Err(rustix::io::Errno::INTR) => {}
                read => break read.map(drop),
            }
        };
        read.map_err(|error| {
            let dir = namespace.dir();
            Error::runtime_dir_io(dir, "could not watch it", error.into())
        })?;
        check_unchanged(namespace)
    }
}

/// Returns `$XDG_RUNTIME_DIR/procref` if the session's directory exists and belongs to this user, and otherwise
/// `/tmp/procref-UID`.
///
/// The variable survives `sudo -E` and `su` without `-`. Without the check, root would create its own
/// directory in the user's, and procref would reject that directory for the user's next service.
pub(crate) fn default_dir() -> Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let is_own = |dir: &PathBuf| {
        // The base directory specification says that relative paths must be ignored.
        dir.is_absolute()
            && fs::metadata(dir).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == uid)
    };
    Ok(match variable("XDG_RUNTIME_DIR").filter(is_own) {
        Some(dir) => dir.join("procref"),
        None => PathBuf::from(format!("/tmp/procref-{uid}")),
    })
}
