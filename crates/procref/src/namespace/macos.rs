//! Runtime directories on macOS: their default path, and kqueue.

#![expect(unsafe_code, reason = "confstr has no safe wrapper")]

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::{io, ptr};

use procref_supervisor::kqueue::{self, Event, Source};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Namespace, check_unchanged};
use crate::error::{Error, Result};

/// A watch for records that are moved into a runtime directory. It starts when it is created.
pub(crate) struct RecordWatch {
    queue: OwnedFd,
    /// The directory, which the queue watches as long as this descriptor is open.
    _dir: OwnedFd,
}

impl RecordWatch {
    pub(crate) fn new(namespace: &Namespace) -> Result<Self> {
        let path = namespace.dir();
        check_unchanged(namespace)?;
        let watch = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(path, flags, Mode::empty())?;
            let queue = kqueue::new()?;
            kqueue::add(&queue, Source::Directory(dir.as_fd()), 0)?;
            Ok(Self { queue, _dir: dir })
        };
        watch()
            .map_err(|error: Errno| Error::runtime_dir_io(path, "could not watch it", error.into()))
    }

    /// Waits for a change of the directory, and blocks the thread. Returns an error if the directory was removed.
    pub(crate) fn wait(&self, namespace: &Namespace) -> Result<()> {
        loop {
            match kqueue::wait(&self.queue, &mut [Event::BLANK], None) {
                Ok([]) | Err(Errno::INTR) => {}
                Ok(_) => return check_unchanged(namespace),
                Err(error) => {
                    let dir = namespace.dir();
                    let advice = "could not watch it";
                    return Err(Error::runtime_dir_io(dir, advice, error.into()));
                }
            }
        }
    }
}

/// Returns `procref` in this user's directory for temporary files.
///
/// `$TMPDIR` usually names the same directory, but may differ between processes.
pub(crate) fn default_dir() -> Result<PathBuf> {
    user_dir().map(|dir| dir.join("procref")).ok_or_else(|| {
        Error::runtime_dir_io(
            "procref".as_ref(),
            "the system names no directory for this user's temporary files",
            io::ErrorKind::NotFound.into(),
        )
    })
}

/// Returns `None` if the system names no directory.
fn user_dir() -> Option<PathBuf> {
    // SAFETY: without a buffer, the call only returns the length of the path with its NUL.
    let length = unsafe { libc::confstr(libc::_CS_DARWIN_USER_TEMP_DIR, ptr::null_mut(), 0) };
    let mut path = vec![0_u8; length];
    // SAFETY: the call writes at most `length` bytes to `path`, which is borrowed by nothing else.
    let written = unsafe {
        libc::confstr(
            libc::_CS_DARWIN_USER_TEMP_DIR,
            path.as_mut_ptr().cast(),
            length,
        )
    };
    if written != length || path.pop() != Some(0) || path.is_empty() {
        return None;
    }
    Some(OsString::from_vec(path).into())
}

// The number in Apple's headers: see `scripts/macos/abi.c`.
const _: () = assert!(libc::_CS_DARWIN_USER_TEMP_DIR == 65_537);
