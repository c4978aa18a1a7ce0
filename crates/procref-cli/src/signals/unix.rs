//! The raw system calls for signals.

#![expect(unsafe_code, reason = "signal dispositions and masks")]

use std::io;
use std::marker::PhantomData;
use std::ptr;

use rustix::process::Pid;

/// The signals by which a terminal suspends a process: for Ctrl-Z, for a read in the background, and for output in the
/// background with `stty tostop`.
const SUSPENDING: [libc::c_int; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Returns `true` if the signal is ignored.
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: `sigaction` is a C struct for which all zeros is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the new action is null, and `action` is a valid `sigaction` to write the current action to.
    let read = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    read == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Ignores a signal in this process and in the programs that it executes later.
pub(crate) fn ignore(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: `SIG_IGN` installs no handler, so no code runs on the signal.
    match unsafe { libc::signal(signal, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Returns a set of these signals.
fn set_of(signals: impl IntoIterator<Item = libc::c_int>) -> libc::sigset_t {
    // SAFETY: `sigset_t` is a C struct for which all zeros is a valid value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid `sigset_t` on this stack.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: `set` is initialized. An invalid number is an error and not undefined behavior.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Unblocks signals in this thread, so that the process gets the signals that it handles.
///
/// `exec` keeps the signal mask, so the process that executed procref may have blocked any signal.
pub(crate) fn unblock(signals: impl Iterator<Item = libc::c_int>) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: `set` is initialized, and a null pointer for the previous mask is allowed.
    match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Sends a signal, including a real-time signal, to a child that was not reaped yet.
pub(crate) fn send(child: Pid, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    match unsafe { libc::kill(child.as_raw_nonzero().get(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A guard that keeps the terminal from suspending this process.
///
/// A client that starts or stops a service holds the service's lock, and all other clients wait for the lock.
/// If the terminal suspended the client, the other clients would wait until it is continued. A signal that
/// arrives before the guard is dropped is pending, and suspends the process afterwards. While SIGTTOU is
/// blocked, the terminal also accepts output.
///
/// Threads that are started before the guard is dropped inherit the mask, so none of them can get the signal.
#[must_use = "dropping the guard ends its effect"]
pub(crate) struct Unsuspended {
    before: libc::sigset_t,
    /// Not `Send`, because the mask belongs to this thread.
    _thread: PhantomData<*const ()>,
}

impl Unsuspended {
    pub(crate) fn begin() -> Self {
        let set = set_of(SUSPENDING);
        let mut before = set_of([]);
        // SAFETY: `set` is initialized, and `before` is a valid `sigset_t` to write the previous mask to.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
        Self {
            before,
            _thread: PhantomData,
        }
    }
}

impl Drop for Unsuspended {
    fn drop(&mut self) {
        // SAFETY: `before` is the previous mask of this thread, and a null pointer for the current mask is allowed.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut())
        };
    }
}
