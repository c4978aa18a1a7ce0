//! Async-signal-safe calls for a forked child, and for the process that forks it.

#![expect(unsafe_code, reason = "a child after a raw fork")]

use core::ptr;

use rustix::fd::RawFd;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

#[cfg(target_os = "linux")]
pub use sys::fork_unseen;
pub(crate) use sys::{await_gate, die_with_parent, outlive_parent, replace};
pub use sys::{close_from, fork_here, last_errno, set_default_signals};

/// Blocks all signals for this thread. Returns the previous mask.
///
/// Call this before the fork. Only SIGKILL may reach the child, because its handlers are those of the
/// starter, and their data may be unmapped. If the child blocked the signals itself, a Ctrl-C right after the
/// fork would still run a handler.
pub fn block_signals() -> libc::sigset_t {
    // SAFETY: `sigset_t` is an array of integers, for which all zeros is a valid value.
    let mut all: libc::sigset_t = unsafe { core::mem::zeroed() };
    let mut before = all;
    // SAFETY: `all` is a `sigset_t` that is borrowed by nothing else.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: `all` is initialized and `before` has room for a mask. Both outlive the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    before
}

/// Gives every signal its default action and unblocks all signals, because programs expect that. `execve`
/// would keep ignored and blocked signals.
pub fn reset_signals() {
    set_default_signals();
    // SAFETY: `sigset_t` is an array of integers, for which all zeros is a valid value.
    let mut none: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: `none` is a `sigset_t` that is borrowed by nothing else.
    unsafe { libc::sigemptyset(&raw mut none) };
    set_signal_mask(&none);
}

/// Sets the signal mask of this thread.
pub fn set_signal_mask(mask: &libc::sigset_t) {
    // SAFETY: `mask` is initialized and outlives the call, and the old mask is not requested.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// Waits for the byte by which a starter confirms that it holds the lock. Returns `false` if the starter has died.
/// `starter` is its pidfd, or a negative number.
pub fn await_confirm(confirm: RawFd, starter: RawFd) -> bool {
    let mut fds = [confirm, starter].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    // The pipe alone is not sufficient, because a process that another thread of the starter has forked may
    // keep it open. EINTR occurs if a suspended process was continued. Any other error counts as no
    // confirmation.
    while unsafe {
        // SAFETY: `fds` is an array of that many initialized entries, which the call may write to. Nothing else borrows
        // it. The kernel ignores an entry with a negative descriptor.
        libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1)
    } < 0
    {
        if last_errno() != libc::EINTR {
            return false;
        }
    }
    let mut byte = [0_u8];
    let [answer, _] = fds;
    // SAFETY: the call writes at most one byte to `byte`, which is alive and borrowed by nothing else.
    answer.revents & libc::POLLIN != 0
        && unsafe { libc::read(confirm, byte.as_mut_ptr().cast(), byte.len()) } == 1
}

/// Exits without running the handlers of the program that was forked.
pub(crate) fn exit_with(status: libc::c_int) -> ! {
    // SAFETY: no pointers are passed.
    unsafe { libc::_exit(status) }
}

/// Writes to a descriptor. Returns `true` if all bytes were written.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> bool {
    // SAFETY: the kernel reads `bytes.len()` bytes from `bytes`, which is borrowed for the call. An invalid descriptor
    // is an error and touches no memory.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written) == Ok(bytes.len())
}
