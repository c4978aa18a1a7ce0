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

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

/// The loader calls this function before `main`, after it has initialized all libraries.
// The static stands beside the function that becomes the keeper, because the linker may leave out an object file that
// nothing refers to.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(
    target_os = "macos",
    unsafe(link_section = "__DATA,__mod_init_func,mod_init_funcs")
)]
static CONSTRUCTOR: extern "C" fn() = become_keeper_if_marked;

extern "C" fn become_keeper_if_marked() {
    let Some(state) = std::env::var_os(helper::STATE) else {
        return;
    };
    let Some(socket) = std::env::var_os(helper::SOCKET) else {
        return;
    };
    if sys::is_privileged() || !has_keeper_descriptors() {
        return;
    }
    // A keeper is recognized by its name and by the signals that it blocks, so it has both from the beginning. A program
    // may inherit that SIGCHLD is ignored, and then the kernel would reap the keeper's children.
    block_signals();
    set_default_signals();
    sys::name_process();
    sys::detach();
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let Some((file, ready)) = take_descriptors() else {
        exit(start::FAILED);
    };
    exit(start::run(state.into(), socket.into(), file, ready));
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
