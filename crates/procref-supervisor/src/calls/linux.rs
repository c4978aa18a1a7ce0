//! Calls that Linux makes in its own way.

use core::mem::MaybeUninit;
use core::ptr;

use rustix::fd::{AsRawFd as _, RawFd};
use rustix::fs::{Mode, OFlags, RawDir};

/// Arguments of raw system calls. Each is as wide as a register.
const NONE: libc::c_long = 0;
const ALL: libc::c_long = libc::c_int::MAX as libc::c_long;

/// Forks like `fork(2)`, but runs no `pthread_atfork` handlers. The child continues on its copy of this stack.
///
/// Returns the pid of the child, 0 in the child, and a negative number on failure.
pub fn fork_here() -> libc::c_long {
    clone_here(libc::SIGCHLD)
}

/// Forks a child that only a wait with `__WALL` can find.
///
/// The kernel does not reap it if the program ignores SIGCHLD, and neither does a program that waits for all of its
/// children. This holds until the child executes a program.
pub fn fork_unseen() -> libc::c_long {
    clone_here(0)
}

fn clone_here(exit_signal: libc::c_int) -> libc::c_long {
    // SAFETY: without CLONE_VM the child gets a copy of this process's memory. A null stack pointer means that it also
    // continues on the copy of this stack, so every reference stays valid in both processes. No pointer is passed. The
    // callers run only async-signal-safe code in the child.
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

/// Gives every signal its default action.
pub fn set_default_signals() {
    // The libc function rejects the two signals that libc itself uses, and these may be ignored, too. So this
    // is the raw system call. All zeros means the default action without flags. No architecture has a larger
    // structure.
    let default = [0_u64; 8];
    const MASK_SIZE: libc::c_long = 8;
    for signal in 1..=64 {
        // SAFETY: the kernel reads one `sigaction` from `default`, which is large enough and outlives the call. The
        // pointer for the old action is null. The default action runs no code of this process.
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

/// Closes all descriptors whose number is at least `first`.
pub fn close_from(first: RawFd) {
    // SAFETY: no pointers are passed. This process has its own descriptor table, and the callers use no descriptor from
    // `first` on after this call.
    let closed =
        unsafe { libc::syscall(libc::SYS_close_range, libc::c_long::from(first), ALL, NONE) };
    // Linux before 5.9 does not have the call, and some sandboxes refuse it.
    if closed != 0 && close_listed(first).is_err() {
        close_numbered(first);
    }
}

/// Closes the open descriptors whose number is at least `first`, from the kernel's list. The limit of
/// descriptors, which is a thousand million in some containers, does not affect the time.
fn close_listed(first: RawFd) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let list = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(&list, &mut buffer);
    // The kernel lists descriptors by number, so closing one does not move the others.
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_str().ok().map(str::parse::<RawFd>);
        if let Some(Ok(fd)) = name {
            if fd >= first && fd != list.as_raw_fd() {
                // SAFETY: no pointers are passed. No code uses this descriptor any more: see `close_from`.
                unsafe { libc::close(fd) };
            }
        }
    }
    Ok(())
}

/// Closes every possible descriptor whose number is at least `first`. This is for systems without `/proc`.
fn close_numbered(first: RawFd) {
    /// The kernel's default for the highest limit. More numbers would take minutes.
    const MOST: libc::rlim_t = 1 << 20;

    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call writes one `rlimit` to `limit`, which is alive and borrowed by nothing else.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    for fd in first..limit.rlim_cur.min(MOST) as RawFd {
        // SAFETY: no pointers are passed. No code uses this descriptor any more: see `close_from`.
        unsafe { libc::close(fd) };
    }
}

/// Returns the error number of this thread's last libc call.
pub fn last_errno() -> i32 {
    // SAFETY: no pointers are passed.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: `errno` points to this thread's error number, which lives as long as the thread and is an initialized
    // integer. Only this thread accesses it. A supervisor does not unmap it: see `thread_data` in procref.
    unsafe { *errno }
}

/// Makes the descriptor `at` a copy of `fd`, which `execve` closes if `is_private` is set. Both numbers differ. Returns
/// `false` on failure.
pub(crate) fn replace(at: RawFd, fd: RawFd, is_private: bool) -> bool {
    let flags = if is_private { libc::O_CLOEXEC } else { 0 };
    // SAFETY: no pointers are passed. The callers replace a descriptor that no code of this process uses.
    unsafe { libc::dup3(fd, at, flags) != -1 }
}

/// Makes the kernel kill this process when the parent's thread that forked it exits. Returns `false` if the parent is
/// already dead.
pub(crate) fn die_with_parent(parent: libc::pid_t) -> bool {
    // SAFETY: no pointers are passed, and the setting concerns this process alone.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    // SAFETY: no pointers are passed.
    let now = unsafe { libc::getppid() };
    now == parent
}

/// Returns `true` immediately. The kernel kills this process if the parent dies while it waits.
pub(crate) fn await_gate(_gate: RawFd, _parent: libc::pid_t) -> bool {
    true
}

/// Cancels [`die_with_parent`].
pub(crate) fn outlive_parent() {
    // SAFETY: no pointers are passed, and the setting concerns this process alone.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) };
}
