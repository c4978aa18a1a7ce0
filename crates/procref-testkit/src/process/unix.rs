//! `fork`, `_exit`, SIGKILL, and inherited sockets.
#![expect(
    unsafe_code,
    reason = "fork, _exit and inherited descriptors have no safe wrapper"
)]

use std::io;
use std::net::TcpListener;
use std::os::fd::FromRawFd;

use rustix::process::{Signal, getpid, kill_process};

/// The process in which [`fork`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The child.
    Child,
    /// The parent, with the child's pid.
    Parent(u32),
}

/// `fork(2)`.
///
/// The child has only the calling thread, and a copy of every lock in its current state. The actors call this function
/// while no other thread holds a lock that the child needs. glibc makes `malloc` usable in the child.
///
/// # Errors
///
/// Returns the error of the system call.
pub fn fork() -> io::Result<Forked> {
    // SAFETY: no pointers are passed. The callers hold each of their locks that the child uses, so the child
    // can use them.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid.unsigned_abs())),
    }
}

/// Returns the first socket that this program has inherited (`sd_listen_fds(3)`). Call it at most once.
///
/// # Errors
///
/// Returns an error if there is no such descriptor.
pub fn passed_listener() -> io::Result<TcpListener> {
    let fd = 3;
    // SAFETY: no pointers are passed, and `F_GETFD` changes nothing.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and no other code of this program uses it.
    Ok(unsafe { TcpListener::from_raw_fd(fd) })
}

/// Exits without destructors and exit handlers (`_exit(2)`).
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: no pointers are passed, and the call does not return.
    unsafe { libc::_exit(code) }
}

/// Kills this process with SIGKILL, as the OOM killer does: without destructors, handlers or unwinding.
pub fn kill_self() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}
