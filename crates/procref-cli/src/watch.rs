//! `run --watch-client`: procref stays as the client's parent.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use sys::{WATCHED, Watcher, is_first_process, is_watched, restore_signals};
