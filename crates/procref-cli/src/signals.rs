//! Signals: which of them are ignored, and which must not suspend a process that holds a lock.
//!
//! A signal that was ignored when procref was executed stays ignored, in procref and in its client. `nohup` and the
//! background jobs of a shell script rely on that. procref therefore installs no handler for such a signal.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use sys::Unsuspended;
#[cfg(unix)]
pub(crate) use sys::{ReceivedSignals, is_ignored, suspend, unblock};
#[cfg(target_os = "linux")]
pub(crate) use sys::{ignore, send};
