//! The function that makes a program a keeper before its `main`.

#![expect(
    unsafe_code,
    reason = "a constructor, and calls without a safe wrapper"
)]

use std::os::fd::{BorrowedFd, OwnedFd};

use procref_supervisor::calls::{block_signals, close_from, set_default_signals};
use rustix::fs::{FileType, Mode, OFlags};

use super::start;
use crate::kernel::counted::helper;

/// The loader calls this function before `main`, after it has initialized all libraries.
// The static stands beside the function that becomes the keeper, because the linker may leave out an object file that
// nothing refers to.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = become_keeper_if_marked;

extern "C" fn become_keeper_if_marked() {
    let Some(state) = std::env::var_os(helper::STATE) else {
        return;
    };
    let Some(socket) = std::env::var_os(helper::SOCKET) else {
        return;
    };
    if is_privileged() || !has_keeper_descriptors() {
        return;
    }
    // A keeper is recognized by its name and by the signals that it blocks, so it has both from the beginning. A program
    // may inherit that SIGCHLD is ignored, and then the kernel would reap the keeper's children.
    block_signals();
    set_default_signals();
    name_process();
    detach();
    let Some((file, ready)) = take_descriptors() else {
        exit(start::FAILED);
    };
    exit(start::run(state.into(), socket.into(), file, ready));
}

/// Sets the name of this process to the beginning of its command line, `procref: NAME`.
fn name_process() {
    let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let title = line.split(|&byte| byte == 0).next().unwrap_or_default();
    // The kernel cuts a longer name.
    let _ = std::fs::write("/proc/self/comm", title);
}

/// Returns `true` if the program has more rights than the user who executed it. Such a program must not obey the
/// environment.
fn is_privileged() -> bool {
    // SAFETY: no pointers are passed.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Returns `true` if descriptor 0 is a regular file of this user and descriptor 1 is a socket.
fn has_keeper_descriptors() -> bool {
    let stat = |number| {
        // SAFETY: the descriptor is used only during the call. If it is closed, the call fails.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::fs::fstat(fd)
    };
    let is = |number, kind| {
        stat(number).is_ok_and(|stat| {
            let is_own = stat.st_uid == rustix::process::geteuid().as_raw();
            FileType::from_raw_mode(stat.st_mode) == kind && is_own
        })
    };
    is(0, FileType::RegularFile) && is(1, FileType::Socket)
}

/// Continues in a child that the starter does not have to reap, in its own session.
fn detach() {
    // SAFETY: no other thread exists before `main`, so the child may use all of its memory.
    match unsafe { libc::fork() } {
        0 => {}
        -1 => exit(start::FAILED),
        _ => exit(0),
    }
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
}

/// Moves the descriptors of the keeper, and closes all others.
fn take_descriptors() -> Option<(OwnedFd, OwnedFd)> {
    close_from(3);
    let take = |number| {
        // SAFETY: `has_keeper_descriptors` has checked that the descriptor is open, and no other code uses it yet.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_dupfd_cloexec(fd, 3).ok()
    };
    let (file, ready) = (take(0)?, take(1)?);
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()?;
    for number in 0..3 {
        // SAFETY: `dup2` closes the standard descriptor, which no code of this process uses.
        unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), number) };
    }
    Some((file, ready))
}

/// Exits without the exit handlers of the host program, which has not begun.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: the call does not return, and no pointers are passed.
    unsafe { libc::_exit(code) }
}
