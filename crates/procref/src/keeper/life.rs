//! The life of a supervisor, on a thread of the keeper.
//!
//! The life itself is that of `procref-supervisor`, which also runs in a forked process on other kernels. Here its steps
//! are arrays on the ledger. Each life has its own role, and so its own adjustments.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use procref_supervisor::crash::{self, Point};
use procref_supervisor::life::watch;
use procref_supervisor::ops::SupervisorOps;
use procref_supervisor::semset::signal_safe::{Refused, SetCalls, SetResult, SignalSafeSet};
use procref_supervisor::spec::StopSpec;

use super::shared::{Notice, Shared, now};
use super::{entry, start};
use crate::kernel::Instance;
use crate::kernel::counted::ledger::Session;
use crate::kernel::counted::wire::Reply;
use crate::kernel::semset::{Op, Values, Wait};
use crate::kernel::table::{Outcome, UndoOwner};

/// The endings of the files that are removed with an instance: the record, its draft, the log and the older log.
pub(super) const INSTANCE_FILES: [&str; 4] = [".json", ".tmp", ".log", ".log.1"];
/// The ending of the note of failed starts.
const FAILURE_NOTE: [&str; 1] = [".failed"];

/// Starts a supervisor for a client, and answers the client when the supervisor is counted.
pub(super) fn start(
    shared: &Arc<Shared>,
    role: u16,
    connection: u64,
    stop: StopSpec,
) -> io::Result<()> {
    on_thread(shared, role, stop, move |life| {
        crash::point(Point::AttendantStarted);
        crash::point(Point::SupervisorStarted);
        let set = SignalSafeSet::new(life.calls());
        pollster::block_on(async {
            let counted = set.supervise().await;
            crash::point(Point::SupervisorRegistered);
            let reply = match counted {
                Ok(()) => Reply::Done,
                Err(Refused::NotNow) => Reply::NotNow,
                Err(Refused::Gone) => Reply::Gone,
            };
            life.shared.notify(Notice::Supervised { connection, reply });
            crash::point(Point::SupervisorReported);
            if counted.is_ok() {
                watch(set, &life).await;
            }
        });
    })
}

/// Runs a supervisor on a thread of its own.
pub(super) fn on_thread(
    shared: &Arc<Shared>,
    role: u16,
    stop: StopSpec,
    body: impl for<'a> FnOnce(&'a Life<'a>) + Send + 'static,
) -> io::Result<()> {
    let shared = Arc::clone(shared);
    let is_spared = crash::is_thread_spared();
    let builder = thread::Builder::new().name("supervisor".to_owned());
    // The usual size: the data of the program's threads is on this stack, and may be large. Unused memory costs nothing.
    let thread = builder.spawn(move || {
        let _exit_on_panic = ExitOnPanic;
        crash::set_thread_spared(is_spared);
        let owner = {
            let life = Life::new(&shared, role, stop);
            body(&life);
            life.calls.session.owner
        };
        // As the exit of a supervisor's process does.
        shared.change(|ledger| ledger.end_owner(owner, now()));
        crash::point(Point::SupervisorEnded);
        crash::set_thread_spared(false);
        shared.notify(Notice::Changed);
        shared.notify(Notice::Ended);
    });
    thread.map(drop)
}

/// Ends the keeper if a supervisor panics. A successor recovers the object, and the next client starts a supervisor.
struct ExitOnPanic;

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            entry::exit(start::FAILED);
        }
    }
}

/// The steps of one supervisor.
pub(super) struct LifeCalls {
    shared: Arc<Shared>,
    session: Session,
    seq: Cell<u64>,
}

/// The end of a supervisor's sleep.
#[derive(Default)]
pub(super) struct SleepLimit {
    /// `None` means that no time ends the sleep.
    deadline: Cell<Option<Instant>>,
    /// The number of signals so far. A further signal ends the sleep. `None` means that no signal does.
    signals: Cell<Option<u64>>,
}

impl SleepLimit {
    pub(super) fn set(&self, left: Option<Duration>) {
        // A time that the clock cannot represent never comes.
        let deadline = left.and_then(|left| Instant::now().checked_add(left));
        self.deadline.set(deadline);
    }

    pub(super) fn end_after_signal(&self, signals: u64) {
        self.signals.set(Some(signals));
    }
}

impl LifeCalls {
    /// Performs an array, and sleeps until that is possible or the deadline has passed.
    fn perform(
        &self,
        ops: &[Op],
        wait: Wait,
        deadline: Option<Instant>,
        signals: Option<u64>,
    ) -> SetResult<()> {
        // A starter that this supervisor knows to be dead must hold no lock any more.
        self.shared.await_deaths();
        let seq = self.seq.get() + 1;
        self.seq.set(seq);
        let mut object = self.shared.object();
        let mut performed =
            object.change(|ledger| ledger.operate(self.session, seq, (ops, wait), now()));
        if performed == Ok(Outcome::Sleeps) {
            let ticket = object.sleep(self.session, seq, ops);
            while object.is_asleep(ticket) {
                let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
                let is_signaled = signals.is_some_and(|it| it != self.shared.signals());
                if left == Some(Duration::ZERO) || is_signaled {
                    break;
                }
                object = self.shared.wait_changed(object, left);
            }
            performed = object.wake(ticket).unwrap_or(Ok(Outcome::NotNow));
        }
        drop(object);
        match performed {
            Ok(Outcome::Done) => {
                self.shared.wake_supervisors();
                self.shared.notify(Notice::Changed);
                Ok(())
            }
            Ok(Outcome::NotNow | Outcome::Sleeps) => Err(Refused::NotNow),
            Ok(Outcome::Gone | Outcome::OutOfRange) | Err(_) => Err(Refused::Gone),
        }
    }
}

impl SetCalls for &LifeCalls {
    type Limit = SleepLimit;

    async fn operate(self, ops: &[Op]) -> SetResult<()> {
        self.perform(ops, Wait::No, None, None)
    }

    async fn operate_within(self, ops: &[Op], limit: Duration) -> SetResult<()> {
        self.perform(ops, Wait::Yes, Instant::now().checked_add(limit), None)
    }

    async fn sleep(self, ops: &[Op], limit: &SleepLimit) -> SetResult<()> {
        let (deadline, signals) = (limit.deadline.get(), limit.signals.get());
        self.perform(ops, Wait::Yes, deadline, signals)
    }

    async fn values(self) -> SetResult<Values> {
        let object = self.shared.object();
        match object.is_removed() {
            true => Err(Refused::Gone),
            false => Ok(*object.values()),
        }
    }

    async fn remove(self) -> SetResult<()> {
        self.shared.remove();
        self.shared.notify(Notice::Changed);
        Ok(())
    }
}

/// A supervisor without children.
pub(super) struct Life<'a> {
    calls: LifeCalls,
    shared: &'a Shared,
    stop: StopSpec,
    begun: Instant,
    limit: SleepLimit,
}

impl<'a> Life<'a> {
    fn new(shared: &'a Arc<Shared>, role: u16, stop: StopSpec) -> Self {
        let own = shared.own;
        let owner = UndoOwner {
            pid: own.pid,
            start: own.start,
            role,
        };
        Self {
            calls: LifeCalls {
                shared: Arc::clone(shared),
                session: Session { owner, nonce: 1 },
                seq: Cell::new(0),
            },
            shared,
            stop,
            begun: Instant::now(),
            limit: SleepLimit::default(),
        }
    }

    pub(super) fn calls(&self) -> &LifeCalls {
        &self.calls
    }

    pub(super) fn shared(&self) -> &'a Shared {
        self.shared
    }

    pub(super) fn sleep_limit(&self) -> &SleepLimit {
        &self.limit
    }
}

impl<'a> SupervisorOps for &'a Life<'_> {
    type Calls = &'a LifeCalls;

    fn limit(&self) -> &SleepLimit {
        &self.limit
    }

    fn set_limit(&self, left: Option<Duration>) {
        self.limit.set(left);
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn stop_limit(&self) -> Duration {
        self.stop.limit()
    }

    async fn stop_instance(&self, instance: &Instance) -> bool {
        self.stop.stop_by_identity(instance)
    }

    async fn remove_files(&self) {
        self.shared.files.remove_service_files(&INSTANCE_FILES);
    }

    async fn remove_failure_note(&self) {
        self.shared.files.remove_service_files(&FAILURE_NOTE);
    }

    fn is_subreaper(&self) -> bool {
        false
    }

    fn has_exited(&self) -> bool {
        false
    }
}
