//! System V semaphore sets, looked at and spoiled without the library.

mod sys;

use std::io;

use crate::observe::Identity;

/// A semaphore set as `/proc/sysvipc/sem` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The key it was created with.
    pub key: i32,
    /// The id the kernel gave it.
    pub id: i32,
    /// Permission bits.
    pub mode: u32,
    /// How many semaphores it has.
    pub len: usize,
    /// The owner.
    pub uid: u32,
}

/// Every set of this IPC namespace.
///
/// # Panics
///
/// When the kernel's table cannot be read or has another shape.
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
    }
}

/// The set with this key, if there is one.
#[must_use]
pub fn find(key: i32) -> Option<Set> {
    sets().into_iter().find(|set| set.key == key)
}

/// Reads a key as procref and `ipcs -s` print it.
///
/// # Panics
///
/// When the text is not `0x` and hexadecimal digits.
#[must_use]
pub fn parse_key(text: &str) -> i32 {
    let digits = text.strip_prefix("0x").expect("a key begins with 0x");
    let bits = u32::from_str_radix(digits, 16).expect("a key is hexadecimal");
    i32::from_ne_bytes(bits.to_ne_bytes())
}

impl Set {
    /// Creates a set that must not exist yet.
    ///
    /// # Errors
    ///
    /// What `semget` says.
    pub fn create(key: i32, len: usize, mode: u32) -> io::Result<Self> {
        Ok(Self {
            key,
            id: sys::create(key, len, mode)?,
            mode,
            len,
            uid: rustix::process::geteuid().as_raw(),
        })
    }

    /// The value of one semaphore.
    ///
    /// # Errors
    ///
    /// What `semctl` says: the set may be gone.
    pub fn value(&self, slot: usize) -> io::Result<u32> {
        sys::value(self.id, slot)
    }

    /// Sets one semaphore.
    ///
    /// # Errors
    ///
    /// What `semctl` says.
    pub fn set_value(&self, slot: usize, value: u16) -> io::Result<()> {
        sys::set_value(self.id, slot, value)
    }

    /// Names this process as the instance, in a service's set. Flags and generation stay.
    ///
    /// # Panics
    ///
    /// When the set cannot be written.
    pub fn write_instance(&self, Identity { pid, start }: Identity) {
        let pid = [(14, pid & 0x7fff), (15, pid >> 15)];
        let start = (0..5).map(|n| (16 + n, (start >> (15 * n)) as u32 & 0x7fff));
        for (slot, value) in pid.into_iter().chain(start) {
            self.set_value(slot, value as u16).expect("write");
        }
    }

    /// How many processes sleep on this semaphore, for it to become zero or to
    /// grow.
    ///
    /// # Errors
    ///
    /// What `semctl` says: the set may be gone.
    pub fn sleepers(&self, slot: usize) -> io::Result<u32> {
        Ok(sys::waiting_for_zero(self.id, slot)? + sys::waiting_for_more(self.id, slot)?)
    }

    /// Counts one semaphore up and down again, with the undo of `SEM_UNDO`: the least that a
    /// reference the kernel counts can cost.
    ///
    /// # Errors
    ///
    /// What `semop` says.
    pub fn up_and_down(&self, slot: u16) -> io::Result<()> {
        self.operate(&[(slot, 1)])?;
        self.operate(&[(slot, -1)])
    }

    /// One `semop` of up to four operations, with the undo of `SEM_UNDO`; sleeps where it has to.
    ///
    /// # Errors
    ///
    /// What `semop` says.
    ///
    /// # Panics
    ///
    /// When there are more than four.
    pub fn operate(&self, changes: &[(u16, i16)]) -> io::Result<()> {
        sys::operate(self.id, changes)
    }

    /// Sleeps until a semaphore is zero, which leaves nothing to undo.
    ///
    /// # Errors
    ///
    /// What `semop` says.
    pub fn wait_for_zero(&self, slot: u16) -> io::Result<()> {
        sys::wait_for_zero(self.id, slot)
    }

    /// Gives the set away. Its creator may still remove it.
    ///
    /// # Errors
    ///
    /// What `semctl` says.
    pub fn set_owner(&self, uid: u32, mode: u32) -> io::Result<()> {
        sys::set_owner(self.id, uid, mode)
    }

    /// Removes the set, as `ipcrm -s` would.
    ///
    /// # Errors
    ///
    /// What `semctl` says: somebody else may have been faster.
    pub fn remove(&self) -> io::Result<()> {
        sys::remove(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_created_found_and_removed() {
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
    fn keys_are_read_as_printed() {
        assert_eq!(parse_key("0x00000010"), 16);
        assert_eq!(parse_key("0xffffffff"), -1);
    }
}
