//! Locks and processes as the calls of macOS show them.

#![expect(
    unsafe_code,
    reason = "sysctlbyname and fsync_volume_np have no safe wrapper"
)]

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::ptr;

use procref_config::prestart::command_line::program_of;
use procref_config::prestart::protocol::shown_words;
use procref_supervisor::process::{ARGUMENTS_ROOM, ProcessInfo, arguments};

use super::User;

unsafe extern "C" {
    // `unistd.h`. The libc crate does not declare it.
    fn fsync_volume_np(fd: libc::c_int, flags: libc::c_int) -> libc::c_int;
}

/// `SYNC_VOLUME_FULLSYNC | SYNC_VOLUME_WAIT` of `unistd.h`.
const FULL_AND_WAIT: libc::c_int = 1 | 2;

/// Describes the process that the lock file names. macOS does not report which process has a lock of flock(2).
pub(super) fn of(file: &impl AsFd) -> Option<String> {
    let file = File::from(file.as_fd().try_clone_to_owned().ok()?);
    let user = User::of(&file).filter(User::is_alive)?;
    described(user.pid)
}

/// Describes a process: pid, command line, and whether it is suspended.
pub(super) fn described(pid: u32) -> Option<String> {
    let info = ProcessInfo::of(pid).ok()?;
    let mut room = vec![0; ARGUMENTS_ROOM];
    let words: Vec<String> = arguments(pid, &mut room)?
        .arguments()
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let suspended = if info.is_suspended { ", suspended" } else { "" };
    let words = shown_words(program_of(&words));
    Some(format!("process {pid} (`{words}`{suspended})"))
}

/// Returns the path of an open directory.
pub(super) fn descriptor_path(directory: &impl AsFd) -> io::Result<PathBuf> {
    let path = rustix::fs::getpath(directory)?;
    Ok(OsString::from_vec(path.into_bytes()).into())
}

/// Waits until the whole file system of this file is on the disk.
pub(super) fn sync_file_system(file: &impl AsFd) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    if unsafe { fsync_volume_np(file.as_fd().as_raw_fd(), FULL_AND_WAIT) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Unsupported => {
            // A network file system. This starts the writes to all file systems, and waits for those of the file.
            rustix::fs::sync();
            Ok(rustix::fs::fsync(file)?)
        }
        error => Err(error),
    }
}

/// Why no process with a lock was found, for messages.
pub(super) const HIDDEN: &str = "macOS does not report which process holds a lock";

/// Returns a text that is equal for processes that see the same pids and the same clock: the id of this run of the system.
pub(super) fn view() -> Option<String> {
    let mut id = [0_u8; 64];
    let mut length = id.len();
    // SAFETY: the name ends with a NUL. The call writes at most `length` bytes to `id`, and the number of bytes to `length`.
    // It sets no new value.
    let result = unsafe {
        libc::sysctlbyname(
            c"kern.bootsessionuuid".as_ptr(),
            id.as_mut_ptr().cast(),
            &raw mut length,
            ptr::null_mut(),
            0,
        )
    };
    // The length includes the NUL at the end.
    let id = id.get(..length.checked_sub(1)?).filter(|_| result == 0)?;
    Some(String::from_utf8_lossy(id).into_owned())
}

/// Facts about a process.
pub(super) struct Stat {
    /// Time of the fork, in microseconds since the Unix epoch.
    pub(super) start: u64,
}

impl Stat {
    /// Returns `None` if there is no such process, or if it has begun to exit.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let start = ProcessInfo::of(pid).ok()?.start;
        Some(Self { start })
    }

    /// Always returns `true`, because [`of`](Self::of) returns only processes that are alive.
    #[expect(clippy::unused_self, reason = "the contract of all systems")]
    pub(super) fn is_alive(&self) -> bool {
        true
    }
}
