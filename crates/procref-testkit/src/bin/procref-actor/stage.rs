//! Everything an actor has, and how it speaks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procref::{PlatformRefCounter, ServiceHandle, SharedService};
use procref_testkit::observe::{self, Identity};
use procref_testkit::protocol::{self, Body, Event, Message, Reply};

use crate::gate::Gate;
use crate::sys::Mouth;

/// The gates of a service.
#[derive(Default)]
pub struct Gates {
    gates: Mutex<HashMap<protocol::Gate, Arc<Gate>>>,
}

impl Gates {
    pub fn get(&self, which: protocol::Gate) -> Arc<Gate> {
        Arc::clone(lock(&self.gates).entry(which).or_default())
    }
}

/// A service, and where its callbacks wait.
pub type Built = (Arc<SharedService>, Arc<Gates>);

/// What the commands work with.
pub struct Stage {
    pub services: Mutex<BTreeMap<u32, Built>>,
    pub handles: Mutex<BTreeMap<u32, Arc<ServiceHandle>>>,
    pub counters: Mutex<BTreeMap<u32, Arc<PlatformRefCounter>>>,
    /// Memory that is rewritten on request.
    pub ballast: Mutex<Vec<u8>>,
    /// The running requests that can be cancelled.
    pub cancels: Mutex<BTreeMap<u64, Arc<Gate>>>,
    #[cfg_attr(windows, allow(dead_code, reason = "nobody forks there"))]
    pub guardian: Identity,
    pub voice: Arc<Voice>,
}

/// Says one line at a time.
#[derive(Default)]
pub struct Voice {
    pub mouth: Mutex<Mouth>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line(body: Body) -> Vec<u8> {
    let at = observe::now_ns();
    let mut line = serde_json::to_vec(&Message { at, body }).expect("a message as JSON");
    line.push(b'\n');
    line
}

/// For a process without a stage.
pub fn send_to_stdout(event: Event) {
    Mouth::default().say(&line(Body::Event(event)));
}

impl Voice {
    fn send(&self, body: Body) {
        let mut mouth = lock(&self.mouth);
        mouth.say(&line(body));
    }

    pub fn tell(&self, event: Event) {
        self.send(Body::Event(event));
    }
}

impl Stage {
    pub fn new(guardian: Identity) -> Self {
        Self {
            services: Mutex::default(),
            handles: Mutex::default(),
            counters: Mutex::default(),
            ballast: Mutex::default(),
            cancels: Mutex::default(),
            guardian,
            voice: Arc::default(),
        }
    }

    pub fn voice(&self) -> Arc<Voice> {
        Arc::clone(&self.voice)
    }

    pub fn tell(&self, event: Event) {
        self.voice.tell(event);
    }

    pub fn answer(&self, request: u64, reply: Reply) {
        self.voice.send(Body::Reply(request, reply));
    }

    pub fn service(&self, number: u32) -> Arc<SharedService> {
        self.built(number).0
    }

    pub fn built(&self, number: u32) -> Built {
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
    pub fn clear(&self) {
        let handles = std::mem::take(&mut *lock(&self.handles));
        drop(handles);
        let services = std::mem::take(&mut *lock(&self.services));
        drop(services);
    }
}
