//! The raw calls about signals.

#![expect(unsafe_code, reason = "dispositions and masks of signals")]

use std::io;
use std::marker::PhantomData;
use std::ptr;

use rustix::process::Pid;

/// What a terminal suspends a process by: Ctrl-Z, a read in the background, and output in the background
/// under `stty tostop`.
const SUSPENDING: [libc::c_int; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Returns `true` if the signal is ignored.
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: all zeros is a value of `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: no action is set, and `action` has room for the one that is there.
    let read = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    read == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Ignores a signal from now on, in this process and what it executes.
pub(crate) fn ignore(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: `SIG_IGN` is no code that could run.
    match unsafe { libc::signal(signal, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A set of these signals.
fn set_of(signals: impl IntoIterator<Item = libc::c_int>) -> libc::sigset_t {
    // SAFETY: all zeros is a value of `sigset_t`.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a `sigset_t`.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: `set` is initialised, and the number is a signal's.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Unblocks signals in this thread, so that the process gets those that it handles.
///
/// A process is executed with the signal mask of the process that executes it, and that may block any signal.
pub(crate) fn unblock(signals: impl Iterator<Item = libc::c_int>) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: `set` is initialised, and the previous mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Sends a signal, whatever its number, to a child that was not reaped yet.
pub(crate) fn send(child: Pid, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    match unsafe { libc::kill(child.as_raw_nonzero().get(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Keeps the terminal from suspending this process, until it is dropped.
///
/// A client that starts or stops a service holds the service's lock, and all other clients wait for it. If the
/// client were suspended, they would wait until it is continued. A suspension that was asked for in between is
/// pending, and takes effect when this is dropped. SIGTTOU that is blocked also lets the output through.
///
/// The threads that are started in between inherit the mask, so none of them can take the signal.
#[must_use = "it ends when it is dropped"]
pub(crate) struct Unsuspended {
    before: libc::sigset_t,
    /// The mask is this thread's.
    _thread: PhantomData<*const ()>,
}

impl Unsuspended {
    pub(crate) fn begin() -> Self {
        let set = set_of(SUSPENDING);
        let mut before = set_of([]);
        // SAFETY: `set` is initialised, and `before` has room for the mask of this thread.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
        Self {
            before,
            _thread: PhantomData,
        }
    }
}

impl Drop for Unsuspended {
    fn drop(&mut self) {
        // SAFETY: `before` is what the mask of this thread was, and the current mask is not asked for.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut())
        };
    }
}
