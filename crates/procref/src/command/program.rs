//! Finds the program before the process is created, so that a missing program is an error of the caller.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(super) use sys::find;
