//! The deaths of clients.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
pub(super) use linux::Watches;
#[cfg(target_os = "macos")]
pub(super) use macos::Watches;

use crate::process::Identity;

/// Pid and start time, as a key.
type Identified = (u32, u64);

fn key(process: Identity) -> Identified {
    (process.pid, process.start)
}
