//! The service's log, as its supervisor sees it: a limit for its size, and a note about leftover processes.
//!
//! ```text
//!            written to            still longer than before
//!  silent ---------------> growing ----------+
//!    ^     (SIGIO, once)     |  ^            | look again after a pause
//!    |                       |  +------------+
//!    +-----------------------+
//!      no longer than before: watch again
//! ```
//!
//! A watch that reports one write and no more costs a silent service nothing, and a loud one no more than the
//! pauses: a supervisor wakes only while the log grows. The pauses get longer up to the time in which a
//! service that writes 20 MB/s would fill the room that is left, and begin anew after each rotation.

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

/// Where the supervisor has the log.
pub const LOG: RawFd = 1;

/// The log by that descriptor, whatever its path leads to by now.
const LOG_FILE: &CStr = c"/proc/self/fd/1";

/// A file in the directory was written to: `linux/fcntl.h`.
const DN_MODIFY: libc::c_int = 2;

/// The first pause between two looks at a log that grows.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest one, whatever the limit.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Set by the signal that reports a write.
static REPORTED: AtomicBool = AtomicBool::new(false);

impl LogSpec {
    /// The longest pause if there is room for so many bytes: as long as a service that writes 20 MB/s needs
    /// to fill it.
    fn longest_pause(room: u64) -> Duration {
        /// The time of one byte.
        const NANOSECONDS: u64 = 50;
        let pause = Duration::from_nanos(room.saturating_mul(NANOSECONDS));
        pause.clamp(FIRST_PAUSE, LONGEST_PAUSE)
    }
}

/// What reports a write.
#[derive(Clone, Copy)]
enum Watch {
    /// By the file.
    Inotify(RawFd),
    /// By the directory, if the user has no inotify instance left. Other files there are reported, too.
    Directory(RawFd),
    /// This kernel has neither. Clients that join limit the log.
    None,
}

/// A size and a time of modification.
type Seen = (i64, i64, u64);

pub struct Log<'a> {
    plan: &'a LogSpec,
    watch: Watch,
    /// What the last look found, while the log grows.
    seen: Cell<Option<Seen>>,
    pause: Cell<Duration>,
}

impl<'a> Log<'a> {
    /// In the supervisor, when [`LOG`] is in its place, and SIGIO is handled by [`report`].
    pub fn new(plan: &'a LogSpec) -> Self {
        let log = Self {
            plan,
            watch: watch(plan.dir),
            // The first look finds out whether it grows already.
            seen: Cell::new(Some((-1, 0, 0))),
            pause: Cell::new(FIRST_PAUSE),
        };
        if matches!(log.watch, Watch::None) {
            log.seen.set(None);
        }
        log
    }

    /// Looks at the log if it was written to, and makes room in it. Returns the time after which to look
    /// again; `None` if the next write is reported.
    ///
    /// Call it after the limit of the next sleep is set: the report of a write ends that sleep from then on.
    /// The other way round, a write in between would be slept through.
    pub fn look(&self) -> Option<Duration> {
        if REPORTED.swap(false, Ordering::Relaxed) {
            self.forget_reports();
            self.pause.set(match self.watch {
                Watch::Directory(_) => LogSpec::longest_pause(self.plan.limit),
                _ => FIRST_PAUSE,
            });
            // Whatever it found, the next look decides whether the log grows.
            self.seen.set(Some((-1, 0, 0)));
        }
        let before = self.seen.get()?;
        let Ok(stat) = rustix::fs::fstat(log()) else {
            return None;
        };
        if is_longer(&stat, self.plan.limit) {
            if self.rotate(&stat) {
                self.seen.set(rustix::fs::fstat(log()).ok().map(seen));
                self.pause.set(FIRST_PAUSE);
                return Some(FIRST_PAUSE);
            }
            // Tried again while it grows, and not without end if it is silent.
            self.pause.set(LogSpec::longest_pause(self.plan.limit));
        }
        let room = match size(&stat) {
            size if size <= self.plan.limit => self.plan.limit - size,
            _ => self.plan.limit,
        };
        let now = seen(stat);
        if now == before {
            self.arm();
            // A write before that was not reported.
            if rustix::fs::fstat(log()).ok().map(seen) == Some(now) {
                self.seen.set(None);
                return None;
            }
        }
        self.seen.set(Some(now));
        let pause = self.pause.get().min(LogSpec::longest_pause(room));
        self.pause.set((pause * 2).min(LONGEST_PAUSE));
        Some(pause)
    }

    /// Lets the next write be reported, once.
    fn arm(&self) {
        match self.watch {
            Watch::Inotify(fd) => {
                let mask = libc::IN_MODIFY | libc::IN_ONESHOT;
                // SAFETY: a NUL-terminated path and numbers; the watch is this process's own.
                unsafe { libc::inotify_add_watch(fd, LOG_FILE.as_ptr(), mask) };
            }
            Watch::Directory(fd) => {
                // SAFETY: no pointers are passed; the descriptor is this process's own.
                unsafe { libc::fcntl(fd, libc::F_NOTIFY, DN_MODIFY) };
            }
            Watch::None => {}
        }
    }

    /// Takes the reports off the queue, which has room for so many.
    fn forget_reports(&self) {
        if let Watch::Inotify(fd) = self.watch {
            let mut buffer = [0_u8; 1024];
            while let Ok(1..) = rustix::io::read(borrowed(fd), &mut buffer) {}
        }
    }

    /// Keeps the end of the log in `PATH.1` and empties it, as a client that joins does. Returns `false` if
    /// it could not.
    fn rotate(&self, known: &Stat) -> bool {
        if known.st_nlink == 0 {
            // Deleted, and written to all the same: no process can read it any more.
            return rustix::fs::ftruncate(log(), 0).is_ok();
        }
        // Opened anew: a lock belongs to the open file, and LOG's is the service's as well. If this process
        // were killed with that lock, no client could ever take it.
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = rustix::fs::open(
            self.plan.path.as_c_str(),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let Ok(file) = opened else {
            return false;
        };
        let is_same = |stat: Stat| (stat.st_dev, stat.st_ino) == (known.st_dev, known.st_ino);
        // Renamed: it is somebody else's to limit then.
        if !rustix::fs::fstat(&file).is_ok_and(is_same) {
            return false;
        }
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // A client does it at this moment.
            return true;
        }
        // A client may have done it just now.
        let Ok(stat) = rustix::fs::fstat(&file) else {
            return false;
        };
        if !is_longer(&stat, self.plan.limit) {
            return true;
        }
        match self.keep_end(&file, size(&stat)) {
            Ok(()) => {}
            // A full disk is what the limit is there against. What was copied is of no use.
            Err(Errno::NOSPC | Errno::DQUOT) => {
                let _ = rustix::fs::unlink(self.plan.rotated.as_c_str());
            }
            Err(_) => return false,
        }
        rustix::fs::ftruncate(&file, 0).is_ok()
    }

    fn keep_end(&self, file: impl AsFd, size: u64) -> Result<(), Errno> {
        let rotated = self.plan.rotated.as_c_str();
        match rustix::fs::unlink(rotated) {
            Err(error) if error != Errno::NOENT => return Err(error),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let copy = rustix::fs::open(rotated, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
        let mut buffer = [0_u8; 16 << 10];
        let mut offset = size.saturating_sub(self.plan.limit);
        while offset < size {
            let most = usize::try_from(size - offset).unwrap_or(buffer.len());
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

    /// Writes into the log how the service's program ended, and that other processes of it were left.
    pub fn note_leftover(&self, ended: Ended) {
        let status = match ended {
            Ended::Exited(code) => {
                TextBuffer::<64>::format(format_args!("exited with status {code}"))
            }
            Ended::Killed(signal) => {
                TextBuffer::<64>::format(format_args!("was killed by signal {signal}"))
            }
        };
        let [before, after, advice] = self
            .plan
            .note
            .each_ref()
            .map(|text| text.as_c_str().to_bytes());
        let advice = match ended {
            Ended::Exited(0) => advice,
            _ => b"",
        };
        // One call, so that it stays one line between those of others.
        let parts = [before, status.as_bytes(), after, advice, b"\n"].map(rustix::io::IoSlice::new);
        let _ = rustix::io::writev(log(), &parts);
    }
}

/// What the handler of SIGIO does, beside ending the sleep.
pub fn report() {
    REPORTED.store(true, Ordering::Relaxed);
}

fn watch(dir: Text) -> Watch {
    // SAFETY: no pointers are passed; the descriptor is this process's own.
    let inotify = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
    if inotify >= 0 {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: no pointers are passed; the signal goes to this process, which handles it.
        let owned = unsafe { libc::fcntl(inotify, libc::F_SETOWN, own) };
        // SAFETY: no pointers are passed.
        let signals =
            unsafe { libc::fcntl(inotify, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK) };
        if owned == 0 && signals == 0 {
            return Watch::Inotify(inotify);
        }
        // SAFETY: the descriptor is this process's own, and is not used again.
        unsafe { libc::close(inotify) };
    }
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: a NUL-terminated path, and numbers.
    let dir = unsafe { libc::open(dir.as_c_str().as_ptr(), flags) };
    match dir {
        0.. => Watch::Directory(dir),
        _ => Watch::None,
    }
}

fn log() -> BorrowedFd<'static> {
    borrowed(LOG)
}

fn borrowed(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the descriptor is this process's own, and stays open until the process exits.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn is_longer(stat: &Stat, limit: u64) -> bool {
    size(stat) > limit
}

#[expect(
    clippy::unnecessary_cast,
    reason = "the types of these fields differ between architectures"
)]
fn seen(stat: Stat) -> Seen {
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
    fn log_file_is_that_of_its_descriptor() {
        let path = TextBuffer::<32>::format(format_args!("/proc/self/fd/{LOG}"));
        assert_eq!(path.as_bytes(), LOG_FILE.to_bytes());
    }

    #[test]
    fn pauses_get_shorter_as_room_gets_less() {
        let mebibytes = |number: u64| LogSpec::longest_pause(number << 20);
        assert_eq!(mebibytes(1 << 40), LONGEST_PAUSE);
        assert!(mebibytes(10) < LONGEST_PAUSE && mebibytes(10) > mebibytes(1));
        assert_eq!(LogSpec::longest_pause(0), FIRST_PAUSE);
        assert_eq!(LogSpec::longest_pause(u64::MAX), LONGEST_PAUSE);
    }
}
