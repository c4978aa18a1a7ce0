//! Signals: which of them are ignored, and which must not suspend a process that holds a lock.
//!
//! A signal that was ignored when procref was executed stays ignored, in procref and in its client: that is what
//! `nohup` asks for, and what a shell asks for in the background jobs of a script. So no handler is
//! installed for such a signal.

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
pub(crate) use sys::{ignore, is_ignored, send, unblock};
