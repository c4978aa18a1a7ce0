//! The environment variable that marks the processes of a start.
//!
//! If a process that belongs to the start of an instance acquired the same service, it would wait for itself.
//! The variable names the instance, so that such a process gets an error.
//!
//! The variable stays in the environment of processes that outlive the start. So the variable names service
//! and generation, and counts only while that instance is locked and not ready. Its value is a list, because
//! the program of one service may start another service. A process of the second start then belongs to both
//! starts.

use std::env;
use std::ffi::{OsStr, OsString};

use crate::error::Error;
use crate::kernel::Snapshot;
use crate::key::ServiceKey;

/// Name of the variable. Its value is a list of instances, separated by spaces.
pub(crate) const STARTING: &str = "PROCREF_STARTING";

/// Returns the variable, with its value, for the processes of a start.
pub(crate) fn variable(key: &ServiceKey, generation: u16) -> (OsString, OsString) {
    let mut value = env::var_os(STARTING).unwrap_or_default();
    if !value.is_empty() {
        value.push(" ");
    }
    value.push(entry(key, generation));
    (STARTING.into(), value)
}

fn entry(key: &ServiceKey, generation: u16) -> String {
    let (space, name) = key.digests();
    format!("{:x}.{:x}.{generation}", space.bits(), name.bits())
}

/// Returns `true` if this process belongs to the start that a snapshot shows.
pub(crate) fn is_own_start(key: &ServiceKey, snapshot: &Snapshot) -> bool {
    let starting = snapshot.locked && snapshot.instance.is_some_and(|instance| !instance.ready);
    starting && env::var_os(STARTING).is_some_and(|list| names(&list, key, snapshot.generation))
}

fn names(list: &OsStr, key: &ServiceKey, generation: u16) -> bool {
    let list = list.to_str().unwrap_or_default();
    let entry = entry(key, generation);
    list.split(' ').any(|named| named == entry)
}

/// Returns the error of a process that would wait for its own start.
pub(crate) fn own_start(key: &ServiceKey) -> Error {
    Error::Recursion {
        service: key.name().to_owned(),
        reason: "its own start uses it, and would wait for itself (do not use it in a program that must exit or \
                 answer before the service is ready)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use crate::namespace::Namespace;
    use crate::process::View;

    fn key(name: &str) -> ServiceKey {
        let namespace = Namespace::new("/made-up".into(), (0, 0), View::default());
        ServiceKey::new(namespace, Name::new(name).expect("a name"))
    }

    #[test]
    fn start_variable_matches_only_the_instance_it_names() {
        let (one, other) = (key("one"), key("other"));
        let (_, value) = variable(&one, 7);
        assert!(names(&value, &one, 7));
        assert!(!names(&value, &one, 8), "a later instance");
        assert!(!names(&value, &one, 70) && !names(&value, &one, 1));
        assert!(!names(&value, &other, 7));
        let both = format!("{} {}", entry(&other, 3), entry(&one, 7));
        assert!(names(OsStr::new(&both), &one, 7) && names(OsStr::new(&both), &other, 3));
        assert!(!names(OsStr::new(""), &one, 7));
    }
}
