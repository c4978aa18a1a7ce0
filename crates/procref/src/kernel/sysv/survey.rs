//! All sets of a namespace, from the kernel's own list.

use std::fs;

use super::sys;
use crate::error::{Error, Result};
use crate::kernel::semset::{digests_in, slot};
use crate::name::{Digest, Namespace};

/// Every set of this IPC namespace, one a line after a heading: key, id, permissions, semaphores, uid, ….
const LIST: &str = "/proc/sysvipc/sem";

pub(super) fn survey(namespace: &Namespace) -> Result<Vec<Digest>> {
    let list = fs::read_to_string(LIST).map_err(|error| {
        let doing = "could not list the semaphore sets in /proc/sysvipc/sem (is /proc mounted?)";
        Error::runtime_dir_io(namespace.dir(), doing, error)
    })?;
    let space = u128::from(namespace.digest().bits());
    let mut names = Vec::new();
    let uid = rustix::process::geteuid().as_raw();
    let sets = list.lines().skip(1).filter_map(|line| candidate(line, uid));
    for id in sets.map(sys::SetId::listed) {
        // One that cannot be read has been removed since, or is not ours after all.
        let Ok(values) = sys::values(id) else {
            continue;
        };
        match digests_in(&values) {
            (owner, name) if owner == space => {
                names.extend(u64::try_from(name).ok().and_then(Digest::from_bits));
            }
            _ => {}
        }
    }
    Ok(names)
}

/// The set's id, if it is this user's alone and of our size.
pub(super) fn candidate(line: &str, user: u32) -> Option<i32> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let &[_, id, mode, slots, uid, ..] = columns.as_slice() else {
        return None;
    };
    let ours = u32::from_str_radix(mode, 8) == Ok(0o600)
        && slots.parse() == Ok(slot::COUNT)
        && uid.parse() == Ok(user);
    ours.then(|| id.parse().ok())?
}
