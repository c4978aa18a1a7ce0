//! What a forked child may do before it executes a program or ends: bare system calls.

#![expect(unsafe_code, reason = "a child after a raw fork")]

use core::mem::MaybeUninit;
use core::ptr;
use rustix::fd::{AsRawFd as _, RawFd};

use rustix::fs::{Mode, OFlags, RawDir};

/// Arguments of system calls, as wide as registers.
const NONE: libc::c_long = 0;
const ALL: libc::c_long = libc::c_int::MAX as libc::c_long;

/// A plain fork, as in `fork(2)`, that runs none of the libc's handlers; the child goes on, on its copy of
/// this stack. Its pid, 0 in the child, below 0 if there is none.
pub fn fork_here() -> libc::c_long {
    clone_here(libc::SIGCHLD)
}

/// The same, for a child that only a wait for children of any kind finds (`__WALL`): neither does the kernel reap it where
/// the program ignores SIGCHLD, nor a program that waits for all its children. This holds until it executes a program.
pub fn fork_unseen() -> libc::c_long {
    clone_here(0)
}

fn clone_here(exit_signal: libc::c_int) -> libc::c_long {
    // SAFETY: without CLONE_VM the child has a copy of this process's memory, stack included. Both
    // processes make nothing but system calls from here on.
    unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(exit_signal),
            NONE,
            NONE,
            NONE,
            NONE,
        )
    }
}

/// Blocks every signal for this thread, and tells what was blocked before. Done before the fork, for
/// the child: nothing but SIGKILL may ever reach it, because the handlers are its starter's, whose data
/// may be gone. Blocked by the child itself, a Ctrl-C right after the fork would still get through.
pub fn block_signals() -> libc::sigset_t {
    // SAFETY: all zeros is a value of `sigset_t`.
    let mut all: libc::sigset_t = unsafe { core::mem::zeroed() };
    let mut before = all;
    // SAFETY: `all` is a `sigset_t`.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both are sets of signals, and the first is initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    before
}

/// As a program expects them: all at their defaults, also those that its starter ignored, and none
/// blocked. `exec` would keep both.
pub fn reset_signals() {
    set_default_signals();
    // SAFETY: all zeros is a value of `sigset_t`.
    let mut none: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: `none` is a `sigset_t`.
    unsafe { libc::sigemptyset(&raw mut none) };
    set_signal_mask(&none);
}

/// Makes this the mask of the calling thread.
pub fn set_signal_mask(mask: &libc::sigset_t) {
    // SAFETY: `mask` is initialised, and the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// Gives every signal its default action.
pub fn set_default_signals() {
    // By the kernel's call: the libc's refuses the two that it keeps for itself, which may be ignored as
    // well. All zeros is the default action, without flags, in a structure that is at most this large.
    let default = [0_u64; 8];
    const MASK_SIZE: libc::c_long = 8;
    for signal in 1..=64 {
        // SAFETY: the kernel reads an action from `default`, which is no code, and writes none.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                libc::c_long::from(signal),
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                MASK_SIZE,
            )
        };
    }
}

/// Closes all descriptors from this one on.
pub fn close_from(first: RawFd) {
    // SAFETY: closes descriptors of this process alone, which uses none of them from here on.
    let closed =
        unsafe { libc::syscall(libc::SYS_close_range, libc::c_long::from(first), ALL, NONE) };
    // Before Linux 5.9, and where a sandbox refuses it, one by one.
    if closed != 0 && close_listed(first).is_err() {
        close_numbered(first);
    }
}

/// Closes those descriptors from this one on that are open, as the kernel lists them. A limit of a thousand million
/// descriptors, as some containers have it, makes no difference.
fn close_listed(first: RawFd) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let list = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(&list, &mut buffer);
    // The kernel lists them by number, so what is closed on the way does not move the others.
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_str().ok().map(str::parse::<RawFd>);
        if let Some(Ok(fd)) = name {
            if fd >= first && fd != list.as_raw_fd() {
                // SAFETY: a descriptor of this process alone, which does not use it from here on.
                unsafe { libc::close(fd) };
            }
        }
    }
    Ok(())
}

/// Closes all numbers from this one on that a descriptor can have; without `/proc` there is no list.
fn close_numbered(first: RawFd) {
    /// The kernel's own default for the highest limit. To try more numbers would take minutes.
    const MOST: libc::rlim_t = 1 << 20;

    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a `rlimit` that the call fills.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    for fd in first..limit.rlim_cur.min(MOST) as RawFd {
        // SAFETY: a descriptor of this process alone, which does not use it from here on.
        unsafe { libc::close(fd) };
    }
}

/// The error of this thread's last call of the libc.
pub fn last_errno() -> i32 {
    // SAFETY: no pointers are passed; the result points to this thread's `errno`, which only this thread writes.
    unsafe { *libc::__errno_location() }
}
