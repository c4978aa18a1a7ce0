//! The events of a keeper that concern its service: a child exits, or the log of the service is written to.
//!
//! All threads block all signals. The serving thread reads these events from a descriptor, and passes them on to the
//! supervisor that has launched the service.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
pub(super) use linux::{open, take};
#[cfg(target_os = "macos")]
pub(super) use macos::{open, take, watch_member};
