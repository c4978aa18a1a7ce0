//! The signals of a subreaper: SIGCHLD when a child exits, and SIGIO when the log is written to.
//!
//! While the supervisor sleeps on its set, the two signals are unblocked, and their handlers end the sleep. While it
//! stops its children, they are blocked, and the supervisor waits for them with `sigtimedwait`.

#![expect(unsafe_code, reason = "signal handlers and masks")]

use core::ptr;
use core::time::Duration;

use crate::log;
use crate::raw_calls::Limit;

/// The limit of every sleep on the set. It is a static, because a signal handler has no other access to it.
pub(super) static LIMIT: Limit = Limit::new();

extern "C" fn on_child(_: libc::c_int) {
    LIMIT.expire();
}

extern "C" fn on_log(_: libc::c_int) {
    log::note_write();
    LIMIT.expire();
}

/// Installs the handlers and unblocks the signals. After this, a signal ends the current sleep of this
/// process, or the next one.
pub(super) fn handle_signals() {
    handle(libc::SIGCHLD, on_child);
    handle(libc::SIGIO, on_log);
    change_mask(libc::SIG_UNBLOCK);
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: `sigaction` is a C struct of integers and function pointers that may be null. All zeros is a valid value:
    // no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_NOCLDSTOP;
    // SAFETY: `action` is initialized and outlives the call, and the old action is not requested. The handler takes one
    // integer, as an action without SA_SIGINFO must. It only writes to atomics and to `LIMIT`, which is made for
    // handlers, so it is async-signal-safe.
    unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
}

/// Blocks the signals. After this, [`wait_signal`] receives them.
pub(super) fn block_handled() {
    change_mask(libc::SIG_BLOCK);
}

fn change_mask(how: libc::c_int) {
    let set = handled_signals();
    // SAFETY: `set` is initialized and outlives the call, and the old mask is not requested.
    unsafe { libc::pthread_sigmask(how, &raw const set, ptr::null_mut()) };
}

fn handled_signals() -> libc::sigset_t {
    // SAFETY: `sigset_t` is an array of integers, for which all zeros is a valid value.
    let mut set: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: `set` is a `sigset_t` that is borrowed by nothing else.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in [libc::SIGCHLD, libc::SIGIO] {
        // SAFETY: `set` is initialized, and `signal` is the number of a signal.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Sleeps until a child exits, the log is written to, or the time has passed. The signals must be blocked, so a signal
/// that came earlier is still pending.
pub(super) fn wait_signal(time: Duration) {
    let limit = libc::timespec {
        // At most 68 years. libc has no common name for the type of the field.
        tv_sec: time.as_secs().try_into().unwrap_or(i32::MAX.into()),
        tv_nsec: time.subsec_nanos() as _,
    };
    let set = handled_signals();
    // SAFETY: `set` and `limit` are initialized and outlive the call, and details of the signal are not requested.
    let signal = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const limit) };
    if signal == libc::SIGIO {
        log::note_write();
    }
}
