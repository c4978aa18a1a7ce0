//! Observations on Linux: `/proc`, and the table of the semaphore sets.

use std::fs;

use super::file_exists;
use crate::error::{Error, Result};

/// The source of what is known about processes, for messages.
pub(in super::super) const PROCESSES: &str = "/proc";

/// Returns the start time of the process that has this pid, unless it is a zombie.
pub(super) fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have any character, including a parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

/// Returns `true` if a keeper counts the clients. Its object is a file.
pub(in super::super) fn is_file(object: &str) -> bool {
    object.starts_with('/')
}

/// Returns `true` if the file of a keeper exists, or if the kernel lists a System V semaphore set with this key, in the
/// form of `ipcs -s`.
pub(in super::super) fn object_exists(object: &str) -> Result<bool> {
    match is_file(object) {
        true => file_exists(object),
        false => semaphore_set_exists(object),
    }
}

fn semaphore_set_exists(key: &str) -> Result<bool> {
    let number = key.strip_prefix("0x").unwrap_or(key);
    let number = u32::from_str_radix(number, 16).unwrap_or_default();
    let table = fs::read_to_string("/proc/sysvipc/sem")
        .map_err(|error| Error::io("read /proc/sysvipc/sem", error))?;
    // The file prints keys as signed numbers.
    let number = i32::from_ne_bytes(number.to_ne_bytes()).to_string();
    Ok(table.lines().skip(1).any(|line| {
        let key = line.split_ascii_whitespace().next();
        key == Some(&number)
    }))
}
