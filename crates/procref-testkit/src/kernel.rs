//! Reads and changes System V semaphore sets without the library.
//!
//! With `PROCREF_KERNEL=keeper`, objects are state files. Tests read and remove them by the same functions, and cannot
//! change their values.

mod state_file;
mod sys;

use std::io;
use std::path::{Path, PathBuf};

use crate::observe::Identity;

/// A semaphore set, as `/proc/sysvipc/sem` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The key of the set.
    pub key: i32,
    /// The id that the kernel assigned.
    pub id: i32,
    /// The permission bits.
    pub mode: u32,
    /// The number of semaphores.
    pub len: usize,
    /// The uid of the owner.
    pub uid: u32,
    /// The state file of a keeper. `None` for a semaphore set.
    pub state: Option<PathBuf>,
}

/// Returns all sets of this IPC namespace.
///
/// # Panics
///
/// Panics if the kernel's table cannot be read or has an unknown format.
#[must_use]
pub fn sets() -> Vec<Set> {
    let table = std::fs::read_to_string("/proc/sysvipc/sem").expect("read /proc/sysvipc/sem");
    table.lines().skip(1).map(parse_row).collect()
}

fn parse_row(row: &str) -> Set {
    let mut columns = row.split_whitespace();
    let mut next = || columns.next().expect("a row of /proc/sysvipc/sem");
    Set {
        key: next().parse().expect("key"),
        id: next().parse().expect("semid"),
        mode: u32::from_str_radix(next(), 8).expect("perms"),
        len: next().parse().expect("nsems"),
        uid: next().parse().expect("uid"),
        state: None,
    }
}

/// Returns the set with this key, if there is one.
#[must_use]
pub fn find(key: i32) -> Option<Set> {
    match state_file::path_of(key) {
        Some(path) => state_file::find(key, &path),
        None => sets().into_iter().find(|set| set.key == key),
    }
}

/// Returns `true` if the services of these tests are counted by keepers.
#[must_use]
pub fn is_keeper() -> bool {
    std::env::var_os("PROCREF_KERNEL").is_some_and(|kernel| kernel == "keeper")
}

/// Calls a test whose services are counted by keepers. If the environment does not choose keepers, runs the test again
/// in a process whose environment does. `name` is the full name of the test.
///
/// # Panics
///
/// Panics if the test fails in that process.
pub fn with_keepers(name: &str, test: impl FnOnce()) {
    if is_keeper() {
        return test();
    }
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = std::process::Command::new(program);
    command
        .args(["--exact", name])
        .env("PROCREF_KERNEL", "keeper");
    let output = command.output().expect("run the test");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "with keepers: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Returns `true` if a file is a part of a keeper's object, or records the kernel of the directory.
#[must_use]
pub fn is_object_file(path: &Path) -> bool {
    let is_object = |ending: &std::ffi::OsStr| ending == "state" || ending == "s";
    path.file_name().is_some_and(|name| name == "kernel") || path.extension().is_some_and(is_object)
}

/// Parses a key in the format of procref and `ipcs -s`. If the text is the path of a state file, returns a key by which
/// this process finds the file.
///
/// # Panics
///
/// Panics if the text is neither a path nor `0x` with hexadecimal digits.
#[must_use]
pub fn parse_key(text: &str) -> i32 {
    if text.starts_with('/') {
        return state_file::key_of(text);
    }
    let digits = text.strip_prefix("0x").expect("a key starts with 0x");
    let bits = u32::from_str_radix(digits, 16).expect("a key is hexadecimal");
    i32::from_ne_bytes(bits.to_ne_bytes())
}

/// Returns the text that [`parse_key`] has parsed.
#[must_use]
pub fn name_of(key: i32) -> String {
    match state_file::path_of(key) {
        Some(path) => path.display().to_string(),
        None => format!("{key:#010x}"),
    }
}

impl Set {
    /// Creates a set.
    ///
    /// # Errors
    ///
    /// Returns the error of `semget`, for example if the set exists already.
    pub fn create(key: i32, len: usize, mode: u32) -> io::Result<Self> {
        Ok(Self {
            key,
            id: sys::create(key, len, mode)?,
            mode,
            len,
            uid: rustix::process::geteuid().as_raw(),
            state: None,
        })
    }

    /// Returns the value of a semaphore.
    ///
    /// # Errors
    ///
    /// Returns the error of `semctl`, for example if the set was removed.
    pub fn value(&self, slot: usize) -> io::Result<u32> {
        if let Some(path) = &self.state {
            return state_file::value(path, slot);
        }
        sys::value(self.id, slot)
    }

    /// Sets a semaphore. If it is in the state file of a keeper, kills the keeper before.
    ///
    /// # Errors
    ///
    /// Returns the error of `semctl`, or of writing the file.
    pub fn set_value(&self, slot: usize, value: u16) -> io::Result<()> {
        if let Some(path) = &self.state {
            return state_file::set_value(path, slot, value);
        }
        sys::set_value(self.id, slot, value)
    }

    /// Writes the identity of the instance to a service's set. Flags and generation do not change.
    ///
    /// # Panics
    ///
    /// Panics if the set cannot be written.
    pub fn write_instance(&self, Identity { pid, start }: Identity) {
        let pid = [(14, pid & 0x7fff), (15, pid >> 15)];
        let start = (0..5).map(|n| (16 + n, (start >> (15 * n)) as u32 & 0x7fff));
        for (slot, value) in pid.into_iter().chain(start) {
            self.set_value(slot, value as u16).expect("write");
        }
    }

    /// Returns the number of processes that wait for this semaphore to become zero or to increase.
    ///
    /// # Errors
    ///
    /// Returns the error of `semctl`, for example if the set was removed.
    pub fn sleepers(&self, slot: usize) -> io::Result<u32> {
        if let Some(path) = &self.state {
            return state_file::sleepers(path, slot);
        }
        Ok(sys::waiting_for_zero(self.id, slot)? + sys::waiting_for_more(self.id, slot)?)
    }

    /// Increments and decrements a semaphore with `SEM_UNDO`. This is the minimal cost of a reference that the kernel
    /// counts.
    ///
    /// # Errors
    ///
    /// Returns the error of `semop`.
    pub fn up_and_down(&self, slot: u16) -> io::Result<()> {
        self.operate(&[(slot, 1)])?;
        self.operate(&[(slot, -1)])
    }

    /// Performs up to four operations in one `semop` with `SEM_UNDO`. Blocks if an operation has to wait.
    ///
    /// # Errors
    ///
    /// Returns the error of `semop`.
    ///
    /// # Panics
    ///
    /// Panics if there are more than four operations.
    pub fn operate(&self, changes: &[(u16, i16)]) -> io::Result<()> {
        sys::operate(self.id, changes)
    }

    /// Waits until a semaphore is zero. This leaves nothing to undo.
    ///
    /// # Errors
    ///
    /// Returns the error of `semop`.
    pub fn wait_for_zero(&self, slot: u16) -> io::Result<()> {
        sys::wait_for_zero(self.id, slot)
    }

    /// Changes the owner of the set. Its creator can still remove the set.
    ///
    /// # Errors
    ///
    /// Returns the error of `semctl`.
    pub fn set_owner(&self, uid: u32, mode: u32) -> io::Result<()> {
        sys::set_owner(self.id, uid, mode)
    }

    /// Removes the set, as `ipcrm -s` does, or the state file of a keeper.
    ///
    /// # Errors
    ///
    /// Returns the error of `semctl` or `unlink`, for example if another process has removed the set.
    pub fn remove(&self) -> io::Result<()> {
        if let Some(path) = &self.state {
            return state_file::remove(path);
        }
        sys::remove(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_is_not_found_after_removal() {
        let key = parse_key(&format!(
            "{:#010x}",
            0x7e57_0000 | (std::process::id() & 0xffff)
        ));
        let set = Set::create(key, 3, 0o600).expect("create");
        set.set_value(2, 7).expect("set");
        assert_eq!((set.len, set.mode), (3, 0o600));
        assert_eq!(set.value(2).expect("value"), 7);
        assert_eq!(set.sleepers(0).expect("sleepers"), 0);
        set.remove().expect("remove");
        assert_eq!(find(key), None);
    }

    #[test]
    fn key_parses_as_printed() {
        assert_eq!(parse_key("0x00000010"), 16);
        assert_eq!(parse_key("0xffffffff"), -1);
    }
}
