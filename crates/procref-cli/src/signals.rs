//! Signals: which of them are ignored, and which must not suspend a process that holds a lock.
//!
//! A signal that was ignored when procref was executed stays ignored, in procref and in its client: that is what
//! `nohup` asks for, and what a shell asks for in the background jobs of a script. So no handler is
//! installed for such a signal.

mod sys;

pub(crate) use sys::{Unsuspended, ignore, is_ignored, send, unblock};
