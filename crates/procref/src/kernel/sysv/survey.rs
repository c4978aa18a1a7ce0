//! All sets of a namespace, from the kernel's own list.

use std::{fs, io};

use super::sys;
use crate::error::{Error, Result};
use crate::kernel::semset::{Values, decode, digests_in, slot};
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::process::Identity;

/// Every set of this IPC namespace, one a line after a heading: key, id, permissions, semaphores, uid, ….
const LIST: &str = "/proc/sysvipc/sem";

pub(super) fn survey(namespace: &Namespace) -> Result<Vec<Digest>> {
    let sets = sets().map_err(|error| {
        let doing = "could not list the semaphore sets in /proc/sysvipc/sem (is /proc mounted?)";
        Error::runtime_dir_io(namespace.dir(), doing, error)
    })?;
    let space = u128::from(namespace.digest().bits());
    let mut names = Vec::new();
    for values in sets {
        match digests_in(&values) {
            (owner, name) if owner == space => {
                names.extend(u64::try_from(name).ok().and_then(Digest::from_bits));
            }
            _ => {}
        }
    }
    Ok(names)
}

/// Returns `true` if a set of any namespace says that this process is its instance, and no client.
pub(super) fn is_instance(identity: Identity) -> Result<bool> {
    let is_named = |values: Values| {
        let instance = decode(&values, true).instance;
        instance.is_some_and(|instance| instance.identity == identity && !instance.hosted)
    };
    Ok(sets()?.any(is_named))
}

/// The values of all sets that are this user's alone and of our size.
fn sets() -> io::Result<impl Iterator<Item = Values>> {
    let list = fs::read_to_string(LIST)?;
    let uid = rustix::process::geteuid().as_raw();
    let sets = list.lines().skip(1).filter_map(|line| candidate(line, uid));
    let ids: Vec<_> = sets.map(sys::SetId::new).collect();
    // A set that cannot be read was removed since, or is not ours after all.
    Ok(ids.into_iter().filter_map(|id| sys::values(id).ok()))
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
