//! The requests of clients.

use std::os::fd::OwnedFd;
use std::time::Duration;

use procref_supervisor::crash::{self, Point};
use procref_supervisor::spec::StopSpec;

use super::shared::now;
use super::{Keeper, Sleeper, launch, life, owner_of};
use crate::kernel::counted::ledger::Session;
use crate::kernel::counted::order::{LaunchOrder, MAX_LENGTH};
use crate::kernel::counted::sys;
use crate::kernel::counted::wire::{
    Answer, Call, Reply, Request, Unreadable, VERSION, encode_hello, encode_values, may_sleep,
};
use crate::kernel::semset::{Op, Wait};
use crate::kernel::table::{Outcome, sleeps_on};
use crate::process::Identity;

impl Keeper {
    pub(super) fn answer(
        &mut self,
        number: u64,
        request: Result<Request, Unreadable>,
        fds: Vec<OwnedFd>,
    ) {
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
        if fds.len() != request.call.descriptors() {
            return self.close(number);
        }
        crash::point(Point::RequestReceived);
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
        if session.nonce != nonce || self.sleepers.contains_key(&number) {
            return self.close(number);
        }
        if self.shared.object().is_removed() {
            return self.send(number, seq, Reply::Gone, 0, &[]);
        }
        match request.call {
            Call::Hello { .. } => {}
            Call::Operate(ops) => self.operate(number, session, seq, &ops),
            Call::Wait(ops) if may_sleep(&ops) => {
                let owner = session.owner;
                self.sleepers.insert(number, Sleeper { owner, ops });
                self.wake_sleepers();
            }
            Call::Wait(_) => self.close(number),
            Call::Values => {
                let values = encode_values(self.shared.object().values());
                self.send(number, seq, Reply::Done, 0, &values);
            }
            Call::Inspect { slot } => {
                let (values, last, supervisors) = {
                    let object = self.shared.object();
                    let supervisors = object.sleepers(slot);
                    (*object.values(), object.last_pids().encode(), supervisors)
                };
                let waits =
                    |it: &&Sleeper| sleeps_on(&it.ops, &values).is_some_and(|op| op.slot == slot);
                let clients = self.sleepers.values().filter(waits).count();
                let sleepers = (clients + supervisors) as u32;
                self.send(number, seq, Reply::Done, sleepers, &last);
            }
            Call::Remove => {
                self.shared.remove();
                self.send(number, seq, Reply::Done, 0, &[]);
                self.after_change();
            }
            Call::Supervise { signal, grace_ms } => {
                self.spare_others(session);
                let stop = StopSpec {
                    signal: signal as i32,
                    grace: Duration::from_millis(grace_ms),
                };
                if !self.supervise(number, stop) {
                    self.close(number);
                }
            }
            Call::Launch {
                has_listener,
                has_starter,
            } => {
                self.spare_others(session);
                match self.launch(session, fds, has_listener, has_starter) {
                    Some(()) => self.send(number, seq, Reply::Done, self.own.pid, &[]),
                    None => self.close(number),
                }
            }
            #[cfg(feature = "crash-points")]
            Call::Arm => {
                arm(fds);
                self.armed_by = Some(session.owner);
                self.send(number, seq, Reply::Done, 0, &[]);
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
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let owner = owner_of(process);
        // No client sends HELLO twice.
        if connection
            .session
            .replace(Session { owner, nonce })
            .is_some()
        {
            return self.close(number);
        }
        self.by_owner.entry(owner).or_default().push(number);
        let payload = encode_hello(self.own.start);
        self.send(number, 0, Reply::Done, self.own.pid, &payload);
    }

    /// Lets the supervisor that this client starts pass the crash points that another client has chosen.
    fn spare_others(&self, _session: Session) {
        #[cfg(feature = "crash-points")]
        crash::set_thread_spared(self.armed_by != Some(_session.owner));
    }

    /// Returns the role of the next supervisor.
    fn new_role(&mut self) -> u16 {
        let role = self.next_role;
        // A role that is still in use belongs to a supervisor of this keeper. No keeper has so many.
        self.next_role = role.checked_add(1).unwrap_or(1);
        role
    }

    /// Starts a supervisor that launches a service. Returns `None` if the order cannot be used, or if there is no thread
    /// for it.
    fn launch(
        &mut self,
        session: Session,
        fds: Vec<OwnedFd>,
        has_listener: bool,
        has_starter: bool,
    ) -> Option<()> {
        let mut fds = fds.into_iter();
        let bytes = sys::read_file(fds.next()?, MAX_LENGTH).ok()?;
        let order = LaunchOrder::decode(&bytes)?;
        crash::point(Point::OrderRead);
        let ends = launch::Ends::new(fds, has_listener, has_starter)?;
        let role = self.new_role();
        let Session { owner, .. } = session;
        let starter = Identity {
            pid: owner.pid,
            start: owner.start,
        };
        launch::start(&self.shared, role, starter, order, ends).ok()?;
        crash::point(Point::LaunchBegun);
        self.lives += 1;
        Some(())
    }

    /// Starts a supervisor, which reports when it is counted. Returns `false` if there is no thread for it.
    fn supervise(&mut self, number: u64, stop: StopSpec) -> bool {
        let role = self.new_role();
        let started = life::start(&self.shared, role, number, stop).is_ok();
        self.lives += usize::from(started);
        started
    }

    fn operate(&mut self, number: u64, session: Session, seq: u64, ops: &[Op]) {
        let outcome = self
            .shared
            .change(|ledger| ledger.operate(session, seq, (ops, Wait::No), now()));
        let Ok(outcome) = outcome else {
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
    pub(super) fn wake_sleepers(&mut self) {
        if self.sleepers.is_empty() {
            return;
        }
        let object = self.shared.object();
        let mut woken = Vec::new();
        self.sleepers.retain(|&number, sleeper| {
            let reply = match object.try_out(sleeper.owner, &sleeper.ops) {
                Outcome::Sleeps => return true,
                Outcome::Done => Reply::Done,
                Outcome::Gone => Reply::Gone,
                Outcome::NotNow => Reply::NotNow,
                Outcome::OutOfRange => Reply::OutOfRange,
            };
            woken.push((number, reply));
            false
        });
        drop(object);
        for (number, reply) in woken {
            self.send(number, 0, reply, 0, &[]);
        }
    }

    /// Sends an answer. A client has at most one request without an answer, so its socket has room for the answer. A
    /// client that does not read its answers loses the connection.
    pub(super) fn send(&mut self, number: u64, seq: u64, reply: Reply, arg: u32, payload: &[u8]) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let mut bytes = Answer { seq, reply, arg }.encode().to_vec();
        bytes.extend(payload);
        if sys::send_now(&connection.socket, &bytes).is_err() {
            self.close(number);
        }
        crash::point(Point::AnswerSent);
    }
}

/// Chooses crash points, for a test.
#[cfg(feature = "crash-points")]
fn arm(fds: Vec<OwnedFd>) {
    let file = fds.into_iter().next();
    let bytes = file.and_then(|file| sys::read_file(file, MAX_LENGTH).ok());
    if let Some(choice) = bytes.as_deref().and_then(|bytes| bytes.try_into().ok()) {
        crash::adopt(choice);
    }
}
