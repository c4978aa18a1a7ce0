//! `run --watch-client`: procref stays as the client's parent.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod unavailable;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(not(target_os = "linux"))]
use unavailable as sys;

pub(crate) use sys::{WATCHED, Watcher, is_first_process, is_watched, restore_signals};
