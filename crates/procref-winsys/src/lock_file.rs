//! Locks on single bytes of a file.
//!
//! A lock may lie far beyond the end of the file. It belongs to the handle that took it, and Windows releases it when the
//! process ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, ERROR_LOCK_VIOLATION};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_OPEN_REPARSE_POINT, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx,
    UnlockFileEx,
};
use windows_sys::Win32::System::IO::OVERLAPPED;

use crate::OpenFailure;
use crate::call::check;
use crate::security::{Kind, is_ours};

/// A file whose bytes can be locked.
#[derive(Debug)]
pub struct LockFile(File);

/// The mode of a lock: exclusive or shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// No other handle may hold the lock.
    Exclusive,
    /// Other handles may hold the lock in this mode.
    Shared,
}

impl LockFile {
    /// Opens a file, or creates it. Does not follow a symbolic link.
    ///
    /// # Errors
    ///
    /// Returns an error if the file belongs to another user or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, OpenFailure> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
            .open(path)?;
        match is_ours(&file, Kind::File)? {
            true => Ok(Self(file)),
            false => Err(OpenFailure::Foreign(
                "its lock file belongs to another user",
            )),
        }
    }

    /// Waits until the byte can be locked, and locks it. Other calls on the same handle wait, too.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call.
    pub fn lock(&self, byte: u64, mode: LockMode) -> io::Result<()> {
        self.call(byte, mode, 0).map(drop)
    }

    /// Locks the byte without waiting. Returns `false` if another handle holds the lock.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call.
    pub fn try_lock(&self, byte: u64, mode: LockMode) -> io::Result<bool> {
        self.call(byte, mode, LOCKFILE_FAIL_IMMEDIATELY)
    }

    fn call(&self, byte: u64, mode: LockMode, flags: u32) -> io::Result<bool> {
        let flags = match mode {
            LockMode::Exclusive => flags | LOCKFILE_EXCLUSIVE_LOCK,
            LockMode::Shared => flags,
        };
        let mut offset = offset(byte);
        // SAFETY: `self` keeps the handle open. It is open for synchronous calls, so Windows does not use `offset` after
        // the call has returned.
        let done = unsafe { LockFileEx(self.0.as_raw_handle(), flags, 0, 1, 0, &raw mut offset) };
        match check(done) {
            Ok(()) => Ok(true),
            Err(error) => match error.raw_os_error().map(|code| code as u32) {
                Some(ERROR_LOCK_VIOLATION | ERROR_IO_PENDING)
                    if flags & LOCKFILE_FAIL_IMMEDIATELY != 0 =>
                {
                    Ok(false)
                }
                _ => Err(error),
            },
        }
    }

    /// Releases the lock on the byte.
    ///
    /// # Errors
    ///
    /// Returns an error if this handle does not hold the lock.
    pub fn unlock(&self, byte: u64) -> io::Result<()> {
        let mut offset = offset(byte);
        // SAFETY: `self` keeps the handle open. It is open for synchronous calls, so Windows does not use `offset` after
        // the call has returned.
        check(unsafe { UnlockFileEx(self.0.as_raw_handle(), 0, 1, 0, &raw mut offset) })
    }
}

/// Locks a file until it is closed. Returns `false` if another handle holds the lock.
///
/// The lock is on a byte far beyond the end of the file, so that it keeps no process from reading or writing.
///
/// # Errors
///
/// Returns the error of the system call.
pub fn try_lock_until_closed(file: &File) -> io::Result<bool> {
    LockFile(file.try_clone()?).try_lock(u64::MAX >> 2, LockMode::Exclusive)
}

fn offset(byte: u64) -> OVERLAPPED {
    let mut offset = OVERLAPPED::default();
    offset.Anonymous.Anonymous.Offset = byte as u32;
    offset.Anonymous.Anonymous.OffsetHigh = (byte >> 32) as u32;
    offset
}
