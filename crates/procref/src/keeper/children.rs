//! The processes of the service that a keeper has launched.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(any(target_os = "macos", test))]
mod origin;
#[cfg(target_os = "linux")]
pub(super) use linux::Members;
#[cfg(target_os = "macos")]
pub(super) use macos::Members;
