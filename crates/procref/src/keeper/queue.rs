//! The event queue of the serving thread, and a descriptor that wakes it.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
pub(super) use linux::{EventQueue, Waker};
#[cfg(target_os = "macos")]
pub(super) use macos::{EventQueue, Waker};

/// The greatest number of events that one wait returns.
const ROUND: usize = 64;
