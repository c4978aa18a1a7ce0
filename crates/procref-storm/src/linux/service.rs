//! A service of the storm: where its files are, and the lines on which its clients tell what they see.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procref_testkit::observe::{self, Identity};
use procref_testkit::protocol::FakeService;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::Kind;
use crate::linux::workload::Settings;

/// A service, and its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Site {
    pub kind: Kind,
    /// Nobody else's service has it, in whatever directory.
    pub name: String,
    /// For its own files. The runtime directory is beside it.
    pub dir: PathBuf,
}

impl Site {
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.with_file_name("run")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub fn unhealthy_file(&self) -> PathBuf {
        self.dir.join("unhealthy")
    }

    /// Held locked by whoever is in its start callback.
    pub fn starting(&self) -> PathBuf {
        self.dir.join("starting")
    }

    /// Once it is there, clients come to their end.
    pub fn over(&self) -> PathBuf {
        self.dir.with_file_name("over")
    }

    pub fn fake(&self, guardian: Identity, settings: &Settings) -> FakeService {
        FakeService {
            log: self.log(),
            witness: self.dir.join("witness"),
            ignore_sigterm: settings.stubborn,
            slow_stop_ms: settings.slow_stop_ms,
            unhealthy_file: Some(self.unhealthy_file()),
            guardian: Some(guardian),
            ..FakeService::default()
        }
    }

    /// How its supervisors are called, as far as the kernel keeps it.
    pub fn supervisors_name(&self) -> String {
        format!("procref: {}", self.name)
            .chars()
            .take(NAME)
            .collect()
    }

    /// The same of its clients.
    pub fn clients_name(&self) -> String {
        format!("client {}", self.name).chars().take(NAME).collect()
    }
}

/// What a client adds to a failure if somebody else has answered on the port of the service.
pub const PORT_LOST: &str = "; another process has its port";

/// How much of a process's name the kernel keeps.
const NAME: usize = 15;

/// Between an operation and the next: operations are done with this in one's hands, so that whoever has
/// all of it sees none under way.
pub struct Room {
    _held: File,
}

impl Room {
    fn open(dir: &Path, name: &str) -> io::Result<File> {
        let mut options = File::options();
        options.append(true).create(true).open(dir.join(name))
    }

    /// For one operation.
    pub fn enter(site: &Site) -> io::Result<Self> {
        Self::take(&site.runtime_dir(), FlockOperation::LockShared)
    }

    /// When nobody else is in.
    pub fn enter_alone(runtime_dir: &Path, limit: Duration) -> io::Result<Self> {
        let (dir, limit) = (runtime_dir.to_owned(), limit);
        let (done, came) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = done.send(Self::take(&dir, FlockOperation::LockExclusive));
        });
        came.recv_timeout(limit)
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn take(runtime_dir: &Path, how: FlockOperation) -> io::Result<Self> {
        let dir = runtime_dir.parent().unwrap_or(runtime_dir);
        // Through a door that is held for a moment only: whoever waits for the whole room would never
        // get it, if those who share it could go on coming in.
        let door = Self::open(dir, "door")?;
        flock(&door, how)?;
        let room = Self::open(dir, "room")?;
        flock(&room, how)?;
        Ok(Self { _held: room })
    }
}

/// What a client tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub who: Identity,
    /// The number of the service.
    pub site: usize,
    /// On the clock that all processes share.
    pub at: u64,
    pub what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum What {
    /// It begins with this.
    Step(String),
    /// An acquire that began at `since` returned this instance, which said that.
    Acquired {
        since: u64,
        pid: u32,
        said: Result<(), String>,
    },
    /// What it holds since then said this later.
    Checked {
        since: u64,
        pid: u32,
        said: Result<(), String>,
    },
    /// An operation that began at `since` was refused. Meant to be: its callback was told to fail.
    Failed {
        since: u64,
        meant: bool,
        error: String,
    },
    /// It holds nothing any more.
    Free,
    /// A forked child begins.
    Forked,
    /// What follows is another program, which keeps the reference.
    Executing,
    Pinned,
    Unpinned,
    /// It ends before something that it has cancelled was given back.
    Unfinished,
    /// What a client saw with its own eyes, and must not be.
    Wrong(String),
    /// From the director to itself: everything before this has been read.
    Mark(u64),
}

impl Event {
    pub fn now(who: Identity, site: usize, what: What) -> Self {
        Self {
            who,
            site,
            at: observe::now_ns(),
            what,
        }
    }
}
