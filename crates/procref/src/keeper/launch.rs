//! A supervisor that launches a service, on a thread of the keeper.
//!
//! The process of the service is a child of the keeper, and the code between fork and exec is that of a forked
//! supervisor. A keeper has one service at a time: the next supervisor waits in `supervise_tree` until the processes of
//! the last one have exited, and takes [`Shared::tree`] before it forks.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use procref_supervisor::calls::{await_confirm, last_errno};
use procref_supervisor::channel::Message;
use procref_supervisor::crash::{self, Point};
use procref_supervisor::life::launch_and_watch;
use procref_supervisor::ops::{LaunchHandshake, SubreaperOps, SupervisorOps};
use procref_supervisor::prepared::LogSpec;
use procref_supervisor::semset::signal_safe::SignalSafeSet;
use procref_supervisor::tree::{ChildEvents, Tree};
use rustix::fs::{Mode, RawMode};

use super::children::Members;
use super::life::{self, Life, LifeCalls, SleepLimit};
use super::program::{self, ProgramMemory};
use super::shared::Shared;
use crate::kernel::counted::order::LaunchOrder;
use crate::kernel::counted::sys::spare;
use crate::kernel::{Ended, Instance};
use crate::process::{Identity, SignalSafeProcess};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

/// The longest time from the end of a dying starter's pipe to the report of its death.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);

/// The descriptors that come with an order, in this order.
pub(super) struct Ends {
    /// The pipe on which the starter is told what happens.
    report: OwnedFd,
    pub(super) gate: OwnedFd,
    pub(super) exec_status: OwnedFd,
    confirm: OwnedFd,
    pub(super) null: OwnedFd,
    pub(super) log: OwnedFd,
    pub(super) listener: Option<OwnedFd>,
    /// Readable when the starter has exited.
    starter: Option<OwnedFd>,
}

impl Ends {
    /// Returns `None` if descriptors are missing.
    pub(super) fn new(
        fds: impl IntoIterator<Item = OwnedFd>,
        has_listener: bool,
        has_starter: bool,
    ) -> Option<Self> {
        let mut fds = fds.into_iter();
        let optional = |is_there: bool, fds: &mut dyn Iterator<Item = OwnedFd>| match is_there {
            true => fds.next().map(Some),
            false => Some(None),
        };
        Some(Self {
            report: fds.next()?,
            gate: fds.next()?,
            exec_status: fds.next()?,
            confirm: fds.next()?,
            null: fds.next()?,
            log: fds.next()?,
            listener: optional(has_listener, &mut fds)?,
            starter: optional(has_starter, &mut fds)?,
        })
    }
}

/// The pipe to the starter. `None` after the starter has published the service.
type Report = RefCell<Option<OwnedFd>>;

/// Starts a supervisor that launches a service.
pub(super) fn start(
    shared: &Arc<Shared>,
    role: u16,
    starter: Identity,
    order: LaunchOrder,
    mut ends: Ends,
) -> io::Result<()> {
    ends.starter = sys::watch_starter(ends.starter.take(), starter)?;
    life::on_thread(shared, role, order.spec.stop, move |life| {
        crash::point(Point::AttendantStarted);
        crash::point(Point::SupervisorStarted);
        let log = program::log_spec(&order);
        let report = RefCell::new(ends.report.try_clone().ok());
        let handshake = Handshake {
            life,
            starter,
            order: &order,
            log: &log,
            ends: RefCell::new(Some(ends)),
            report: &report,
        };
        let set = SignalSafeSet::new(life.calls());
        pollster::block_on(launch_and_watch(set, &handshake, order.spec));
        // A forked process of the starter may have a copy of the pipe, so its end alone reports nothing.
        send(&report, Message::SupervisorExited);
    })
}

fn send(report: &Report, message: Message) -> bool {
    let bytes = message.encode();
    let report = report.borrow();
    let written = report.as_ref().map(|fd| rustix::io::write(fd, &bytes));
    written == Some(Ok(bytes.len()))
}

/// A supervisor that will launch a service.
struct Handshake<'a> {
    life: &'a Life<'a>,
    starter: Identity,
    order: &'a LaunchOrder,
    log: &'a LogSpec,
    /// `None` after the fork.
    ends: RefCell<Option<Ends>>,
    report: &'a Report,
}

impl<'a> LaunchHandshake for Handshake<'a> {
    type Subreaper = KeeperTree<'a>;
    type Ops = &'a Life<'a>;

    fn port(&self) -> u16 {
        self.order.port
    }

    fn report_blocked(&self) -> bool {
        send(self.report, Message::Blocked)
    }

    fn report_registered(&self) -> bool {
        send(self.report, Message::Registered(self.life.shared().own))
    }

    fn report_launched(&self, instance: &Instance) -> bool {
        let message = Message::Launched {
            identity: instance.identity,
            port: instance.port,
        };
        send(self.report, message)
    }

    async fn await_confirm(&self) -> bool {
        let ends = self.ends.borrow();
        ends.as_ref().is_some_and(|ends| {
            let starter = ends.starter.as_ref().map_or(-1, |fd| fd.as_raw_fd());
            await_confirm(ends.confirm.as_raw_fd(), starter)
        })
    }

    /// The kernel closes the pipes of a dying process before it reports the death to the keeper. A starter that has only
    /// cancelled the start cleans up itself.
    async fn await_release(&self) {
        let shared = self.life.shared();
        let begun = Instant::now();
        let mut object = shared.object();
        while object.has_entries(self.starter) && SignalSafeProcess::is_exiting(self.starter.pid) {
            let left = RELEASE_LIMIT.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            object = shared.wait_changed(object, Some(left));
        }
    }

    async fn fork(&self) -> Option<KeeperTree<'a>> {
        let ends = self.ends.take()?;
        let guard = self.life.shared().tree();
        // `Log` uses the log by this number.
        rustix::stdio::dup2_stdout(&ends.log).ok()?;
        let mut memory = ProgramMemory::new(self.order);
        let program = memory.program(self.order, &ends);
        if let Some(mask) = self.order.umask {
            rustix::process::umask(Mode::from_bits_truncate((mask & 0o777) as RawMode));
        }
        let pid = u32::try_from(sys::fork(&program, self.order)).unwrap_or(0);
        if pid == 0 {
            send(self.report, Message::ForkFailed(last_errno()));
            return None;
        }
        crash::point(Point::ServiceForked);
        // On Linux without `/proc`, there is no start time. The gate stays closed, so the child exits.
        let start = SignalSafeProcess::start_of(pid).ok()?;
        let child = Identity { pid, start };
        let events = Signals {
            shared: self.life.shared(),
            seen: Cell::new(0),
            members: Members::new(child, self.order),
        };
        Some(KeeperTree {
            life: self.life,
            tree: Tree::new(events, self.order.spec.stop, self.log, child),
            report: self.report,
            guard: RefCell::new(Some(guard)),
        })
    }

    fn close(&self) {
        self.ends.take();
        self.report.take();
    }

    fn ops(&self) -> &&'a Life<'a> {
        &self.life
    }
}

/// The signals of the keeper, which its serving thread passes on.
struct Signals<'a> {
    shared: &'a Shared,
    /// The number of signals before the last check.
    seen: Cell<u64>,
    members: Members,
}

impl ChildEvents for Signals<'_> {
    fn expect(&self) {
        self.seen.set(self.shared.signals());
    }

    fn wait(&self, time: Duration) {
        self.seen
            .set(self.shared.wait_signal(self.seen.get(), time));
    }

    fn for_each_child(&self, call: &mut dyn FnMut(i32)) -> Option<()> {
        self.members.for_each(call)
    }
}

/// The parent of a service's processes.
struct KeeperTree<'a> {
    life: &'a Life<'a>,
    tree: Tree<'a, Signals<'a>>,
    report: &'a Report,
    /// Excludes the supervisor of the next instance from the children of this process. `None` after this supervisor has
    /// left the tree.
    guard: RefCell<Option<MutexGuard<'a, ()>>>,
}

impl KeeperTree<'_> {
    /// Returns `true` if the children of this process are those of this supervisor.
    fn has_children(&self) -> bool {
        self.guard.borrow().is_some()
    }
}

impl Drop for KeeperTree<'_> {
    fn drop(&mut self) {
        self.leave_tree();
    }
}

impl<'a> SupervisorOps for KeeperTree<'a> {
    type Calls = &'a LifeCalls;

    fn limit(&self) -> &SleepLimit {
        self.life.sleep_limit()
    }

    fn set_limit(&self, left: Option<Duration>) {
        let limit = self.limit();
        limit.set(left);
        limit.end_after_signal(self.life.shared().signals());
        // A write that is reported after this check ends the sleep.
        let pause = self.has_children().then(|| self.tree.check_log());
        if let Some(pause) = pause.flatten() {
            limit.set(Some(left.map_or(pause, |left| left.min(pause))));
        }
    }

    fn now(&self) -> Duration {
        self.life.now()
    }

    fn stop_limit(&self) -> Duration {
        self.life.stop_limit()
    }

    async fn stop_instance(&self, instance: &Instance) -> bool {
        match instance.identity == self.tree.child() && self.has_children() {
            true => self.tree.stop_all(),
            false => self.life.stop_instance(instance).await,
        }
    }

    async fn remove_files(&self) {
        self.life.remove_files().await;
    }

    async fn remove_failure_note(&self) {
        self.life.remove_failure_note().await;
    }

    fn is_subreaper(&self) -> bool {
        true
    }

    fn has_exited(&self) -> bool {
        match self.has_children() {
            true => self.tree.has_exited(),
            false => true,
        }
    }
}

impl SubreaperOps for KeeperTree<'_> {
    fn child(&self) -> Identity {
        self.tree.child()
    }

    fn exit_status(&self) -> Option<Ended> {
        self.tree.exit_status()
    }

    fn report_exit(&self) {
        if let Some(ended) = self.tree.exit_status() {
            send(self.report, Message::Exited(ended));
        }
    }

    fn report_tree_exited(&self) {
        send(self.report, Message::TreeExited);
    }

    fn close_report(&self) {
        self.tree.set_served();
        self.report.take();
    }

    async fn stop_leftovers(&self) {
        self.tree.stop_leftovers();
    }

    async fn stop_tree(&self) {
        if self.has_children() {
            self.tree.stop_all();
        }
    }

    fn leave_tree(&self) {
        let guard = self.guard.take();
        // The log would stay open otherwise.
        if let (Some(_guard), Ok(null)) = (guard, spare()) {
            let _ = rustix::stdio::dup2_stdout(null);
        }
    }
}
