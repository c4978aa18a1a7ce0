use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// Returns the signal that killed the process, if there was one.
pub fn exit_signal(status: ExitStatus) -> Option<i32> {
    status.signal()
}
