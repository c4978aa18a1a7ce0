//! The supervisor: a small process that stops the service when its clients are gone.
//!
//! A client that lets go stops the service itself, if it is the last. Clients that are killed cannot;
//! so before a service is started, its starter forks a supervisor, which sleeps in the kernel until
//! nobody holds a reference any more and then does what the last client would have done. It is one per
//! service, needs no program file, no daemon and no polling, and ends with the service.
//!
//! It must survive what its starter does not, and must not keep alive or disturb anything of it: so it
//! leaves the session, closes every descriptor, blocks every signal, stands in `/`, and gives the
//! starter's memory back.
//!
//! # What runs in the child
//!
//! A fork of a multi-threaded process may do almost nothing: some other thread may have held the
//! allocator's lock, or any other one, and that thread does not exist in the child. So everything
//! that needs memory is made before the fork, in one mapping, and the child makes only system calls
//! ([signal-safety(7)](https://man7.org/linux/man-pages/man7/signal-safety.7.html)): no allocation, no
//! lock, no panic, no `tracing`. It runs on a stack of its own in that mapping, so that the memory of
//! its parent can be unmapped under it.

use std::time::Duration;

use crate::error::Result;
use crate::kernel::bare::{Refused, Set};
use crate::kernel::{Instance, Snapshot};
use crate::name::ServiceKey;

mod linux;
mod maps;

/// Starts a supervisor for a service, and returns when it is in place.
///
/// Blocks: a fork takes a millisecond, and more where the caller's memory is large.
pub(crate) fn start(set: Set, key: &ServiceKey, grace: Duration) -> Result<()> {
    linux::start(set, key, grace)
}

/// What a supervisor can do to the machine, beside the kernel object.
trait Hands {
    /// Ends the process and waits until it is gone; false if it cannot be ended.
    fn end(&self, instance: &Instance) -> bool;

    fn remove_record(&self);
}

/// A supervisor's life, from when it is in place.
fn watch(set: Set, hands: &impl Hands) {
    // Whatever goes wrong, the way out is to end: the kernel gives back what is held, the next join
    // sees that there is no supervisor, and starts another.
    let _ = watch_until(set, hands);
}

fn watch_until(set: Set, hands: &impl Hands) -> Result<(), Refused> {
    loop {
        set.wait_idle()?;
        let snapshot = set.snapshot()?;
        // One whose start or stop was broken off by a death is not kept warm.
        let serving = snapshot.instance.filter(Instance::is_serving);
        let linger = serving.map_or(0, |instance| instance.linger_ms);
        if linger > 0 {
            set.unlock()?;
            match set.wait_client(Duration::from_millis(linger.into())) {
                Ok(()) => continue,
                Err(Refused::NotNow) => {}
                Err(gone) => return Err(gone),
            }
            // Somebody may have come, and gone again even, since. Only a lock taken together with
            // seeing nobody counts.
            match set.try_idle() {
                Ok(()) => {}
                Err(Refused::NotNow) => continue,
                Err(gone) => return Err(gone),
            }
            let again = set.snapshot()?;
            if again.generation != snapshot.generation {
                // Another instance by now, which has its own time to be kept warm.
                set.unlock()?;
                continue;
            }
            return stop(set, again, hands);
        }
        return stop(set, snapshot, hands);
    }
}

/// Under the lock, with nobody left. In the order that the last client keeps.
fn stop(set: Set, snapshot: Snapshot, hands: &impl Hands) -> Result<(), Refused> {
    if let Some(instance) = snapshot.instance {
        if instance.keep_orphan {
            return set.unlock();
        }
        if !instance.hosted {
            let stopping = Instance {
                stopping: true,
                ..instance
            };
            set.publish(Some(&stopping), snapshot.generation)?;
            if !hands.end(&instance) {
                // What cannot be stopped keeps its set, for the next client to see.
                return set.unlock();
            }
        }
    }
    set.publish(None, snapshot.generation)?;
    hands.remove_record();
    set.remove()
}
