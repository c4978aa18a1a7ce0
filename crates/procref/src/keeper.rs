//! The keeper: a process that holds one counted object, for the kernel [`counted`](crate::kernel::counted).
//!
//! ```text
//!             ┌─ wait: deaths | connection | request | time
//!   recover ──┴> serve ──REMOVE──> removed (every step is refused) ──last connection closed, or 5 s──> exit
//!                  └─ blank and without connections for 50 ms ──> unlink, exit
//! ```
//!
//! # Invariants
//!
//! - Deaths come first. The keeper handles all deaths that the kernel reports before it performs a request. So if a
//!   client has waited for the exit of a process and then asks, the answer does not count that process.
//! - A client is the process that connected, by pid and start time. Nothing in a message is believed about that.
//! - The keeper answers a change only after the change is in the state file.
//! - A keeper that fails exits without touching its files. The next step of any client starts a successor.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::kernel::counted::ledger::{Ledger, Session};
use crate::kernel::counted::mapped::Mapped;
use crate::kernel::counted::state::{State, Unusable};
use crate::kernel::counted::sys::{self, FileId};
use crate::kernel::counted::wire::{
    Answer, Call, REQUEST_LENGTH, Reply, Request, Unreadable, VERSION, encode_hello, encode_values,
    may_sleep,
};
use crate::kernel::semset::Op;
use crate::kernel::table::{Outcome, UndoOwner, sleeps_for};
use crate::process::Identity;
use watches::Watches;

mod entry;
mod start;
mod watches;

/// Time for which a blank object without connections is kept.
const BLANK_LIMIT: Duration = Duration::from_millis(50);
/// Time for which the keeper of a removed object answers the clients that are still connected.
const REMOVED_LIMIT: Duration = Duration::from_secs(5);

// The tokens of the event queue. Connections have higher numbers.
const LISTENER: u64 = 0;
const DEATHS: u64 = 1;
const FIRST_CONNECTION: u64 = 2;

/// The files of a keeper.
struct Files {
    state: PathBuf,
    /// The state file that this keeper has locked.
    id: FileId,
    socket: PathBuf,
}

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
}

/// A client that sleeps until an array can be performed.
struct Sleeper {
    connection: u64,
    owner: UndoOwner,
    ops: Vec<Op>,
}

/// The state of a keeper.
struct Keeper {
    own: Identity,
    files: Files,
    ledger: Ledger<Mapped>,
    events: OwnedFd,
    /// `None` after the object was removed.
    listener: Option<OwnedFd>,
    watches: Watches,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// A descriptor to close if no other one is free.
    spare: Option<OwnedFd>,
    /// In the order in which they began to sleep.
    sleepers: Vec<Sleeper>,
    /// The time at which this process exits if nothing happens.
    ends_at: Option<Instant>,
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
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watches = Watches::new()?;
        let flags = epoll::EventFlags::IN;
        epoll::add(
            &events,
            &listener,
            epoll::EventData::new_u64(LISTENER),
            flags,
        )?;
        epoll::add(
            &events,
            watches.events(),
            epoll::EventData::new_u64(DEATHS),
            flags,
        )?;
        let mut keeper = Self {
            own,
            files,
            ledger,
            events,
            listener: Some(listener),
            watches,
            connections: BTreeMap::new(),
            next_connection: FIRST_CONNECTION,
            spare: sys::spare().ok(),
            sleepers: Vec::new(),
            ends_at: None,
        };
        for process in keeper.ledger.processes() {
            if !keeper.watches.watch(process) {
                keeper.ledger.end(process, now());
            }
        }
        Ok(keeper)
    }

    fn name_in_file(&mut self) {
        use std::os::unix::ffi::OsStrExt as _;

        let socket = self.files.socket.as_os_str().as_bytes();
        self.ledger.name_keeper(self.own, socket);
    }

    /// Serves until no client can need this process.
    fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::with_capacity(64);
        while !self.is_over() {
            let limit = self.limit().map(|limit| Timespec {
                tv_sec: limit.as_secs() as i64,
                tv_nsec: limit.subsec_nanos().into(),
            });
            ready.clear();
            match epoll::wait(
                &self.events,
                rustix::buffer::spare_capacity(&mut ready),
                limit.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.end_dead_clients();
            for event in &ready {
                match event.data.u64() {
                    LISTENER => self.accept_all(),
                    DEATHS => {}
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
        let is_removed = self.ledger.is_removed();
        let limit = match (is_removed, self.connections.is_empty()) {
            (true, true) => return true,
            (true, false) => REMOVED_LIMIT,
            (false, true) if self.ledger.is_blank() => BLANK_LIMIT,
            (false, _) => {
                self.ends_at = None;
                return false;
            }
        };
        let end = *self.ends_at.get_or_insert_with(|| Instant::now() + limit);
        if Instant::now() < end {
            return false;
        }
        if !is_removed {
            // A client that connects now is reset when this process exits, and finds no file or another one.
            self.unlink_files();
        }
        true
    }

    /// Unlinks the state file and the socket. This process has the lock, so no other keeper has files at these paths.
    fn unlink_files(&mut self) {
        let _ = std::fs::remove_file(&self.files.socket);
        if sys::leads_to(&self.files.state, self.files.id) {
            let _ = std::fs::remove_file(&self.files.state);
        }
    }

    fn end_dead_clients(&mut self) {
        let dead = self.watches.take_dead();
        if dead.is_empty() {
            return;
        }
        for process in dead {
            self.ledger.end(process, now());
            // A forked child may keep the connection open.
            let theirs: Vec<u64> = self
                .connections
                .iter()
                .filter(|(_, it)| it.session.is_some_and(|it| it.owner.pid == process.pid))
                .map(|(&number, _)| number)
                .collect();
            theirs.into_iter().for_each(|number| self.close(number));
        }
        self.wake_sleepers();
    }

    fn accept_all(&mut self) {
        while let Some(listener) = &self.listener {
            let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
            let socket = match rustix::net::accept_with(listener, flags) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::MFILE | Errno::NFILE) if self.spare.take().is_some() => {
                    // Without an answer, the client would wait, and the queue would report it again and again. The
                    // client retries after its connection was closed.
                    let _ = rustix::net::accept_with(listener, flags);
                    self.spare = sys::spare().ok();
                    continue;
                }
                // EAGAIN: there are no more.
                Err(_) => return,
            };
            let own = rustix::process::geteuid().as_raw();
            let Some((pid, _)) = sys::peer(&socket).ok().filter(|&(_, uid)| uid == own) else {
                continue;
            };
            let number = self.next_connection;
            self.next_connection += 1;
            let data = epoll::EventData::new_u64(number);
            if epoll::add(&self.events, &socket, data, epoll::EventFlags::IN).is_ok() {
                let connection = Connection {
                    socket,
                    pid,
                    session: None,
                    request: [0; REQUEST_LENGTH],
                    received: 0,
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
        match sys::receive_now(&connection.socket, room) {
            Ok(None) => {}
            Ok(Some(received)) if received > 0 => {
                connection.received += received;
                if connection.received == REQUEST_LENGTH {
                    connection.received = 0;
                    let request = Request::decode(&connection.request);
                    self.end_dead_clients();
                    self.answer(number, request);
                }
            }
            // The client has closed the connection. Its references stay as long as its process lives.
            Ok(Some(_)) | Err(_) => self.close(number),
        }
    }

    fn answer(&mut self, number: u64, request: Result<Request, Unreadable>) {
        let request = match request {
            Ok(request) => request,
            Err(Unreadable::OtherVersion) => {
                self.send(number, 0, Reply::OtherVersion, VERSION, &[]);
                return self.close(number);
            }
            Err(Unreadable::Malformed) => return self.close(number),
        };
        // The death of the client, which was handled before this request, may have closed the connection.
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let (seq, nonce) = (request.seq, request.nonce);
        if let Call::Hello { start } = request.call {
            let process = Identity {
                pid: connection.pid,
                start,
            };
            return self.introduce(number, process, nonce);
        }
        let Some(session) = connection.session else {
            return self.send(number, seq, Reply::HelloFirst, 0, &[]);
        };
        if session.nonce != nonce || self.sleepers.iter().any(|it| it.connection == number) {
            return self.close(number);
        }
        if self.ledger.is_removed() {
            return self.send(number, seq, Reply::Gone, 0, &[]);
        }
        match request.call {
            Call::Hello { .. } => {}
            Call::Operate(ops) => self.operate(number, session, seq, &ops),
            Call::Wait(ops) if may_sleep(&ops) => {
                self.sleepers.push(Sleeper {
                    connection: number,
                    owner: session.owner,
                    ops,
                });
                self.wake_sleepers();
            }
            Call::Wait(_) => self.close(number),
            Call::Values => {
                let values = encode_values(self.ledger.values());
                self.send(number, seq, Reply::Done, 0, &values);
            }
            Call::Inspect { slot } => {
                let values = self.ledger.values();
                let waits = |it: &&Sleeper| sleeps_for(&it.ops, values, slot);
                let sleepers = self.sleepers.iter().filter(waits).count() as u32;
                let last = self.ledger.last_pids().encode();
                self.send(number, seq, Reply::Done, sleepers, &last);
            }
            Call::Remove => {
                self.ledger.remove(now());
                self.unlink_files();
                self.listener = None;
                self.send(number, seq, Reply::Done, 0, &[]);
                self.wake_sleepers();
            }
        }
    }

    /// Identifies a client, and watches its process.
    ///
    /// The client states its start time, because its process may have died after it connected, and another process may
    /// have its pid.
    fn introduce(&mut self, number: u64, process: Identity, nonce: u64) {
        if !self.watches.watch(process) {
            return self.send(number, 0, Reply::Unidentified, 0, &[]);
        }
        if let Some(connection) = self.connections.get_mut(&number) {
            let owner = UndoOwner {
                pid: process.pid,
                start: process.start,
                role: 0,
            };
            connection.session = Some(Session { owner, nonce });
        }
        let payload = encode_hello(self.own.start);
        self.send(number, 0, Reply::Done, self.own.pid, &payload);
    }

    fn operate(&mut self, number: u64, session: Session, seq: u64, ops: &[Op]) {
        let Ok(outcome) = self.ledger.operate(session, seq, ops, now()) else {
            return self.close(number);
        };
        let reply = match outcome {
            Outcome::Done => Reply::Done,
            Outcome::NotNow | Outcome::Sleeps => Reply::NotNow,
            Outcome::Gone => Reply::Gone,
            Outcome::OutOfRange => Reply::OutOfRange,
        };
        self.send(number, seq, reply, 0, &[]);
        if outcome == Outcome::Done {
            self.wake_sleepers();
        }
    }

    /// Answers the sleepers whose arrays can be performed. The arrays of clients change nothing, so one pass suffices.
    fn wake_sleepers(&mut self) {
        let ledger = &self.ledger;
        let mut woken = Vec::new();
        self.sleepers.retain(|sleeper| {
            let reply = match ledger.try_out(sleeper.owner, &sleeper.ops) {
                Outcome::Sleeps => return true,
                Outcome::Done => Reply::Done,
                Outcome::Gone => Reply::Gone,
                Outcome::NotNow => Reply::NotNow,
                Outcome::OutOfRange => Reply::OutOfRange,
            };
            woken.push((sleeper.connection, reply));
            false
        });
        for (number, reply) in woken {
            self.send(number, 0, reply, 0, &[]);
        }
    }

    /// Sends an answer. A client has at most one request without an answer, so its socket has room for the answer. A
    /// client that does not read its answers loses the connection.
    fn send(&mut self, number: u64, seq: u64, reply: Reply, arg: u32, payload: &[u8]) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let mut bytes = Answer { seq, reply, arg }.encode().to_vec();
        bytes.extend(payload);
        if sys::send_now(&connection.socket, &bytes).is_err() {
            self.close(number);
        }
    }

    fn close(&mut self, number: u64) {
        self.sleepers.retain(|it| it.connection != number);
        let Some(connection) = self.connections.remove(&number) else {
            return;
        };
        let Some(Session { owner, .. }) = connection.session else {
            return;
        };
        let process = Identity {
            pid: owner.pid,
            start: owner.start,
        };
        let mut others = self.connections.values().filter_map(|it| it.session);
        if !others.any(|it| it.owner == owner) && !self.ledger.has_entries(process) {
            self.watches.forget(process);
        }
    }
}

/// Returns the time in seconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
