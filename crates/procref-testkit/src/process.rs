//! What an actor does to itself, and the operating system's part of it.

mod unix;

pub use unix::{Forked, exit_at_once, fork, passed_listener};

use rustix::process::{Signal, getpid, kill_process};

/// Dies as by the OOM killer: no destructor, no handler, no unwinding.
pub fn sigkill_myself() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}
