//! Reports of writes to the log on Linux: inotify, or the directory's own signals.

use core::ffi::CStr;

use rustix::fd::{BorrowedFd, RawFd};

use crate::prepared::Text;

/// A path to the file of that descriptor, even if another file has the log's path now.
const LOG_FILE: &CStr = c"/proc/self/fd/1";

/// The event that a file in a directory was written to: `linux/fcntl.h`.
const DN_MODIFY: libc::c_int = 2;

/// The kernel's means of reporting a write.
pub(super) enum WriteReports {
    /// A watch on the file.
    Inotify(RawFd),
    /// A watch on the directory, if the user's inotify instances are all in use. It also reports writes to
    /// other files in the directory.
    Directory(RawFd),
    /// No watch, because this kernel supports neither. Clients that join limit the log.
    None,
}

impl WriteReports {
    /// Watches the log, which has the directory `dir`.
    pub(super) fn new(dir: Text) -> Self {
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
                return Self::Inotify(inotify);
            }
            // SAFETY: no pointers are passed. `inotify` was opened above, has no other owner, and is not used again.
            unsafe { libc::close(inotify) };
        }
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: `dir` is a NUL-terminated text in the arena, which this process keeps.
        let dir = unsafe { libc::open(dir.as_c_str().as_ptr(), flags) };
        match dir {
            0.. => Self::Directory(dir),
            _ => Self::None,
        }
    }

    /// Returns `true` if writes are reported.
    pub(super) fn are_available(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Returns `true` if no writes to other files are reported.
    pub(super) fn are_exact(&self) -> bool {
        !matches!(self, Self::Directory(_))
    }

    /// Arms the report of the next write.
    pub(super) fn arm(&self) {
        match *self {
            Self::Inotify(fd) => {
                let mask = libc::IN_MODIFY | libc::IN_ONESHOT;
                // SAFETY: `LOG_FILE` is a NUL-terminated static text, and `fd` is an inotify instance that this process
                // has opened.
                unsafe { libc::inotify_add_watch(fd, LOG_FILE.as_ptr(), mask) };
            }
            Self::Directory(fd) => {
                // SAFETY: no pointers are passed.
                unsafe { libc::fcntl(fd, libc::F_NOTIFY, DN_MODIFY) };
            }
            Self::None => {}
        }
    }

    /// Empties the queue of reports, whose length the kernel limits.
    pub(super) fn drain(&self) {
        if let Self::Inotify(fd) = *self {
            let mut buffer = [0_u8; 1024];
            while let Ok(1..) = rustix::io::read(borrowed(fd), &mut buffer) {}
        }
    }
}

impl Drop for WriteReports {
    fn drop(&mut self) {
        if let Self::Inotify(fd) | Self::Directory(fd) = *self {
            // SAFETY: no pointers are passed. `new` has opened the descriptor, and only this value uses it.
            unsafe { libc::close(fd) };
        }
    }
}

fn borrowed(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the callers pass the descriptor of a watch, which stays open as long as its value. No caller keeps the
    // result longer.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LOG;
    use crate::text::TextBuffer;

    #[test]
    fn log_file_is_the_file_of_log_descriptor() {
        let path = TextBuffer::<32>::format(format_args!("/proc/self/fd/{LOG}"));
        assert_eq!(path.as_bytes(), LOG_FILE.to_bytes());
    }
}
