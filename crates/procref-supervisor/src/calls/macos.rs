//! Calls that macOS makes in its own way.

use core::mem;
use core::ptr;

use rustix::fd::{AsRawFd as _, RawFd};

use crate::kqueue::{self, Source};

/// Forks like `fork(2)`. The caller may have other threads, so the child makes only system calls until it executes a
/// program. Returns the pid of the child, 0 in the child, and a negative number on failure.
pub fn fork_here() -> libc::c_long {
    // SAFETY: the child has a copy of this process's memory, and the callers run only async-signal-safe code in it.
    unsafe { libc::fork() }.into()
}

/// Gives every signal its default action.
pub fn set_default_signals() {
    // SAFETY: all fields are integers, and zeros mean the default action without flags.
    let default: libc::sigaction = unsafe { mem::zeroed() };
    // The highest signal is 31.
    for signal in 1..32 {
        // SAFETY: the call reads `default`, which outlives it, and the pointer for the old action is null. The default
        // action runs no code of this process. SIGKILL and SIGSTOP are refused.
        unsafe { libc::sigaction(signal, &raw const default, ptr::null_mut()) };
    }
}

/// Closes all descriptors whose number is at least `first`.
pub fn close_from(first: RawFd) {
    const BLANK: libc::proc_fdinfo = libc::proc_fdinfo {
        proc_fd: 0,
        proc_fdtype: 0,
    };
    let mut list = [BLANK; 256];
    let own = rustix::process::getpid().as_raw_nonzero().get();
    // The kernel writes as many entries as there is room for. So this repeats until the list has no descriptor to close.
    loop {
        // SAFETY: the call writes at most `size_of_val(&list)` bytes to `list`, whose elements are pairs of integers, and
        // which is borrowed by nothing else.
        let length = unsafe {
            libc::proc_pidinfo(
                own,
                libc::PROC_PIDLISTFDS,
                0,
                list.as_mut_ptr().cast(),
                mem::size_of_val(&list) as libc::c_int,
            )
        };
        let count = usize::try_from(length).unwrap_or(0) / mem::size_of::<libc::proc_fdinfo>();
        let listed = list.iter().take(count).map(|entry| entry.proc_fd);
        let mut closed = false;
        for fd in listed.filter(|&fd| fd >= first) {
            // SAFETY: no pointers are passed, and the callers use no descriptor from `first` on after this call.
            closed |= unsafe { libc::close(fd) } == 0;
        }
        if !closed {
            return;
        }
    }
}

/// Returns the error number of this thread's last libc call.
pub fn last_errno() -> i32 {
    // SAFETY: no pointers are passed.
    let errno = unsafe { libc::__error() };
    // SAFETY: `errno` points to this thread's error number, which lives as long as the thread. Only this thread accesses
    // it.
    unsafe { *errno }
}

/// Makes the descriptor `at` a copy of `fd`, which `execve` closes if `is_private` is set. Both numbers differ. Returns
/// `false` on failure.
pub(crate) fn replace(at: RawFd, fd: RawFd, is_private: bool) -> bool {
    // SAFETY: no pointers are passed. The callers replace a descriptor that no code of this process uses.
    if unsafe { libc::dup2(fd, at) } == -1 {
        return false;
    }
    let flags = if is_private { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: no pointers are passed. This process has one thread.
    unsafe { libc::fcntl(at, libc::F_SETFD, flags) != -1 }
}

/// Returns `false` if the parent is already dead. macOS cannot kill a process together with its parent, so
/// [`await_gate`] watches the parent.
pub(crate) fn die_with_parent(parent: libc::pid_t) -> bool {
    // SAFETY: no pointers are passed.
    let now = unsafe { libc::getppid() };
    now == parent
}

/// Waits until the gate can be read. Returns `false` if the parent dies before that.
pub(crate) fn await_gate(gate: RawFd, parent: libc::pid_t) -> bool {
    let Ok(queue) = kqueue::new() else {
        return false;
    };
    let Ok(pid) = u32::try_from(parent) else {
        return false;
    };
    if kqueue::add(&queue, Source::Exit(pid), 0).is_err() {
        return false;
    }
    let mut fds = [gate, queue.as_raw_fd()].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: `fds` is an array of that many initialized entries, which the call may write to. Nothing else borrows it.
    while unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) } < 0 {
        if last_errno() != libc::EINTR {
            return false;
        }
    }
    let [_, exit] = fds;
    exit.revents == 0
}

/// Does nothing: `execve` closes the descriptor with which [`await_gate`] watches the parent.
pub(crate) fn outlive_parent() {}
