//! The foreground process group of the terminal.

/// Returns `true` if this process is in the foreground of its terminal, or if that is unknown.
pub(super) fn is_foreground() -> bool {
    match rustix::termios::tcgetpgrp(std::io::stderr()) {
        Ok(group) => group == rustix::process::getpgrp(),
        // The standard error may be another terminal than the one that controls this process.
        Err(_) => true,
    }
}
