//! The life of a supervisor, on a thread of the keeper.
//!
//! The life itself is that of `procref-supervisor`, which also runs in a forked process on other kernels. Here its steps
//! are arrays on the ledger. Each life has its own role, and so its own adjustments.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use procref_supervisor::crash::{self, Point};
use procref_supervisor::life::watch;
use procref_supervisor::ops::SupervisorOps;
use procref_supervisor::semset::signal_safe::{Refused, SetCalls, SetResult, SignalSafeSet};
use procref_supervisor::spec::{KILL_TIMEOUT, StopSpec};
use rustix::process::Signal;

use super::shared::{Notice, Shared, now};
use super::{entry, start};
use crate::kernel::Instance;
use crate::kernel::counted::ledger::Session;
use crate::kernel::counted::wire::Reply;
use crate::kernel::semset::{Op, Values, Wait};
use crate::kernel::table::{Outcome, UndoOwner};
use crate::process::SignalSafeProcess;

/// The life needs little stack.
const STACK: usize = 256 << 10;

/// The endings of the files that are removed with an instance: the record, its draft, the log and the older log.
const INSTANCE_FILES: [&str; 4] = [".json", ".tmp", ".log", ".log.1"];
/// The ending of the note of failed starts.
const FAILURE_NOTE: [&str; 1] = [".failed"];

/// Starts a supervisor for a client, and answers the client when the supervisor is counted.
pub(super) fn start(
    shared: &Arc<Shared>,
    role: u16,
    connection: u64,
    stop: StopSpec,
) -> io::Result<()> {
    let shared = Arc::clone(shared);
    let builder = thread::Builder::new().name("supervisor".to_owned());
    let thread = builder.stack_size(STACK).spawn(move || {
        let _exit_on_panic = ExitOnPanic;
        let life = Life::new(&shared, role, stop);
        let set = SignalSafeSet::new(&life.calls);
        pollster::block_on(async {
            let counted = set.supervise().await;
            crash::point(Point::SupervisorRegistered);
            let reply = match counted {
                Ok(()) => Reply::Done,
                Err(Refused::NotNow) => Reply::NotNow,
                Err(Refused::Gone) => Reply::Gone,
            };
            shared.notify(Notice::Supervised { connection, reply });
            if counted.is_ok() {
                watch(set, &&life).await;
            }
        });
        // As the exit of a supervisor's process does.
        shared.ledger().end_owner(life.calls.session.owner, now());
        shared.wake_supervisors();
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
struct LifeCalls {
    shared: Arc<Shared>,
    session: Session,
    seq: Cell<u64>,
}

/// The end of a supervisor's sleep. `None` means that only the object ends it.
#[derive(Default)]
struct SleepLimit(RefCell<Option<Instant>>);

impl SleepLimit {
    fn set(&self, left: Option<Duration>) {
        // A time that the clock cannot represent never comes.
        self.0
            .replace(left.and_then(|left| Instant::now().checked_add(left)));
    }
}

impl LifeCalls {
    /// Performs an array, and sleeps until that is possible or the deadline has passed.
    fn perform(&self, ops: &[Op], wait: Wait, deadline: Option<Instant>) -> SetResult<()> {
        let seq = self.seq.get() + 1;
        self.seq.set(seq);
        let mut ledger = self.shared.ledger();
        loop {
            match ledger.operate(self.session, seq, (ops, wait), now()) {
                Ok(Outcome::Done) => {
                    drop(ledger);
                    self.shared.wake_supervisors();
                    self.shared.notify(Notice::Changed);
                    return Ok(());
                }
                Ok(Outcome::Sleeps) => {}
                Ok(Outcome::NotNow) => return Err(Refused::NotNow),
                Ok(Outcome::Gone | Outcome::OutOfRange) | Err(_) => return Err(Refused::Gone),
            }
            let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(Refused::NotNow);
            }
            ledger = self.shared.wait_changed(ledger, left);
        }
    }
}

impl SetCalls for &LifeCalls {
    type Limit = SleepLimit;

    async fn operate(self, ops: &[Op]) -> SetResult<()> {
        self.perform(ops, Wait::No, None)
    }

    async fn operate_within(self, ops: &[Op], limit: Duration) -> SetResult<()> {
        self.perform(ops, Wait::Yes, Instant::now().checked_add(limit))
    }

    async fn sleep(self, ops: &[Op], limit: &SleepLimit) -> SetResult<()> {
        let deadline = *limit.0.borrow();
        self.perform(ops, Wait::Yes, deadline)
    }

    async fn values(self) -> SetResult<Values> {
        let ledger = self.shared.ledger();
        match ledger.is_removed() {
            true => Err(Refused::Gone),
            false => Ok(*ledger.values()),
        }
    }

    async fn remove(self) -> SetResult<()> {
        self.shared.remove();
        self.shared.wake_supervisors();
        self.shared.notify(Notice::Changed);
        Ok(())
    }
}

/// A supervisor of a service that a callback starts.
struct Life<'a> {
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
        if instance.identity.pid == 0 {
            return true;
        }
        let signal = Signal::from_named_raw(self.stop.signal).unwrap_or(Signal::TERM);
        match SignalSafeProcess::find(instance.identity) {
            Ok(Some(process)) => process.end(signal, self.stop.grace, KILL_TIMEOUT),
            Ok(None) => true,
            Err(_) => false,
        }
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
