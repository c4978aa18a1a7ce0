//! Descriptors that executed programs do not inherit.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

pub(crate) use sys::{exit_fd, pipe, stream_socket};
