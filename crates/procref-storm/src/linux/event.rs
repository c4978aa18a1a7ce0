//! The events that clients report to the runner, one JSON value per line.

use procref_testkit::observe::{self, Identity};
use serde::{Deserialize, Serialize};

/// Suffix that a client adds to an error if another process has answered on the port of the service.
pub const PORT_LOST: &str = "; another process has its port";

/// Something that happened in a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub process: Identity,
    /// Index of the service.
    pub service: usize,
    /// Time of the event, on the clock that all processes share.
    pub at: u64,
    pub kind: EventKind,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum EventKind {
    /// The client begins this step.
    Step(String),
    /// An acquire that began at `since` returned this instance, and the instance gave this answer.
    Acquired {
        since: u64,
        pid: u32,
        answer: Result<(), String>,
    },
    /// The instance that the client has held since `since` gave this answer.
    Checked {
        since: u64,
        pid: u32,
        answer: Result<(), String>,
    },
    /// An operation that began at `since` returned an error.
    Failed {
        since: u64,
        /// The workload caused this error.
        intended: bool,
        error: String,
    },
    /// The client holds no handle anymore.
    ReleasedAll,
    /// A forked child begins.
    Forked,
    /// The client executes another program, which keeps the reference.
    Executing,
    Pinned,
    Unpinned,
    /// The client exits before a cancelled operation has been undone.
    Unfinished,
    /// The client itself saw a violation.
    Violation(String),
    /// The runner sends this to itself: all events before it have been read.
    Mark(u64),
}

impl Event {
    pub fn now(process: Identity, service: usize, kind: EventKind) -> Self {
        Self {
            process,
            service,
            at: observe::now_ns(),
            kind,
        }
    }
}
