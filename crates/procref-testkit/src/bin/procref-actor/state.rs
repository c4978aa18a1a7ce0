//! The services, handles and counters of an actor.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procref::{PlatformRefCounter, ServiceHandle, SharedService};
use procref_testkit::observe::Identity;
use procref_testkit::protocol;

use crate::gate::Gate;
use crate::reporter::Reporter;

/// The gates of a service.
#[derive(Default)]
pub struct Gates {
    gates: Mutex<HashMap<protocol::Gate, Arc<Gate>>>,
}

impl Gates {
    pub fn get(&self, gate: protocol::Gate) -> Arc<Gate> {
        Arc::clone(lock(&self.gates).entry(gate).or_default())
    }
}

/// A service, and the gates at which its callbacks wait.
pub type BuiltService = (Arc<SharedService>, Arc<Gates>);

/// Everything that the commands work with.
pub struct ActorState {
    pub services: Mutex<BTreeMap<u32, BuiltService>>,
    pub handles: Mutex<BTreeMap<u32, Arc<ServiceHandle>>>,
    pub counters: Mutex<BTreeMap<u32, Arc<PlatformRefCounter>>>,
    /// Memory for the command that rewrites memory.
    pub memory: Mutex<Vec<u8>>,
    /// The running requests that can be cancelled. An open gate cancels its request.
    pub cancellations: Mutex<BTreeMap<u64, Arc<Gate>>>,
    #[cfg_attr(
        windows,
        allow(dead_code, reason = "only a fork or an exec passes it on")
    )]
    pub guardian: Identity,
    pub reporter: Arc<Reporter>,
}

/// Locks a mutex, even if a thread has panicked while it held the lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ActorState {
    pub fn new(guardian: Identity) -> Self {
        Self {
            services: Mutex::default(),
            handles: Mutex::default(),
            counters: Mutex::default(),
            memory: Mutex::default(),
            cancellations: Mutex::default(),
            guardian,
            reporter: Arc::default(),
        }
    }

    pub fn reporter(&self) -> Arc<Reporter> {
        Arc::clone(&self.reporter)
    }

    pub fn service(&self, number: u32) -> Arc<SharedService> {
        self.built(number).0
    }

    pub fn built(&self, number: u32) -> BuiltService {
        lock(&self.services)
            .get(&number)
            .cloned()
            .expect("a service of this number")
    }

    pub fn take_handle(&self, number: u32) -> ServiceHandle {
        let taken = lock(&self.handles).remove(&number);
        let taken = taken.expect("a handle of this number");
        Arc::into_inner(taken).expect("a handle that no other command uses")
    }

    pub fn handle(&self, number: u32) -> Arc<ServiceHandle> {
        let handle = lock(&self.handles).get(&number).cloned();
        handle.expect("a handle of this number")
    }

    /// Drops all handles, then all services.
    pub fn drop_all(&self) {
        let handles = std::mem::take(&mut *lock(&self.handles));
        drop(handles);
        let services = std::mem::take(&mut *lock(&self.services));
        drop(services);
    }
}
