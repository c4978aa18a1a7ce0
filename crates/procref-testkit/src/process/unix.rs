//! `fork` and `_exit`, which the standard library does not offer.
#![expect(
    unsafe_code,
    reason = "a forked child is one of the things procref makes promises about"
)]

use std::io;
use std::net::TcpListener;
use std::os::fd::FromRawFd;

use rustix::process::{Signal, getpid, kill_process};

/// Which side of a [`fork`] one is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one, and the child's pid.
    Parent(u32),
}

/// `fork(2)`.
///
/// The child of a process with threads gets only the calling one, and every
/// lock in the state it had. The actors call it when they are otherwise idle,
/// and glibc makes `malloc` usable in the child.
///
/// # Errors
///
/// What the kernel says.
pub fn fork() -> io::Result<Forked> {
    // SAFETY: no memory is passed. What the child may rely on afterwards is
    // told above; the actors keep to it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid.unsigned_abs())),
    }
}

/// The first socket that whoever executed this program has passed (`sd_listen_fds(3)`). To be called once.
///
/// # Errors
///
/// There is no such descriptor.
pub fn passed_listener() -> io::Result<TcpListener> {
    let fd = 3;
    // SAFETY: takes numbers, and changes nothing.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and meant for this program, in which nobody else uses it.
    Ok(unsafe { TcpListener::from_raw_fd(fd) })
}

/// `_exit(2)`: ends without destructors or exit handlers.
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(code) }
}

/// Dies as by the OOM killer: no destructor, no handler, no unwinding.
pub fn kill_self() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}
