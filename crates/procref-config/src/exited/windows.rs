use std::process::ExitStatus;

/// Returns `None`. Windows has no signals: a process that kills another one chooses its exit code.
pub fn exit_signal(_: ExitStatus) -> Option<i32> {
    None
}
