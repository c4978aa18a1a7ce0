//! The clients of this process: one for each service.

use std::sync::{Arc, PoisonError, Weak};

use crate::engine::client::Client;
use crate::engine::config::Config;
use crate::engine::transition::Transition;
use crate::error::Result;
use crate::host::Host;
use crate::key::ServiceKey;
use crate::runtime::process_local;

pub(crate) type NativeClient = Client<Host>;

/// Returns this process's client of a service. All callers of one key share it.
pub(crate) fn client(key: &ServiceKey) -> Arc<NativeClient> {
    let mut clients = process_local::get()
        .clients
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let known = clients.get(&key.digests()).and_then(Weak::upgrade);
    if let Some(client) = known.and_then(|client| client.downcast().ok()) {
        return client;
    }
    clients.retain(|_, client| client.strong_count() > 0);
    let client = Arc::new(Client::new(Host, key.clone()));
    let weak: Weak<NativeClient> = Arc::downgrade(&client);
    clients.insert(key.digests(), weak);
    client
}

/// Stops the service, if it runs, and removes its object. Call this with the lock held, if there are no callbacks.
pub(crate) fn stop_locked(key: &ServiceKey) -> Result<()> {
    // This client is not the registered one, so the process's other handles and its reference do not change.
    let client = Arc::new(Client::new(Host, key.clone()));
    let permit = client
        .try_permit()
        .expect("no other future knows this client");
    let transition = Transition::locked(permit, &Arc::new(Config::default()));
    pollster::block_on(transition.release())
}
