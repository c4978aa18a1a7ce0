//! The instance that a client has found unhealthy.

use super::platform::Platform;
use super::resolved_instance::ResolvedInstance;
use crate::kernel::{Instance, Snapshot};
use crate::process::Identity;

/// An instance that a client has found unhealthy, and will not join.
///
/// Neither the generation nor the identity is enough to name an instance. Generations restart at 1 with a new
/// object. An object may be removed from outside while a client checks the health of its instance. The next
/// instance then has the same generation. And `on_recover` may return the process that it repaired. That
/// process then has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unhealthy {
    generation: u16,
    identity: Identity,
}

impl Unhealthy {
    pub(crate) fn new(generation: u16, instance: &Instance) -> Self {
        Self {
            generation,
            identity: instance.identity,
        }
    }

    pub(crate) fn of<W: Platform>(current: &ResolvedInstance<W>) -> Self {
        Self::new(current.generation, &current.instance)
    }
}

/// Returns the instance of a snapshot, if it serves and is not the rejected one.
pub(crate) fn serving_instance(
    snapshot: &Snapshot,
    rejected: Option<Unhealthy>,
) -> Option<Instance> {
    let instance = snapshot.instance?;
    let is_rejected = rejected == Some(Unhealthy::new(snapshot.generation, &instance));
    (instance.is_serving() && !is_rejected).then_some(instance)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::kernel::semset::layout::{Values, decode, encode, slot};

    #[test]
    fn g1_health_of_one_instance_says_nothing_about_another() {
        let serving = |generation, pid, start| {
            let instance = Instance {
                ready: true,
                ..Instance::plain(Identity { pid, start }, 80)
            };
            let mut values: Values = [0; slot::COUNT as usize];
            encode(&mut values, Some(&instance), generation);
            decode(&values, true)
        };
        let first = serving(1, 7, 100);
        let rejected = Unhealthy::new(1, &first.instance.expect("an instance"));
        assert!(serving_instance(&first, Some(rejected)).is_none());
        assert!(serving_instance(&first, None).is_some());
        for other in [serving(1, 8, 200), serving(1, 7, 200), serving(2, 7, 100)] {
            assert_eq!(serving_instance(&other, Some(rejected)), other.instance);
        }
    }
}
