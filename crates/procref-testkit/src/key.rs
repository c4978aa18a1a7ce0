//! The key that identifies the kernel object of a service.

#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(crate) use crate::kernel::parse_key;
#[cfg(windows)]
pub use windows::Key;
#[cfg(windows)]
pub(crate) use windows::parse_key;

/// The key of a System V semaphore set.
#[cfg(target_os = "linux")]
pub type Key = i32;
