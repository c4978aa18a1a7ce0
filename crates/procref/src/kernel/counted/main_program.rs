//! The main program, which may contain this code or have loaded it in a library.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

pub(super) use sys::{contains_this_code, path};
