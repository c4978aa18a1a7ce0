//! The kernel as a client uses it.

use std::fs;
use std::io;
use std::iter;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use procref_supervisor::spec::StopSpec;

use super::channel::{Channel, Lost, Response};
use super::instances;
use super::open::{self, Found, Refusal};
use super::order::LaunchOrder;
use super::place::{self, Place};
use super::session::{Session, next_seq};
use super::state::{self, Condition};
use super::sys::{self, FileId};
use super::wire::{self, Call, LastPids, Reply, Request};
use crate::error::{Error, Result};
use crate::kernel::semset::{
    self, MAX_VALUE, Op, OpenArray, SemArray, Set, Values, Wait, digests_in, slot,
};
use crate::kernel::{Fault, Kernel, Missing, Step};
use crate::key::ServiceKey;
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::process::{self, Identity};

/// The kernel that counts in keepers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted;

impl Kernel for Counted {
    /// The code that starts a supervisor shares the array.
    type Object = Set<Arc<RemoteArray>>;

    async fn open(&self, key: &ServiceKey, missing: Missing) -> Result<Option<Self::Object>> {
        semset::open(key, missing).await
    }

    fn survey(&self, namespace: &Namespace) -> Result<Vec<Digest>> {
        let dir = namespace.dir();
        let failed = |error| Error::runtime_dir_io(dir, "could not list it", error);
        let mut digests = Vec::new();
        let unknown = |error| Error::runtime_dir_io(dir, "could not read its state files", error);
        let boot = sys::boot().map_err(unknown)?;
        for entry in fs::read_dir(dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(digest) = place::digest_of(Path::new(&name), namespace) else {
                continue;
            };
            // A file that cannot be read was removed in the meantime, or belongs to another program.
            let is_claimed = open::header_of(&dir.join(&name)).is_some_and(|header| {
                let claim = (namespace.digest().bits().into(), digest.bits().into());
                state::condition(&header, boot) == Ok(Condition::InUse)
                    && digests_in(&state::values(&header)) == claim
            });
            if is_claimed {
                digests.push(digest);
            }
        }
        Ok(digests)
    }

    fn sweep(&self, namespace: &Namespace) -> Result<()> {
        let dir = namespace.dir();
        let failed = |error| Error::runtime_dir_io(dir, "could not list it", error);
        for entry in fs::read_dir(dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if place::digest_of(Path::new(&name), namespace).is_some() {
                open::remove_unused(&dir.join(&name));
            }
        }
        Ok(())
    }

    fn is_instance(identity: Identity) -> Result<bool> {
        Ok(instances::is_instance(identity)?)
    }

    fn object_name(key: &ServiceKey) -> String {
        Place::of(key).map_or_else(
            |error| error.to_string(),
            |place| place.state.display().to_string(),
        )
    }
}

/// An open object.
pub(crate) struct RemoteArray {
    place: Place,
    /// The object's file. A later object with the same key has another file.
    file: FileId,
    service: Arc<str>,
    session: Session,
    /// `true` after a step has found the object removed.
    is_gone: AtomicBool,
}

impl RemoteArray {
    fn refused(&self, operation: &'static str, refusal: Refusal) -> Fault {
        Fault::Refused(error_of(&self.service, &self.place, operation, refusal))
    }

    fn gone<T>(&self) -> Step<T> {
        self.is_gone.store(true, Ordering::Relaxed);
        Err(Fault::Removed)
    }

    /// Connects to the keeper of this object, or to its successor.
    fn connect(&self, operation: &'static str, deadline: Option<Instant>) -> Step<Found> {
        let nonce = self.session.own().nonce();
        let known = Some(self.file);
        let found = open::connect(&self.place, nonce, known, Missing::Ignore, deadline);
        found.map_err(|refusal| self.refused(operation, refusal))
    }

    /// Sends a request that does not wait, to as many keepers as necessary, and returns the answer.
    fn call(&self, operation: &'static str, call: Call) -> Step<Response> {
        if self.is_gone.load(Ordering::Relaxed) {
            return Err(Fault::Removed);
        }
        let session = self.session.own();
        let mut channel = session.channel();
        let is_change = matches!(call, Call::Operate(_) | Call::Remove);
        let request = Request {
            nonce: session.nonce(),
            seq: if is_change { next_seq() } else { 0 },
            call,
        };
        let mut may_be_done = false;
        loop {
            let connected = match channel.take().filter(Channel::is_own) {
                Some(connected) => connected,
                None => match self.connect(operation, None)? {
                    Found::Connected(connected, _) => connected,
                    // The removal unlinks the file that would remember it.
                    Found::Missing if may_be_done && request.call == Call::Remove => {
                        return Ok(Response {
                            reply: Reply::Done,
                            arg: 0,
                            payload: Vec::new(),
                        });
                    }
                    Found::Missing | Found::TimedOut => return self.gone(),
                },
            };
            match connected.call(&request) {
                Ok(response) => {
                    let response = self.checked(operation, response)?;
                    *channel = Some(connected);
                    return Ok(response);
                }
                Err(Lost { sent }) => may_be_done |= sent,
            }
        }
    }

    /// Sleeps until an array can be performed that changes nothing. Returns `false` if the deadline has passed.
    ///
    /// The request has its own connection, so that other threads can take steps, and the end of this connection ends
    /// the sleep.
    fn wait(&self, operation: &'static str, ops: &[Op], deadline: Option<Instant>) -> Step<bool> {
        let request = Request {
            nonce: self.session.own().nonce(),
            seq: 0,
            call: Call::Wait(ops.to_vec()),
        };
        loop {
            if self.is_gone.load(Ordering::Relaxed) {
                return Err(Fault::Removed);
            }
            let channel = match self.connect(operation, deadline)? {
                Found::Connected(channel, _) => channel,
                Found::Missing => return self.gone(),
                Found::TimedOut => return Ok(false),
            };
            match channel.call_within(&request, deadline) {
                Ok(Some(response)) => {
                    let response = self.checked(operation, response)?;
                    return Ok(response.reply == Reply::Done);
                }
                Ok(None) => return Ok(false),
                // The keeper has died. The successor takes the sleeper over.
                Err(Lost { .. }) => {}
            }
        }
    }

    /// Returns an answer of the object, and all other answers as faults.
    fn checked(&self, operation: &'static str, response: Response) -> Step<Response> {
        match response.reply {
            Reply::Done | Reply::NotNow => Ok(response),
            Reply::Gone => self.gone(),
            Reply::OutOfRange => Err(self.out_of_range(operation)),
            Reply::HelloFirst | Reply::OtherVersion | Reply::Unidentified => {
                let advice = "the keeper did not accept this process".to_owned();
                let source = io::ErrorKind::InvalidData.into();
                Err(self.refused(operation, Refusal::Failed { advice, source }))
            }
        }
    }

    /// Handles a value that would exceed the highest one.
    fn out_of_range(&self, operation: &'static str) -> Fault {
        // The caller holds the connection, so this reads the file.
        let full = open::header_of(&self.place.state)
            .is_some_and(|header| state::values(&header)[slot::REFS as usize] >= MAX_VALUE);
        if full {
            return Fault::Refused(Error::TooManyClients {
                service: self.service.as_ref().to_owned(),
                limit: MAX_VALUE.into(),
            });
        }
        let advice = format!(
            "this process alone holds more than {MAX_VALUE} references, or the keeper has no room for another client"
        );
        let source = io::ErrorKind::StorageFull.into();
        self.refused(operation, Refusal::Failed { advice, source })
    }

    /// Starts a supervisor in the keeper. Returns when it is counted.
    ///
    /// If the keeper dies before it answers, its supervisor has died, too, and the successor starts another one.
    pub(crate) fn start_supervisor(&self, stop: StopSpec) -> Step<()> {
        let call = Call::Supervise {
            signal: u32::try_from(stop.signal).unwrap_or(0),
            grace_ms: u64::try_from(stop.grace.as_millis()).unwrap_or(u64::MAX),
        };
        self.arm("start the supervisor")?;
        self.call("start the supervisor", call).map(drop)
    }

    /// Starts a supervisor in the keeper that launches a service. Returns the keeper.
    ///
    /// The descriptors are those of [`Call::descriptors`] after the order. If the keeper dies before it answers, the
    /// pipes of the launch report it.
    pub(crate) fn launch(
        &self,
        order: &LaunchOrder,
        fds: &[BorrowedFd],
        listener: Option<BorrowedFd>,
        starter: Option<BorrowedFd>,
    ) -> Step<Identity> {
        const OPERATION: &str = "launch the service";

        let failed = |source| {
            let advice = "could not put the order into memory".to_owned();
            self.refused(OPERATION, Refusal::Failed { advice, source })
        };
        self.arm(OPERATION)?;
        let file = sys::memory_file(&order.encode()).map_err(failed)?;
        let all: Vec<BorrowedFd> = iter::once(file.as_fd())
            .chain(fds.iter().copied())
            .chain(listener)
            .chain(starter)
            .collect();
        let call = Call::Launch {
            has_listener: listener.is_some(),
            has_starter: starter.is_some(),
        };
        self.call_once(OPERATION, call, &all)
    }

    /// Sends a request with descriptors on a connection of its own. The request is not sent again if the keeper may have
    /// received it.
    fn call_once(&self, operation: &'static str, call: Call, fds: &[BorrowedFd]) -> Step<Identity> {
        let nonce = self.session.own().nonce();
        let request = Request {
            nonce,
            seq: 0,
            call,
        };
        loop {
            let Found::Connected(channel, _) = self.connect(operation, None)? else {
                return self.gone();
            };
            match channel.call_with(&request, fds) {
                Ok(response) => {
                    self.checked(operation, response)?;
                    return Ok(channel.keeper());
                }
                Err(Lost { sent: true }) => return Ok(channel.keeper()),
                Err(Lost { sent: false }) => {}
            }
        }
    }

    /// Passes the crash points of this process on to the keeper.
    fn arm(&self, _operation: &'static str) -> Step<()> {
        #[cfg(feature = "crash-points")]
        if let Some(choice) = procref_supervisor::crash::choice() {
            if let Ok(file) = sys::memory_file(&choice) {
                self.call_once(_operation, Call::Arm, &[file.as_fd()])?;
            }
        }
        Ok(())
    }

    fn read(&self) -> Step<Values> {
        let response = self.call("read the object", Call::Values)?;
        Ok(wire::decode_values(&response.payload))
    }

    fn inspect(&self, operation: &'static str, slot: u16) -> Step<(LastPids, u32)> {
        let response = self.call(operation, Call::Inspect { slot })?;
        Ok((LastPids::decode(&response.payload), response.arg))
    }
}

impl OpenArray for Arc<RemoteArray> {
    fn open(key: &ServiceKey, missing: Missing) -> Result<Option<Self>> {
        if missing == Missing::Create {
            process::check_view(key.namespace.view())?;
        }
        let place = Place::of(key)?;
        let session = Session::new();
        let found = open::connect(&place, session.nonce(), None, missing, None);
        match found.map_err(|refusal| error_of(key.name(), &place, "open the object", refusal))? {
            Found::Connected(channel, file) => {
                *session.channel() = Some(channel);
                Ok(Some(Self::new(RemoteArray {
                    place,
                    file,
                    service: key.name().into(),
                    session,
                    is_gone: AtomicBool::new(false),
                })))
            }
            Found::Missing | Found::TimedOut => Ok(None),
        }
    }

    fn checked_values(&self, _: &ServiceKey) -> Step<Values> {
        self.read()
    }

    fn other_owner(&self, key: &ServiceKey) -> Error {
        Error::Foreign {
            service: key.name().to_owned(),
            object: Counted::object_name(key),
            reason: "the state file names another service".to_owned(),
        }
    }
}

impl SemArray for Arc<RemoteArray> {
    type Prepared = Vec<Op>;

    fn prepare(&self, ops: &[Op]) -> Vec<Op> {
        ops.to_vec()
    }

    async fn operate_on_own(&self, operation: &'static str, ops: &Vec<Op>) -> Step<bool> {
        self.operate(operation, ops, Wait::No).await
    }

    async fn operate(&self, operation: &'static str, ops: &[Op], wait: Wait) -> Step<bool> {
        if wait == Wait::Yes {
            return self.wait(operation, ops, None);
        }
        let response = self.call(operation, Call::Operate(ops.to_vec()))?;
        Ok(response.reply == Reply::Done)
    }

    /// A request has room for [`MAX_OPS`](super::super::semset::MAX_OPS) operations.
    fn has_long_arrays(&self) -> bool {
        false
    }

    fn operate_within(
        &self,
        operation: &'static str,
        ops: &[Op],
        limit: Duration,
    ) -> Option<Step<bool>> {
        // A limit that the clock cannot represent never passes.
        let deadline = Instant::now().checked_add(limit);
        Some(self.wait(operation, ops, deadline))
    }

    async fn values(&self) -> Step<Values> {
        self.read()
    }

    async fn remove(&self) -> Step<()> {
        self.call("remove the object", Call::Remove)?;
        self.is_gone.store(true, Ordering::Relaxed);
        // The keeper exits when no client is connected.
        self.session.own().channel().take();
        Ok(())
    }

    async fn last_pid(&self, slot: u16) -> Step<Option<u32>> {
        let (last, _) = self.inspect("read the last pid of a slot", slot)?;
        Ok(Some(last.pids[slot as usize]).filter(|&pid| pid != 0))
    }

    async fn sleepers(&self, slot: u16) -> Step<u32> {
        let (_, sleepers) = self.inspect("read the number of waiting processes", slot)?;
        Ok(sleepers)
    }

    async fn changed_at(&self) -> Step<SystemTime> {
        let (last, _) = self.inspect("read the time of the last change", 0)?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(last.changed_at))
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }

    fn corrupted(&self, operation: &'static str) -> Fault {
        let advice =
            "another program wrote to the state file; remove it when no process uses the service";
        let source = io::Error::new(
            io::ErrorKind::InvalidData,
            "the values of the object are inconsistent",
        );
        let advice = advice.to_owned();
        self.refused(operation, Refusal::Failed { advice, source })
    }
}

fn error_of(service: &str, place: &Place, operation: &'static str, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Foreign(reason) => Error::Foreign {
            service: service.to_owned(),
            object: place.state.display().to_string(),
            reason,
        },
        Refusal::Failed { advice, source } => Error::Kernel {
            service: service.to_owned(),
            operation,
            advice,
            source,
        },
    }
}
