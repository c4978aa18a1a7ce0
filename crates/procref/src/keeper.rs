//! The keeper: a process that holds one counted object, for the kernel [`counted`](crate::kernel::counted).
//!
//! ```text
//!             ┌─ wait: deaths | connection | request | time
//!   recover ──┴> serve ──REMOVE──> removed (every step is refused) ──last connection closed, or 5 s──> exit
//!                  └─ blank and without connections for 50 ms ──> unlink all files, exit
//! ```
//!
//! # Invariants
//!
//! - Deaths come first. The keeper handles all deaths that the kernel has reported before a request was sent, and then
//!   performs the request. So if a client has waited for the exit of a process and then asks, the answer does not count
//!   that process.
//! - A client is the process that connected, by pid and start time. Nothing in a message is believed about that.
//! - The keeper answers a change only after the change is in the state file.
//! - A supervisor also waits until the serving thread has handled the deaths, before each of its steps.
//! - One thread serves the clients. Each supervisor is a thread of its own, which performs its arrays on the same ledger.
//! - Arrays that sleep are performed in the order of arrival, by the thread whose change makes them possible.
//! - A blank object is kept until the client that has started the keeper is connected, has given up or has exited.
//! - All threads block all signals. The serving thread reads SIGCHLD and SIGIO from a descriptor.
//! - A keeper that fails exits without touching its files. The next step of any client starts a successor.
//! - If another program removes the state file, the object is removed. The supervisors stop the service.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::crash::{self, Point};
use crate::descriptor;
use crate::kernel::counted::ledger::{Ledger, Session};
use crate::kernel::counted::mapped::Mapped;
use crate::kernel::counted::state::{State, Unusable};
use crate::kernel::counted::sys;
use crate::kernel::counted::wire::{REQUEST_LENGTH, Request};
use crate::kernel::semset::Op;
use crate::kernel::table::UndoOwner;
use crate::process::Identity;
use life::INSTANCE_FILES;
use queue::EventQueue;
use shared::{Files, Notice, Shared, now};
use watches::Watches;

mod answer;
mod children;
mod entry;
mod launch;
mod life;
mod object;
mod program;
mod queue;
mod shared;
mod signals;
mod start;
mod watches;

/// Time for which a blank object without connections is kept.
const BLANK_LIMIT: Duration = Duration::from_millis(50);
/// Time for which it is kept for the client that has started this keeper. The client gives up earlier.
const STARTER_LIMIT: Duration = Duration::from_secs(20);
/// Time for which the keeper of a removed object answers the clients that are still connected.
const REMOVED_LIMIT: Duration = Duration::from_secs(5);

/// The number of descriptors that clients do not get, at most a quarter of all. A keeper without a free descriptor could not
/// read the list of its children, and would leave processes of the service.
const RESERVED: u64 = 16;

// The tokens of the event queue. Connections have higher numbers.
const LISTENER: u64 = 0;
const DEATHS: u64 = 1;
const NOTICES: u64 = 2;
const SIGNALS: u64 = 3;
const REMOVAL: u64 = 4;
const STARTER: u64 = 5;
const FIRST_CONNECTION: u64 = 6;

/// The connection of a client.
struct Connection {
    socket: OwnedFd,
    /// The process that has connected.
    pid: u32,
    /// `None` before HELLO.
    session: Option<Session>,
    /// The bytes of the next request that have arrived.
    request: [u8; REQUEST_LENGTH],
    received: usize,
    /// The descriptors that came with them.
    fds: Vec<OwnedFd>,
}

/// A client that sleeps until an array can be performed.
struct Sleeper {
    owner: UndoOwner,
    ops: Vec<Op>,
}

/// The state of a keeper.
struct Keeper {
    own: Identity,
    shared: Arc<Shared>,
    events: EventQueue,
    /// `None` after the object was removed.
    listener: Option<OwnedFd>,
    watches: Watches,
    /// Readable when an event of the service is pending.
    signals: OwnedFd,
    /// Readable after another program may have removed the state file. `None` if the file cannot be watched.
    removal: Option<OwnedFd>,
    /// Closed at the other end when the client that has started this keeper is connected, or has exited.
    starter: Option<OwnedFd>,
    connections: BTreeMap<u64, Connection>,
    /// The connections of each process that has sent HELLO.
    by_owner: BTreeMap<UndoOwner, Vec<u64>>,
    next_connection: u64,
    /// A descriptor to close if no other one is free.
    spare: Option<OwnedFd>,
    /// The clients that sleep, by their connections.
    sleepers: BTreeMap<u64, Sleeper>,
    /// The role of the next supervisor. Clients have role 0.
    next_role: u16,
    /// Number of supervisors that have not ended.
    lives: usize,
    /// The time at which this process exits if nothing happens.
    ends_at: Option<Instant>,
    /// The last client that has chosen crash points.
    #[cfg(feature = "crash-points")]
    armed_by: Option<UndoOwner>,
}

/// Returns `true` if a new descriptor is one of those that a keeper needs for its own work. A new descriptor has the lowest
/// free number.
fn is_reserved(fd: &OwnedFd) -> bool {
    let number = u64::try_from(fd.as_raw_fd()).unwrap_or(0);
    let limit = getrlimit(Resource::Nofile).current;
    limit.is_some_and(|limit| number >= limit - RESERVED.min(limit / 4))
}

impl Keeper {
    /// Reads the object from its file, and ends the clients that have died before.
    fn recover(
        own: Identity,
        files: Files,
        state: State<Mapped>,
        listener: OwnedFd,
    ) -> io::Result<Self> {
        let ledger = Ledger::recover(state)
            .map_err(|Unusable(reason)| io::Error::new(io::ErrorKind::InvalidData, reason))?;
        let events = EventQueue::new()?;
        let watches = Watches::new()?;
        events.add(&listener, LISTENER)?;
        events.add(watches.events(), DEATHS)?;
        let shared = Arc::new(Shared::new(own, files, ledger)?);
        events.add(shared.notices_fd(), NOTICES)?;
        let signals = signals::open()?;
        events.add(&signals, SIGNALS)?;
        let removal = sys::watch_removal(&shared.files.state).ok();
        if let Some(removal) = &removal {
            events.add(removal, REMOVAL)?;
        }
        let mut keeper = Self {
            own,
            shared,
            events,
            listener: Some(listener),
            watches,
            signals,
            removal,
            starter: None,
            connections: BTreeMap::new(),
            by_owner: BTreeMap::new(),
            next_connection: FIRST_CONNECTION,
            spare: sys::spare().ok(),
            sleepers: BTreeMap::new(),
            next_role: 1,
            lives: 0,
            ends_at: None,
            #[cfg(feature = "crash-points")]
            armed_by: None,
        };
        let processes = keeper.shared.object().processes();
        for process in processes {
            if !keeper.watches.watch(process) {
                keeper.shared.change(|ledger| ledger.end(process, now()));
            }
        }
        Ok(keeper)
    }

    /// Writes the identity and the socket of this keeper to the state file, so that clients connect.
    fn name_in_file(&mut self) {
        use std::os::unix::ffi::OsStrExt as _;

        let socket = self.shared.files.socket.as_os_str().as_bytes();
        self.shared
            .change(|ledger| ledger.name_keeper(self.own, socket));
    }

    /// Waits for the client that has started this keeper, even if it takes longer than [`BLANK_LIMIT`].
    ///
    /// On a busy machine, the client may be able to run only after that time. If the keeper had exited, the client would
    /// start another one, again and again. A child that the client has forked can keep the other end open, so the wait
    /// has a limit.
    fn await_starter(&mut self, starter: OwnedFd) -> io::Result<()> {
        self.events.add(&starter, STARTER)?;
        self.starter = Some(starter);
        Ok(())
    }

    /// Serves until no client can need this process.
    fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::with_capacity(64);
        // The file may have been removed before it was watched.
        self.check_file();
        while !self.is_over() {
            self.events.wait(&mut ready, self.limit())?;
            if ready.contains(&DEATHS) || self.watches.retry_after().is_some() {
                self.end_dead_clients();
            }
            for &event in &ready {
                match event {
                    LISTENER => self.accept_all(),
                    DEATHS => {}
                    NOTICES => self.take_notices(),
                    SIGNALS => self.take_signals(),
                    REMOVAL => self.check_file(),
                    STARTER => (self.starter, self.ends_at) = (None, None),
                    connection => self.read(connection),
                }
            }
        }
        Ok(())
    }

    /// Returns the longest time to wait for an event. `None` means that only an event ends the wait.
    fn limit(&self) -> Option<Duration> {
        let end = self.ends_at;
        let end = end.map(|end| end.saturating_duration_since(Instant::now()));
        [end, self.watches.retry_after()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns `true` if this process must exit. Unlinks the files of a blank object.
    fn is_over(&mut self) -> bool {
        let (is_removed, is_blank) = {
            let object = self.shared.object();
            (object.is_removed(), object.is_blank())
        };
        let is_alone = self.connections.is_empty() && self.lives == 0;
        let limit = match (is_removed, is_alone) {
            (true, true) => return true,
            (true, false) if self.lives == 0 => REMOVED_LIMIT,
            (false, true) if is_blank && self.starter.is_some() => STARTER_LIMIT,
            (false, true) if is_blank => BLANK_LIMIT,
            _ => {
                self.ends_at = None;
                return false;
            }
        };
        let end = *self.ends_at.get_or_insert_with(|| Instant::now() + limit);
        if Instant::now() < end {
            return false;
        }
        if !is_removed {
            // A client that dies between clearing the object and removing the files of the instance leaves them. After
            // the state file is unlinked, another object may have files with these names.
            self.shared.files.remove_service_files(&INSTANCE_FILES);
            // A client that connects now is reset when this process exits, and finds no file or another one.
            self.shared.files.unlink();
        }
        true
    }

    /// Handles what the supervisors have done.
    fn take_notices(&mut self) {
        for notice in self.shared.take_notices() {
            match notice {
                Notice::Changed => self.after_change(),
                Notice::Supervised { connection, reply } => {
                    self.send(connection, 0, reply, self.own.pid, &[]);
                }
                Notice::AwaitsDeaths => {
                    let shared = Arc::clone(&self.shared);
                    shared.handle_deaths(|| self.end_dead_clients());
                }
                Notice::Ended => self.lives -= 1,
            }
        }
    }

    /// Passes the signals on to the supervisor that has launched the service. If there is none, reaps the processes that
    /// were reparented to this one.
    fn take_signals(&self) {
        signals::take(&self.signals);
        self.shared.note_signal();
        if let Some(_guard) = self.shared.try_tree() {
            let flags = rustix::process::WaitOptions::NOHANG;
            while let Ok(Some(_)) = rustix::process::wait(flags) {}
        }
    }

    /// Removes the object if another program has removed its file. No client finds this keeper any more.
    fn check_file(&mut self) {
        if let Some(removal) = &self.removal {
            sys::discard(removal);
        }
        if !self.shared.files.exist() && self.shared.change(|ledger| ledger.remove(now())) {
            self.after_change();
        }
    }

    /// Wakes the clients that sleep, and takes no further clients if the object was removed.
    fn after_change(&mut self) {
        if self.shared.object().is_removed() {
            self.listener = None;
        }
        self.wake_sleepers();
    }

    fn end_dead_clients(&mut self) {
        let dead = self.watches.take_dead();
        if dead.is_empty() {
            return;
        }
        crash::point(Point::DeathSeen);
        self.shared.change(|ledger| {
            for &process in &dead {
                ledger.end(process, now());
            }
        });
        crash::point(Point::DeathHandled);
        for process in dead {
            // A forked child may keep the connection open.
            let theirs = self.by_owner.remove(&owner_of(process)).unwrap_or_default();
            theirs.into_iter().for_each(|number| self.close(number));
        }
        self.wake_sleepers();
    }

    fn accept_all(&mut self) {
        while let Some(listener) = &self.listener {
            let socket = match descriptor::accept(listener) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::MFILE | Errno::NFILE) if self.spare.take().is_some() => {
                    // Without an answer, the client would wait, and the queue would report it again and again. The
                    // client retries after its connection was closed.
                    let _ = descriptor::accept(listener);
                    self.spare = sys::spare().ok();
                    // Without a free descriptor, the kernel reports EMFILE even if there are no more connections, so a loop
                    // would not end. The queue reports the next connection, after the exits of clients.
                    return;
                }
                // EAGAIN: there are no more.
                Err(_) => return,
            };
            if is_reserved(&socket) {
                // The client retries, as above.
                continue;
            }
            let own = rustix::process::geteuid().as_raw();
            let Some((pid, _)) = sys::peer(&socket).ok().filter(|&(_, uid)| uid == own) else {
                continue;
            };
            let number = self.next_connection;
            self.next_connection += 1;
            if self.events.add(&socket, number).is_ok() {
                let connection = Connection {
                    socket,
                    pid,
                    session: None,
                    request: [0; REQUEST_LENGTH],
                    received: 0,
                    fds: Vec::new(),
                };
                self.connections.insert(number, connection);
            }
        }
    }

    /// Reads one request, if it is complete, and performs it. Other requests of this client wait until the clients that
    /// have also sent one were served.
    fn read(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let room = &mut connection.request[connection.received..];
        match sys::receive_now(&connection.socket, room, &mut connection.fds) {
            Ok(None) => {}
            Ok(Some(received)) if received > 0 => {
                connection.received += received;
                if connection.received == REQUEST_LENGTH {
                    connection.received = 0;
                    let request = Request::decode(&connection.request);
                    let fds = std::mem::take(&mut connection.fds);
                    // The events that were read together with this request need not contain a death that the client
                    // has waited for: while the kernel collects the events, it may find the request on a connection
                    // that it visits late, and add the death to the next ones.
                    self.end_dead_clients();
                    self.answer(number, request, fds);
                }
            }
            // The client has closed the connection. Its references stay as long as its process lives.
            Ok(Some(_)) | Err(_) => self.close(number),
        }
    }

    fn close(&mut self, number: u64) {
        self.sleepers.remove(&number);
        let Some(connection) = self.connections.remove(&number) else {
            return;
        };
        let Some(Session { owner, .. }) = connection.session else {
            return;
        };
        if let Some(theirs) = self.by_owner.get_mut(&owner) {
            theirs.retain(|&other| other != number);
            if !theirs.is_empty() {
                return;
            }
            self.by_owner.remove(&owner);
        }
        let process = Identity {
            pid: owner.pid,
            start: owner.start,
        };
        if !self.shared.object().has_entries(process) {
            self.watches.forget(process);
        }
    }
}

/// Returns the owner of the adjustments of a client.
fn owner_of(process: Identity) -> UndoOwner {
    UndoOwner {
        pid: process.pid,
        start: process.start,
        role: 0,
    }
}
