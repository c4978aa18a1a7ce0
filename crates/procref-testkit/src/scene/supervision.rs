//! The supervisors of a scene's services.

use super::Scene;
use crate::actor::Actor;
use crate::observe::{Identity, supervisors_of};
use crate::protocol::ServiceSpec;
use crate::{deadline, kernel};

impl Scene {
    /// Gives a service a name that no other test uses, so that its supervisors can be found.
    ///
    /// # Panics
    ///
    /// Does not panic, because every scene's directory has a name.
    #[must_use]
    pub fn unique(&self, spec: ServiceSpec) -> ServiceSpec {
        let tail = self.root().file_name().expect("a name").to_string_lossy();
        let name = format!("{} {tail}", spec.name);
        ServiceSpec { name, ..spec }
    }

    /// Returns the only supervisor of a service.
    ///
    /// # Panics
    ///
    /// Panics if there is not exactly one.
    #[must_use]
    #[track_caller]
    pub fn only_supervisor(&self, spec: &ServiceSpec) -> Identity {
        let supervisors = supervisors_of(&spec.name);
        assert_eq!(supervisors.len(), 1, "{supervisors:?}");
        supervisors[0]
    }

    /// Waits until everything of the service is removed without the help of a client.
    ///
    /// # Panics
    ///
    /// Panics if anything is left at the deadline, or if two instances were alive at once.
    #[track_caller]
    pub fn wait_removed(&self, spec: &ServiceSpec, key: i32) {
        deadline::until_true(
            "the service, its set, record and supervisor are removed",
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

    /// Starts a client that holds the service. Also returns the key of the set.
    ///
    /// # Panics
    ///
    /// Panics if the client cannot acquire the service.
    #[must_use]
    #[track_caller]
    pub fn holder(&self, spec: &ServiceSpec) -> (Actor, i32) {
        let client = self.actor();
        let key = client.build(spec);
        client.acquire();
        (client, key)
    }
}
