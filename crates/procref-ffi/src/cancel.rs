//! Cancels blocking calls.

use std::mem::MaybeUninit;
use std::process;

use crate::error::{Error, Failure, guard_or, try_guard};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use sys::Sleep;

/// Cancels blocking calls from another thread or from a signal handler. `procref_cancel_new` makes one.
pub struct Cancel {
    pub(crate) signal: sys::Signal,
    /// The process that has made this object. A forked child shares the kernel's part of the object with its parent.
    owner: u32,
}

impl Cancel {
    /// Returns an error if the calls that use this object must end.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.owner != process::id() {
            Err(Failure::invalid(
                "`cancel` was made before a fork (make another one in the child)",
            ))
        } else if self.signal.is_raised()? {
            Err(Failure::cancelled())
        } else {
            Ok(())
        }
    }
}

/// Makes an object that cancels blocking calls. Returns NULL if that fails. `procref_cancel_free` frees the object.
#[unsafe(no_mangle)]
pub extern "C" fn procref_cancel_new(
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> Option<Box<Cancel>> {
    try_guard(error, || {
        Ok(Box::new(Cancel {
            signal: sys::Signal::new()?,
            owner: process::id(),
        }))
    })
    .ok()
}

/// Cancels all calls that use this object, those in progress and all later ones. They return `PROCREF_CANCELLED`.
///
/// On Linux, a signal handler may call this function: it is async-signal-safe and keeps `errno`. It does nothing in a
/// forked child, and if `cancel` is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn procref_cancel_now(cancel: Option<&Cancel>) {
    // Nothing here allocates or locks on Unix, and nothing panics.
    if let Some(cancel) = cancel.filter(|cancel| cancel.owner == process::id()) {
        cancel.signal.raise();
    }
}

/// Frees an object that no call uses. Does nothing if it is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn procref_cancel_free(cancel: Option<Box<Cancel>>) {
    guard_or((), || drop(cancel));
}
