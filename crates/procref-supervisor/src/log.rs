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

#![expect(unsafe_code, reason = "reports of writes, and writing to the log")]

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use rustix::fd::{AsFd, BorrowedFd, RawFd};

use rustix::fs::{FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::prepared::LogSpec;
use crate::state::Ended;
use crate::text::TextBuffer;
use sys::WriteReports;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

#[cfg(target_os = "macos")]
pub use sys::report_writes_to;

/// The supervisor's descriptor of the log.
pub const LOG: RawFd = 1;

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
            reports: WriteReports::new(spec.dir),
            // No log has this version, so the first check always records the version, and the second check
            // detects whether the log grows.
            seen: Cell::new(Some((-1, 0, 0))),
            pause: Cell::new(FIRST_PAUSE),
        };
        if !log.reports.are_available() {
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
            self.reports.drain();
            self.pause.set(match self.reports.are_exact() {
                true => FIRST_PAUSE,
                false => LogSpec::longest_pause(self.spec.limit),
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
            self.reports.arm();
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

/// Records that the log was written to. The handler of SIGIO calls this, so it only writes to an atomic.
pub fn note_write() {
    REPORTED.store(true, Ordering::Relaxed);
}

fn log() -> BorrowedFd<'static> {
    // SAFETY: this process never closes LOG.
    unsafe { BorrowedFd::borrow_raw(LOG) }
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
    fn log_pauses_get_shorter_with_less_room() {
        let mebibytes = |number: u64| LogSpec::longest_pause(number << 20);
        assert_eq!(mebibytes(1 << 40), LONGEST_PAUSE);
        assert!(mebibytes(10) < LONGEST_PAUSE && mebibytes(10) > mebibytes(1));
        assert_eq!(LogSpec::longest_pause(0), FIRST_PAUSE);
        assert_eq!(LogSpec::longest_pause(u64::MAX), LONGEST_PAUSE);
    }
}
