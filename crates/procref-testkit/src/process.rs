//! What an actor does to itself, and the operating system's part of it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{Forked, exit_at_once, fork, passed_listener};
#[cfg(windows)]
pub use windows::{Key, Window, hear_keys, press_ctrl, serve_pipe};

#[cfg(unix)]
use rustix::process::{Signal, getpid, kill_process};

/// Dies as by the OOM killer: no destructor, no handler, no unwinding.
#[cfg(unix)]
pub fn sigkill_myself() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}
