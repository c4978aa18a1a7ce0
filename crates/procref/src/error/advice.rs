//! Parts of error messages that need more than a format string.

use std::fmt::Write as _;
use std::io;
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

pub(super) fn holder(holder: Option<u32>, suspended: bool) -> String {
    match holder {
        Some(pid) if suspended => format!(
            "; lock held by process {pid}, which is suspended (continue it with `kill -CONT {pid}`, or kill it)"
        ),
        Some(pid) => format!("; lock held by process {pid}"),
        None => String::new(),
    }
}

pub(super) fn failures(failures: u32) -> String {
    match failures {
        1 => "1 start by another client failed".to_owned(),
        _ => format!("{failures} starts by other clients failed"),
    }
}

/// The clients that prevent a stop.
pub(super) fn held(clients: u32, holders: &[u32]) -> String {
    /// A longer list is not readable.
    const SHOWN: usize = 10;
    let noun = if clients == 1 {
        "client holds"
    } else {
        "clients hold"
    };
    let mut text = format!("{clients} {noun} it");
    for (nth, pid) in holders.iter().take(SHOWN).enumerate() {
        let before = if nth == 0 { " (process " } else { ", " };
        let _ = write!(text, "{before}{pid}");
    }
    match holders.len() {
        0 => {}
        1..=SHOWN => text.push(')'),
        _ => text.push_str(", …)"),
    }
    text
}

pub(super) fn fingerprint(theirs: Option<&str>) -> String {
    match theirs {
        Some(theirs) => format!("with fingerprint {}", shortened(theirs)),
        None => "without a fingerprint".to_owned(),
    }
}

/// A user's text in quotes, on one line and of limited length.
pub(super) fn shortened(text: &str) -> String {
    const LENGTH: usize = 100;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The exit status as the predicate of a sentence.
#[cfg(windows)]
pub(crate) fn exit_clause(status: ExitStatus) -> String {
    // Exception codes are exit codes, too, and are documented as hexadecimal numbers.
    match status.code().unwrap_or(-1) {
        code if code < 0 => format!("exited with status {code:#010x}"),
        code => format!("exited with status {code}"),
    }
}

/// The exit status as the predicate of a sentence.
#[cfg(unix)]
pub(crate) fn exit_clause(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        // procref waits only for exits and deaths by a signal, so no other status occurs.
        return format!("exited with status {}", status.code().unwrap_or(-1));
    };
    let mut text = format!("was killed by signal {signal}");
    if let Some(name) = signal_name(signal) {
        let _ = write!(text, " ({name})");
    }
    if status.core_dumped() {
        text.push_str(" and left a core dump");
    }
    text
}

/// Rounds to milliseconds, for readability.
pub(super) fn rounded(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Advice for an error of `exec`, or of the check before it.
#[cfg(windows)]
pub(crate) fn exec_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(2) => " (the program, or a DLL that it needs, is missing)",
        Some(5) => " (this user may not execute it)",
        Some(193) => " (the file is not a program for this machine)",
        Some(206) => " (the command line is longer than 32,767 characters)",
        Some(740) => " (the program must run as administrator)",
        _ => "",
    }
}

/// Advice for an error of `exec`, or of the check before it.
#[cfg(unix)]
pub(crate) fn exec_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => " (the program, or the interpreter in its first line, is missing)",
        Some(libc::EACCES) => {
            " (the program, and the interpreter of a script, must be a regular file that this user may execute, \
             on a file system that is not mounted noexec)"
        }
        Some(libc::ENOEXEC) => {
            " (the file is neither a program for this machine nor a script with `#!` in its first line)"
        }
        Some(libc::ETXTBSY) => " (a process has the file open for writing, perhaps a build)",
        Some(libc::E2BIG) => " (arguments and environment together are too large)",
        _ => "",
    }
}

pub(super) fn bind_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "stop the process that listens there, choose another port, or omit the port and write `{port}` \
             in the arguments for a free one"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege: choose a higher port"
        }
        _ => "check that the loopback interface is up",
    }
}

#[cfg(unix)]
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}
