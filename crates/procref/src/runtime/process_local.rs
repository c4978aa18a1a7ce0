//! State that belongs to one process. A child made by `fork` starts without it.
//!
//! A forked child inherits its parent's memory, including locked mutexes and handles of threads that do not
//! exist in the child. So everything that has a lock or a thread is in a [`Local`], and a child creates its
//! own instead of using its parent's.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use crate::name::Digest;
use crate::process::fork_epoch;
use crate::runtime::helpers::Helper;
use crate::runtime::timer::Timer;

/// Values by key. Each lives as long as a caller keeps it.
type WeakMap = HashMap<(Digest, Digest), Weak<dyn Any + Send + Sync>>;

/// The state of one process.
pub(crate) struct Local {
    pub(crate) epoch: u64,
    /// The client of each service that this process uses.
    pub(crate) clients: Mutex<WeakMap>,
    pub(crate) timer: Timer,
    /// The threads of procref that are about to exit.
    pub(crate) ending: Mutex<Vec<Arc<Helper>>>,
    /// The nonces of sessions with keepers that no session uses now.
    #[cfg(unix)]
    pub(crate) nonces: Mutex<Vec<u64>>,
    /// The state of a child of this process.
    child: OnceLock<Box<Local>>,
}

impl Local {
    fn new(epoch: u64) -> Self {
        Self {
            epoch,
            clients: Mutex::default(),
            timer: Timer::new(),
            ending: Mutex::default(),
            #[cfg(unix)]
            nonces: Mutex::default(),
            child: OnceLock::new(),
        }
    }
}

/// Returns the state of this process.
pub(crate) fn get() -> &'static Local {
    static FIRST: OnceLock<Local> = OnceLock::new();

    let epoch = fork_epoch();
    let mut local = FIRST.get_or_init(|| Local::new(epoch));
    while local.epoch != epoch {
        local = local.child.get_or_init(|| Box::new(Local::new(epoch)));
    }
    local
}
