//! Operations of the operating system that the standard library does not offer.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{Forked, exit_at_once, fork, kill_self, passed_listener};
#[cfg(windows)]
pub use windows::{Key, Window, console_keys, exit_at_once, kill_self, press_ctrl, serve_pipe};
#[cfg(windows)]
pub(crate) use windows::{Process, clock, handles_of_section};
