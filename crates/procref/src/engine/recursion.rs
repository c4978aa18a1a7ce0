//! A start that waits for itself.
//!
//! A process that belongs to the start of an instance, and asks for that same service, would wait for its own
//! end. It gets an error at once.
//!
//! | who asks | how it is told |
//! |---|---|
//! | the program, what it has started, its readiness command | by a variable of its environment that names the instance |
//! | a callback of this process | by the thread that polls the callback |
//!
//! The variable stays in the environment of processes that outlive the start. So it names service and generation, and
//! counts only while that very instance is locked and not ready. It is a list: where the program of one
//! service starts another one, both starts have to end before either service can be joined. A process that a
//! callback has started by itself has no such variable, and neither is a task known that a callback has spawned:
//! the start timeout ends what they wait for.

use std::cell::RefCell;
use std::env;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use super::client::Client;
use super::platform::Platform;
use crate::error::{Error, Result};
use crate::kernel::Snapshot;
use crate::name::ServiceKey;

/// The instances whose starts a process belongs to, separated by spaces.
const STARTING: &str = "PROCREF_STARTING";

thread_local! {
    /// The seats whose callbacks this thread polls just now, the innermost last.
    static CALLING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The variable for the processes of a start.
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

/// Whether this process belongs to the start that a snapshot shows.
pub(crate) fn is_own_start(key: &ServiceKey, snapshot: &Snapshot) -> bool {
    let starting = snapshot.locked && snapshot.instance.is_some_and(|instance| !instance.ready);
    starting && env::var_os(STARTING).is_some_and(|list| names(&list, key, snapshot.generation))
}

fn names(list: &OsStr, key: &ServiceKey, generation: u16) -> bool {
    let list = list.to_str().unwrap_or_default();
    let entry = entry(key, generation);
    list.split(' ').any(|named| named == entry)
}

pub(crate) fn own_start(key: &ServiceKey) -> Error {
    Error::Recursion {
        service: key.name().to_owned(),
        reason: "its own start asks for it, and would wait for itself (ask for it in no program that has \
                 to end or answer before it is ready)",
    }
}

/// An error if a callback of this service's asks for it, on the thread that polls the callback.
pub(crate) fn check_callback<W: Platform>(client: &Arc<Client<W>>) -> Result<()> {
    let own = Arc::as_ptr(client).addr();
    let calling = CALLING.try_with(|calling| calling.borrow().contains(&own));
    if !calling.unwrap_or(false) {
        return Ok(());
    }
    Err(Error::Recursion {
        service: client.key.name().to_owned(),
        reason: "its own callback acquires it, and would wait for itself (use what the callback is given)",
    })
}

/// A callback's future, which is known as such to what it calls.
pub(crate) async fn calling<W: Platform, F: Future>(client: &Client<W>, future: F) -> F::Output {
    /// Also where the callback panics.
    struct Called;

    impl Drop for Called {
        fn drop(&mut self) {
            let _ = CALLING.try_with(|calling| calling.borrow_mut().pop());
        }
    }

    let own = std::ptr::from_ref(client).addr();
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let _ = CALLING.try_with(|calling| calling.borrow_mut().push(own));
        let _called = Called;
        future.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{Name, Namespace, View};

    fn key(name: &str) -> ServiceKey {
        let namespace = Namespace::new("/made-up".into(), (0, 0), View::default());
        ServiceKey::new(namespace, Name::new(name).expect("a name"))
    }

    #[test]
    fn only_the_instance_that_is_named_is_ones_own() {
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
