//! The clients of this process.

use std::sync::{Arc, PoisonError, Weak};

use super::client::Client;
use super::config::Config;
use super::transition::Transition;
use crate::error::Result;
use crate::host::Host;
use crate::key::ServiceKey;
use crate::runtime::process_local;

pub(crate) type NativeClient = Client<Host>;

/// The one seat of this process at a service.
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

/// Stops the service if there is one and removes the object, for somebody who has its lock and
/// knows of no callbacks.
pub(crate) fn stop_locked(key: &ServiceKey) -> Result<()> {
    // A seat of its own: the process's other handles and references are none of its business.
    let client = Arc::new(Client::new(Host, key.clone()));
    let permit = client.try_permit().expect("nobody else knows this seat");
    let transition = Transition::locked(permit, &Arc::new(Config::default()));
    pollster::block_on(transition.release())
}
