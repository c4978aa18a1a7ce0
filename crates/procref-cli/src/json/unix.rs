use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// What it was killed by.
pub(super) fn signal(status: ExitStatus) -> Option<i32> {
    status.signal()
}
