//! The raw system calls for signals.

#![expect(unsafe_code, reason = "signal dispositions and masks")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::process::Pid;

use crate::descriptor::pipe;

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
#[cfg(target_os = "linux")]
pub(crate) fn ignore(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: `SIG_IGN` installs no handler, so no code runs on the signal.
    match unsafe { libc::signal(signal, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Suspends this process as Ctrl-Z does, even if the process handles SIGTSTP. Returns when the process is continued, or
/// immediately if no shell could continue it.
///
/// SIGSTOP would also suspend a process that no shell can continue.
pub(crate) fn suspend() -> io::Result<()> {
    // SAFETY: `sigaction` is a C struct for which all zeros is a valid value. It is the default action.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    let mut handled = default;
    // SAFETY: both pointers are to valid `sigaction`s on this stack.
    let replaced = unsafe { libc::sigaction(libc::SIGTSTP, &raw const default, &raw mut handled) };
    if replaced != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers are passed. The signal is sent to this thread, so it takes effect before `raise` returns.
    unsafe { libc::raise(libc::SIGTSTP) };
    // SAFETY: `handled` is the previous action, and a null pointer for the current action is allowed.
    match unsafe { libc::sigaction(libc::SIGTSTP, &raw const handled, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
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
#[cfg(target_os = "linux")]
pub(crate) fn send(child: Pid, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    match unsafe { libc::kill(child.as_raw_nonzero().get(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A signal that this process received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) number: libc::c_int,
    /// `SI_USER`, `SI_KERNEL` and others.
    code: libc::c_int,
}

/// The size of a signal in the pipe.
const RECORD: usize = 2 * size_of::<libc::c_int>();

impl Received {
    /// Returns `true` if the kernel sent the signal itself, for example for a key of the terminal.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_from_kernel(self) -> bool {
        self.code == libc::SI_KERNEL
    }

    fn to_record(self) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        let (number, code) = record.split_at_mut(RECORD / 2);
        number.copy_from_slice(&self.number.to_ne_bytes());
        code.copy_from_slice(&self.code.to_ne_bytes());
        record
    }

    fn from_record(record: [u8; RECORD]) -> Self {
        let [a, b, c, d, e, f, g, h] = record;
        Self {
            number: libc::c_int::from_ne_bytes([a, b, c, d]),
            code: libc::c_int::from_ne_bytes([e, f, g, h]),
        }
    }
}

/// The signals that this process received and has not read yet, with their origin.
///
/// The handlers write each signal to a pipe. `signal-hook` reports an origin, too, but compiles C code for it, and a
/// static build for another machine would need a C compiler for that machine.
pub(crate) struct ReceivedSignals(OwnedFd);

impl ReceivedSignals {
    /// Handles these signals from now on.
    pub(crate) fn listen(signals: impl IntoIterator<Item = libc::c_int>) -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        let writer = Arc::new(writer);
        for signal in signals {
            let writer = Arc::clone(&writer);
            let handler = move |info: &libc::siginfo_t| {
                let received = Received {
                    number: info.si_signo,
                    code: info.si_code,
                };
                // The kernel writes a record completely or not at all. A full pipe holds thousands of records, and a
                // signal that finds it full is lost, as a second pending signal of the same number is.
                let _ = rustix::io::write(&writer, &received.to_record());
            };
            // SAFETY: the handler is async-signal-safe: it only calls `write` on a descriptor that the closure owns.
            unsafe { signal_hook_registry::register_sigaction(signal, handler) }?;
        }
        Ok(Self(reader))
    }

    /// Waits for the next signal and returns all signals that have arrived.
    pub(crate) fn wait(&self) -> io::Result<Vec<Received>> {
        let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut watched, None))?;
        self.pending()
    }

    /// Returns the signals that have arrived.
    pub(crate) fn pending(&self) -> io::Result<Vec<Received>> {
        let mut arrived = Vec::new();
        let mut record = [0; RECORD];
        loop {
            match rustix::io::read(&self.0, &mut record) {
                Ok(RECORD) => arrived.push(Received::from_record(record)),
                Ok(_) | Err(Errno::AGAIN) => return Ok(arrived),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
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
