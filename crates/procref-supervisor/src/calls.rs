//! Async-signal-safe calls for a forked child, and for the process that forks it.

#![expect(unsafe_code, reason = "a child after a raw fork")]

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
