//! Signals and notifications of the system.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as this;
#[cfg(windows)]
use windows as this;

pub(super) use this::{Changes, exit_by, exit_by_interrupt, listen, suspend, suspend_job};
