//! Event queues of macOS ([kqueue(2)](https://developer.apple.com/library/archive/documentation/System/Conceptual/ManPages_iPhoneOS/man2/kqueue.2.html)).

#![expect(unsafe_code, reason = "kqueue and kevent have no safe wrapper")]

use core::mem;
use core::ptr;
use core::time::Duration;

use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::calls::last_errno;

/// The kinds of events that a queue can report.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The descriptor can be read. Reported as long as that is the case.
    Readable(BorrowedFd<'a>),
    /// The process exits. Reported once. Another process that has the pid later is not reported.
    Exit(u32),
    /// The child exits. Reported once, with its status as [`Event::data`].
    ExitStatus(u32),
    /// This process receives the signal, even if it blocks it.
    Signal(i32),
    /// The file is written to. Reported once.
    NextWrite(BorrowedFd<'a>),
    /// The file is written to. Reported each time.
    Writes(BorrowedFd<'a>),
    /// An entry of the directory is created, renamed or removed, or the directory is removed.
    Directory(BorrowedFd<'a>),
}

/// An event of a queue.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Event(libc::kevent);

// SAFETY: `udata`, the only pointer of the value, is a number here and is never dereferenced.
unsafe impl Send for Event {}

impl Event {
    /// The value of an element before the queue fills it.
    pub const BLANK: Self = Self(libc::kevent {
        ident: 0,
        filter: 0,
        flags: 0,
        fflags: 0,
        data: 0,
        udata: ptr::null_mut(),
    });

    /// Returns the number that [`add`] was called with.
    pub fn token(&self) -> u64 {
        self.0.udata as u64
    }

    /// Returns the data of the event: for [`Source::ExitStatus`], the status as `waitpid` returns it.
    pub fn data(&self) -> i64 {
        self.0.data as i64
    }

    /// Returns `true` if a file was written to.
    pub fn is_write(&self) -> bool {
        self.0.filter == libc::EVFILT_VNODE
    }
}

/// Returns a new queue, which a forked child does not inherit.
pub fn new() -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers are passed.
    let queue = unsafe { libc::kqueue() };
    if queue == -1 {
        return Err(Errno::from_raw_os_error(last_errno()));
    }
    // SAFETY: the call has opened the descriptor, and nothing else owns it.
    let queue = unsafe { OwnedFd::from_raw_fd(queue) };
    fcntl_setfd(&queue, FdFlags::CLOEXEC)?;
    Ok(queue)
}

/// Adds a source of events to a queue. The queue reports its events with this number.
///
/// # Errors
///
/// `ESRCH` if the source is a process that has exited or has begun to exit.
pub fn add(queue: impl AsFd, source: Source, token: u64) -> Result<(), Errno> {
    let descriptor = |fd: BorrowedFd| fd.as_raw_fd() as usize;
    let (ident, filter, flags, fflags) = match source {
        Source::Readable(fd) => (descriptor(fd), libc::EVFILT_READ, 0, 0),
        Source::Exit(pid) => (pid as usize, libc::EVFILT_PROC, 0, libc::NOTE_EXIT),
        Source::ExitStatus(pid) => {
            let notes = libc::NOTE_EXIT | libc::NOTE_EXITSTATUS;
            (pid as usize, libc::EVFILT_PROC, 0, notes)
        }
        Source::Signal(signal) => (signal as usize, libc::EVFILT_SIGNAL, 0, 0),
        Source::NextWrite(fd) => {
            let notes = libc::NOTE_WRITE | libc::NOTE_EXTEND;
            (descriptor(fd), libc::EVFILT_VNODE, libc::EV_ONESHOT, notes)
        }
        Source::Writes(fd) => {
            let notes = libc::NOTE_WRITE | libc::NOTE_EXTEND;
            (descriptor(fd), libc::EVFILT_VNODE, libc::EV_CLEAR, notes)
        }
        Source::Directory(fd) => {
            let notes = libc::NOTE_WRITE | libc::NOTE_DELETE | libc::NOTE_RENAME;
            (descriptor(fd), libc::EVFILT_VNODE, libc::EV_CLEAR, notes)
        }
    };
    let change = libc::kevent {
        ident,
        filter,
        flags: libc::EV_ADD | flags,
        fflags,
        data: 0,
        udata: token as *mut libc::c_void,
    };
    // SAFETY: the call reads one change, which outlives it, and writes no events.
    let added = unsafe {
        libc::kevent(
            queue.as_fd().as_raw_fd(),
            &raw const change,
            1,
            ptr::null_mut(),
            0,
            ptr::null(),
        )
    };
    match added {
        -1 => Err(Errno::from_raw_os_error(last_errno())),
        _ => Ok(()),
    }
}

/// Waits for events, at most `limit`, and returns those that were written to `events`.
pub fn wait(
    queue: impl AsFd,
    events: &mut [Event],
    limit: Option<Duration>,
) -> Result<&[Event], Errno> {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    let room = i32::try_from(events.len()).unwrap_or(i32::MAX);
    // SAFETY: no changes are passed. `events` has at least `room` elements, which have the type that the call writes and
    // are borrowed by nothing else. `limit` is null, or points to a timespec that outlives the call.
    let count = unsafe {
        libc::kevent(
            queue.as_fd().as_raw_fd(),
            ptr::null(),
            0,
            events.as_mut_ptr().cast(),
            room,
            limit.as_ref().map_or(ptr::null(), ptr::from_ref),
        )
    };
    match usize::try_from(count) {
        Ok(count) => Ok(&events[..count]),
        Err(_) => Err(Errno::from_raw_os_error(last_errno())),
    }
}

// The numbers in Apple's headers: see `scripts/macos/abi.c`.
const _: () = {
    assert!(mem::size_of::<libc::kevent>() == 32);
    assert!(libc::EVFILT_PROC == -5 && libc::EVFILT_VNODE == -4 && libc::EVFILT_SIGNAL == -6);
    assert!(libc::NOTE_EXIT == 0x8000_0000 && libc::NOTE_EXITSTATUS == 0x0400_0000);
    assert!(libc::NOTE_WRITE == 2 && libc::NOTE_EXTEND == 4);
};
