//! The log of the service: its size limit, and a note about leftover processes.
//!
//! ```text
//!            write reported         longer than before
//!  silent ------------------> growing ----------+
//!    ^      (SIGIO, once)       |  ^             | check again after a pause
//!    |                          |  +-------------+
//!    +--------------------------+
//!      not longer than before: arm the report again
//! ```
//!
//! The kernel reports one write, and then no further writes until the report is armed again. So a silent
//! service costs nothing, and a service that writes a lot costs one check per pause. The pauses increase, up
//! to the time in which a service that writes 20 MB/s would fill the remaining room. After each rotation,
//! they begin with the shortest pause again.

#![expect(unsafe_code, reason = "signals of descriptors, and writing to the log")]

use core::cell::Cell;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use rustix::fd::{AsFd, BorrowedFd, RawFd};

use rustix::fs::{FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::prepared::{LogSpec, Text};
use crate::state::Ended;
use crate::text::TextBuffer;

/// The supervisor's descriptor of the log.
pub const LOG: RawFd = 1;

/// A path to the file of that descriptor, even if another file has the log's path now.
const LOG_FILE: &CStr = c"/proc/self/fd/1";

/// The event that a file in a directory was written to: `linux/fcntl.h`.
const DN_MODIFY: libc::c_int = 2;

/// The first pause between two checks of a log that grows.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause between two checks, for every limit.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// `true` if a write was reported. The handler of SIGIO sets it.
static REPORTED: AtomicBool = AtomicBool::new(false);

impl LogSpec {
    /// Returns the longest pause if there is room for `room` bytes: the time in which a service that writes 20 MB/s
    /// fills it.
    fn longest_pause(room: u64) -> Duration {
        /// Time to write one byte.
        const NANOSECONDS: u64 = 50;
        let pause = Duration::from_nanos(room.saturating_mul(NANOSECONDS));
        pause.clamp(FIRST_PAUSE, LONGEST_PAUSE)
    }
}

/// The kernel's means of reporting a write.
#[derive(Clone, Copy)]
enum WriteReports {
    /// A watch on the file.
    Inotify(RawFd),
    /// A watch on the directory, if the user's inotify instances are all in use. It also reports writes to
    /// other files in the directory.
    Directory(RawFd),
    /// No watch, because this kernel supports neither. Clients that join limit the log.
    None,
}

/// Size and modification time of the log.
type Version = (i64, i64, u64);

pub struct Log<'a> {
    spec: &'a LogSpec,
    reports: WriteReports,
    /// The version at the last check, while the log grows.
    seen: Cell<Option<Version>>,
    pause: Cell<Duration>,
}

impl<'a> Log<'a> {
    /// Watches the log. Call this when [`LOG`] is the log and the handler of SIGIO calls [`note_write`].
    pub fn new(spec: &'a LogSpec) -> Self {
        let log = Self {
            spec,
            reports: watch(spec.dir),
            // No log has this version, so the first check always records the version, and the second check
            // detects whether the log grows.
            seen: Cell::new(Some((-1, 0, 0))),
            pause: Cell::new(FIRST_PAUSE),
        };
        if matches!(log.reports, WriteReports::None) {
            log.seen.set(None);
        }
        log
    }

    /// Checks the log if it was written to, and rotates it if it is too long. Returns the time after which to check it
    /// again, or `None` if the next write is reported.
    ///
    /// Call this after the limit of the next sleep is set, because the report of a write ends only a sleep
    /// whose limit is set. If the check came first, the supervisor would miss a write between the check and
    /// the limit.
    pub fn check(&self) -> Option<Duration> {
        if REPORTED.swap(false, Ordering::Relaxed) {
            self.drain_reports();
            self.pause.set(match self.reports {
                WriteReports::Directory(_) => LogSpec::longest_pause(self.spec.limit),
                _ => FIRST_PAUSE,
            });
            // The next check detects whether the log grows.
            self.seen.set(Some((-1, 0, 0)));
        }
        let before = self.seen.get()?;
        let Ok(stat) = rustix::fs::fstat(log()) else {
            return None;
        };
        if is_too_long(&stat, self.spec.limit) {
            if self.rotate(&stat) {
                self.seen.set(rustix::fs::fstat(log()).ok().map(version));
                self.pause.set(FIRST_PAUSE);
                return Some(FIRST_PAUSE);
            }
            // While the log grows, the next check tries the rotation again.
            self.pause.set(LogSpec::longest_pause(self.spec.limit));
        }
        let room = match size(&stat) {
            size if size <= self.spec.limit => self.spec.limit - size,
            _ => self.spec.limit,
        };
        let now = version(stat);
        if now == before {
            self.arm();
            // Check again, because a write before `arm` was not reported.
            if rustix::fs::fstat(log()).ok().map(version) == Some(now) {
                self.seen.set(None);
                return None;
            }
        }
        self.seen.set(Some(now));
        let pause = self.pause.get().min(LogSpec::longest_pause(room));
        self.pause.set((pause * 2).min(LONGEST_PAUSE));
        Some(pause)
    }

    /// Arms the report of the next write.
    fn arm(&self) {
        match self.reports {
            WriteReports::Inotify(fd) => {
                let mask = libc::IN_MODIFY | libc::IN_ONESHOT;
                // SAFETY: `LOG_FILE` is a NUL-terminated static text, and `fd` is an inotify instance that this process
                // has opened.
                unsafe { libc::inotify_add_watch(fd, LOG_FILE.as_ptr(), mask) };
            }
            WriteReports::Directory(fd) => {
                // SAFETY: no pointers are passed.
                unsafe { libc::fcntl(fd, libc::F_NOTIFY, DN_MODIFY) };
            }
            WriteReports::None => {}
        }
    }

    /// Empties the queue of reports, whose length the kernel limits.
    fn drain_reports(&self) {
        if let WriteReports::Inotify(fd) = self.reports {
            let mut buffer = [0_u8; 1024];
            while let Ok(1..) = rustix::io::read(borrowed(fd), &mut buffer) {}
        }
    }

    /// Copies the end of the log to `PATH.1` and empties the log, as a client that joins does. Returns `false` on
    /// failure.
    fn rotate(&self, known: &Stat) -> bool {
        if known.st_nlink == 0 {
            // The log was deleted, so no process can read it, but the service still writes to it.
            return rustix::fs::ftruncate(log(), 0).is_ok();
        }
        // Open the log again, because a lock belongs to the open file description, and the service shares
        // that of LOG. If this process were killed while it held such a lock, the service would keep the
        // lock.
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = rustix::fs::open(
            self.spec.path.as_c_str(),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let Ok(file) = opened else {
            return false;
        };
        let is_same = |stat: Stat| (stat.st_dev, stat.st_ino) == (known.st_dev, known.st_ino);
        // If another file has this path, the log was renamed, and is not limited any more.
        if !rustix::fs::fstat(&file).is_ok_and(is_same) {
            return false;
        }
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // A client is rotating the log.
            return true;
        }
        // A client may have rotated the log before the lock was taken.
        let Ok(stat) = rustix::fs::fstat(&file) else {
            return false;
        };
        if !is_too_long(&stat, self.spec.limit) {
            return true;
        }
        match self.keep_end(&file, size(&stat)) {
            Ok(()) => {}
            // The disk is full, which the limit should prevent. The incomplete copy is of no use.
            Err(Errno::NOSPC | Errno::DQUOT) => {
                let _ = rustix::fs::unlink(self.spec.rotated.as_c_str());
            }
            Err(_) => return false,
        }
        rustix::fs::ftruncate(&file, 0).is_ok()
    }

    /// Copies the log from `limit` bytes before `size` to its end, including what the service writes meanwhile. The copy
    /// has at most twice the limit, in case the service writes faster than this function copies.
    fn keep_end(&self, file: impl AsFd, size: u64) -> Result<(), Errno> {
        let rotated = self.spec.rotated.as_c_str();
        match rustix::fs::unlink(rotated) {
            Err(error) if error != Errno::NOENT => return Err(error),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let copy = rustix::fs::open(rotated, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
        let mut buffer = [0_u8; 16 << 10];
        let mut offset = size.saturating_sub(self.spec.limit);
        let end = offset.saturating_add(self.spec.limit.saturating_mul(2));
        while offset < end {
            let most = usize::try_from(end - offset).unwrap_or(buffer.len());
            let part = &mut buffer[..most.min(16 << 10)];
            let length = rustix::io::pread(file.as_fd(), &mut *part, offset)?;
            let mut rest = &part[..length];
            while !rest.is_empty() {
                let written = rustix::io::write(&copy, rest)?;
                rest = &rest[written..];
            }
            if length == 0 {
                break;
            }
            offset += length as u64;
        }
        Ok(())
    }

    /// Writes to the log that the service's program has exited, with its status, and that it left other
    /// processes.
    pub fn note_leftovers(&self, ended: Ended) {
        let status = match ended {
            Ended::Exited(code) => {
                TextBuffer::<64>::format(format_args!("exited with status {code}"))
            }
            Ended::Killed(signal) => {
                TextBuffer::<64>::format(format_args!("was killed by signal {signal}"))
            }
        };
        let [before, after, advice] = self
            .spec
            .note
            .each_ref()
            .map(|text| text.as_c_str().to_bytes());
        let advice = match ended {
            Ended::Exited(0) => advice,
            _ => b"",
        };
        // Write the whole line by one call, so that no output of other processes is in the middle of it.
        let parts = [before, status.as_bytes(), after, advice, b"\n"].map(rustix::io::IoSlice::new);
        let _ = rustix::io::writev(log(), &parts);
    }
}

impl Drop for Log<'_> {
    fn drop(&mut self) {
        if let WriteReports::Inotify(fd) | WriteReports::Directory(fd) = self.reports {
            // SAFETY: no pointers are passed. `watch` has opened the descriptor, and only this value uses it.
            unsafe { libc::close(fd) };
        }
    }
}

/// Records that the log was written to. The handler of SIGIO calls this, so it only writes to an atomic.
pub fn note_write() {
    REPORTED.store(true, Ordering::Relaxed);
}

fn watch(dir: Text) -> WriteReports {
    // SAFETY: no pointers are passed.
    let inotify = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
    if inotify >= 0 {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: no pointers are passed. The signal goes to this process, which has a handler for it.
        let owned = unsafe { libc::fcntl(inotify, libc::F_SETOWN, own) };
        // SAFETY: no pointers are passed.
        let signals =
            unsafe { libc::fcntl(inotify, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK) };
        if owned == 0 && signals == 0 {
            return WriteReports::Inotify(inotify);
        }
        // SAFETY: no pointers are passed. `inotify` was opened above, has no other owner, and is not used again.
        unsafe { libc::close(inotify) };
    }
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: `dir` is a NUL-terminated text in the arena, which this process keeps.
    let dir = unsafe { libc::open(dir.as_c_str().as_ptr(), flags) };
    match dir {
        0.. => WriteReports::Directory(dir),
        _ => WriteReports::None,
    }
}

fn log() -> BorrowedFd<'static> {
    borrowed(LOG)
}

fn borrowed(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the callers pass LOG, which this process never closes, and the descriptor of a watch, which stays open as
    // long as its `Log`. No caller keeps the result longer.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn is_too_long(stat: &Stat, limit: u64) -> bool {
    size(stat) > limit
}

#[expect(
    clippy::unnecessary_cast,
    reason = "the types of these fields differ between architectures"
)]
fn version(stat: Stat) -> Version {
    (
        stat.st_size as i64,
        stat.st_mtime as i64,
        stat.st_mtime_nsec as u64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_file_is_the_file_of_log_descriptor() {
        let path = TextBuffer::<32>::format(format_args!("/proc/self/fd/{LOG}"));
        assert_eq!(path.as_bytes(), LOG_FILE.to_bytes());
    }

    #[test]
    fn log_pauses_get_shorter_with_less_room() {
        let mebibytes = |number: u64| LogSpec::longest_pause(number << 20);
        assert_eq!(mebibytes(1 << 40), LONGEST_PAUSE);
        assert!(mebibytes(10) < LONGEST_PAUSE && mebibytes(10) > mebibytes(1));
        assert_eq!(LogSpec::longest_pause(0), FIRST_PAUSE);
        assert_eq!(LogSpec::longest_pause(u64::MAX), LONGEST_PAUSE);
    }
}
