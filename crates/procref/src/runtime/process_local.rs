//! What belongs to this process alone: a child made by `fork` starts with none of it.
//!
//! A forked child inherits the parent's memory, locked mutexes and records of threads that do not
//! exist in it included. So everything that has a lock or a thread hangs off a [`Local`], and a
//! child makes a new one instead of touching its parent's.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, Weak};

use crate::name::Digest;
use crate::process::fork_epoch;
use crate::runtime::timer::Timer;

/// Shared by whoever asks for the same key, for as long as anybody keeps it.
type Shared = HashMap<(Digest, Digest), Weak<dyn Any + Send + Sync>>;

pub(crate) struct Local {
    pub(crate) epoch: u64,
    /// The one seat of each service that anybody in this process uses.
    pub(crate) clients: Mutex<Shared>,
    pub(crate) timer: Timer,
    /// What a child of this process has.
    child: OnceLock<Box<Local>>,
}

impl Local {
    fn new(epoch: u64) -> Self {
        Self {
            epoch,
            clients: Mutex::default(),
            timer: Timer::new(),
            child: OnceLock::new(),
        }
    }
}

/// This process's own.
pub(crate) fn get() -> &'static Local {
    static FIRST: OnceLock<Local> = OnceLock::new();

    let epoch = fork_epoch();
    let mut local = FIRST.get_or_init(|| Local::new(epoch));
    while local.epoch != epoch {
        local = local.child.get_or_init(|| Box::new(Local::new(epoch)));
    }
    local
}
