//! Services that somebody sees to when all clients are gone.

use super::Scene;
use crate::actor::Actor;
use crate::observe::{Identity, supervisors_of};
use crate::protocol::ServiceSpec;
use crate::{deadline, kernel};

impl Scene {
    /// The service under a name that no other test's service has, so that its supervisor can be told.
    ///
    /// # Panics
    ///
    /// Never: every scene's directory has a name.
    #[must_use]
    pub fn unique(&self, spec: ServiceSpec) -> ServiceSpec {
        let tail = self.root().file_name().expect("a name").to_string_lossy();
        let name = format!("{} {tail}", spec.name);
        ServiceSpec { name, ..spec }
    }

    /// The one supervisor of a service.
    ///
    /// # Panics
    ///
    /// When there is none, or more than one.
    #[must_use]
    #[track_caller]
    pub fn only_supervisor(&self, spec: &ServiceSpec) -> Identity {
        let supervisors = supervisors_of(&spec.name);
        assert_eq!(supervisors.len(), 1, "{supervisors:?}");
        supervisors[0]
    }

    /// Waits until nothing of the service is left, with no client to do anything.
    ///
    /// # Panics
    ///
    /// When something stays, or two instances lived at once.
    #[track_caller]
    pub fn wait_removed(&self, spec: &ServiceSpec, key: i32) {
        deadline::until_true(
            "the service, its set, record and supervisor are gone",
            || {
                self.living().is_empty()
                    && self.workers().iter().all(|worker| !worker.is_live())
                    && kernel::find(key).is_none()
                    && self.files().is_empty()
                    && supervisors_of(&spec.name).is_empty()
            },
        );
        self.assert_clean();
        self.assert_single_instance();
    }

    /// A client that holds the service, and the key of its set.
    ///
    /// # Panics
    ///
    /// When it cannot be acquired.
    #[must_use]
    #[track_caller]
    pub fn holder(&self, spec: &ServiceSpec) -> (Actor, i32) {
        let client = self.actor();
        let key = client.build(spec);
        client.acquire();
        (client, key)
    }
}
