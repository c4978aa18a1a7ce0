//! All sets of a namespace, from the kernel's own list.

use std::{fs, io};

use super::sys;
use crate::error::{Error, Result};
use crate::kernel::semset::{Values, decode, digests_in, slot};
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::process::Identity;

/// The list of all sets of this IPC namespace: a heading, then one line for each set with key, id, permissions,
/// semaphores, uid, and more.
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

/// Returns `true` if a set of any namespace names this process as its instance, and not as a client.
pub(super) fn is_instance(identity: Identity) -> Result<bool> {
    let is_named = |values: Values| {
        let instance = decode(&values, true).instance;
        instance.is_some_and(|instance| instance.identity == identity && !instance.hosted)
    };
    Ok(sets()?.any(is_named))
}

/// Returns `true` if the list shows no set of this user that could be a service's, or if there is no list.
pub(crate) fn has_no_candidates() -> bool {
    let uid = rustix::process::geteuid().as_raw();
    let list = fs::read_to_string(LIST).unwrap_or_default();
    !list
        .lines()
        .skip(1)
        .any(|line| candidate(line, uid).is_some())
}

/// Returns `true` if the list shows a set of this user with this key that could be a service's.
pub(crate) fn is_listed(key: i32) -> bool {
    let uid = rustix::process::geteuid().as_raw();
    let list = fs::read_to_string(LIST).unwrap_or_default();
    let has_key = |line: &str| {
        line.split_whitespace()
            .next()
            .and_then(|it| it.parse().ok())
    };
    list.lines()
        .skip(1)
        .any(|line| has_key(line) == Some(key) && candidate(line, uid).is_some())
}

/// Returns the values of all sets of this user that are closed to others and have the right size.
fn sets() -> io::Result<impl Iterator<Item = Values>> {
    let list = fs::read_to_string(LIST)?;
    let uid = rustix::process::geteuid().as_raw();
    let sets = list.lines().skip(1).filter_map(|line| candidate(line, uid));
    let ids: Vec<_> = sets.map(sys::SetId::new).collect();
    // A set that cannot be read was removed in the meantime, or belongs to another program.
    Ok(ids.into_iter().filter_map(|id| sys::values(id).ok()))
}

/// Returns the set's id, if the set belongs to this user, is closed to others and has the right size.
pub(super) fn candidate(line: &str, user: u32) -> Option<i32> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let &[_, id, mode, slots, uid, ..] = columns.as_slice() else {
        return None;
    };
    let is_ours = u32::from_str_radix(mode, 8) == Ok(0o600)
        && slots.parse() == Ok(slot::COUNT)
        && uid.parse() == Ok(user);
    is_ours.then(|| id.parse().ok())?
}
