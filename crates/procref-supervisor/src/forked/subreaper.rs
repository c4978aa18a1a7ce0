//! A supervisor that launches the service and is the parent of its processes.

#![expect(unsafe_code, reason = "descriptors of its own")]

use core::time::Duration;

use rustix::fd::RawFd;

use super::calls::{close, own_identity, write};
use super::children::for_each_child;
use super::entry::expect_ready;
use super::signals::{LIMIT, block_handled, handle_signals, wait_signal};
use crate::calls::{await_confirm, close_from, fork_here, last_errno};
use crate::channel::Message;
use crate::clock;
use crate::crash::{self, Point};
use crate::life::launch_and_watch;
use crate::log::LOG;
use crate::ops::{LaunchHandshake, SubreaperOps, SupervisorOps};
use crate::prepared::{ServiceSpec, SupervisorSpec};
use crate::process::SignalSafeProcess;
use crate::raw_calls::{Limit, RawCalls, keep_room};
use crate::state::{Ended, Identity, Instance};
use crate::tree::{ChildEvents, Tree, become_subreaper};

/// The supervisor's descriptor of the pipe to its starter, after [`keep_descriptors`] has moved it.
const REPORT: RawFd = 0;

pub(super) fn supervise(supervisor: &SupervisorSpec, service: &ServiceSpec) {
    let handshake = PendingSubreaper {
        supervisor,
        service,
    };
    expect_ready(launch_and_watch(supervisor.set, &handshake, service.launch));
}

/// A supervisor that will become the parent of a service.
struct PendingSubreaper<'a> {
    supervisor: &'a SupervisorSpec,
    service: &'a ServiceSpec,
}

impl PendingSubreaper<'_> {
    fn report(&self, message: Message) -> bool {
        write(self.supervisor.ready, &message.encode())
    }
}

impl<'a> LaunchHandshake for PendingSubreaper<'a> {
    type Subreaper = Subreaper<'a>;
    type Ops = SupervisorSpec;

    fn port(&self) -> u16 {
        self.service.port
    }

    fn report_blocked(&self) -> bool {
        self.report(Message::Blocked)
    }

    fn report_registered(&self) -> bool {
        self.report(Message::Registered(own_identity()))
    }

    fn report_launched(&self, instance: &Instance) -> bool {
        let message = Message::Launched {
            identity: instance.identity,
            port: instance.port,
        };
        write(REPORT, &message.encode())
    }

    async fn await_confirm(&self) -> bool {
        let [confirm, starters_end] = self.service.confirm;
        close(starters_end);
        await_confirm(confirm, self.service.starter)
    }

    async fn fork(&self) -> Option<Subreaper<'a>> {
        let Self {
            supervisor,
            service,
        } = *self;
        become_subreaper();
        handle_signals();
        keep_room();
        let parent = rustix::process::getpid().as_raw_nonzero().get();
        let pid = match fork_here() {
            0 => service.program.run(parent, || {}),
            pid => u32::try_from(pid).unwrap_or(0),
        };
        if pid == 0 {
            self.report(Message::ForkFailed(last_errno()));
            return None;
        }
        crash::point(Point::ServiceForked);
        keep_descriptors(supervisor.ready, service.log_file);
        // Without `/proc`, there is no start time. The gate stays closed, so the child exits.
        let start = SignalSafeProcess::start_of(pid).ok()?;
        let child = Identity { pid, start };
        Some(Subreaper {
            supervisor,
            tree: Tree::new(Signals, supervisor.stop, &service.log, child),
        })
    }

    fn close(&self) {
        close_from(0);
    }

    fn ops(&self) -> &SupervisorSpec {
        self.supervisor
    }
}

/// The parent of a service's processes.
pub(super) struct Subreaper<'a> {
    supervisor: &'a SupervisorSpec,
    tree: Tree<'a, Signals>,
}

/// SIGCHLD and SIGIO, while they are blocked.
struct Signals;

impl ChildEvents for Signals {
    fn expect(&self) {
        block_handled();
    }

    fn wait(&self, time: Duration) {
        wait_signal(time);
    }

    fn for_each_child(&self, call: &mut dyn FnMut(i32)) -> Option<()> {
        for_each_child(call)
    }
}

impl SupervisorOps for Subreaper<'_> {
    type Calls = RawCalls;

    fn limit(&self) -> &Limit {
        &LIMIT
    }

    fn set_limit(&self, left: Option<Duration>) {
        LIMIT.set(left);
        // Set the limit before the check of the log, and again after it. A write that is reported after the
        // first step ends the sleep. The check detects earlier writes.
        if let Some(pause) = self.tree.check_log() {
            LIMIT.set(Some(left.map_or(pause, |left| left.min(pause))));
        }
    }

    fn now(&self) -> Duration {
        clock::now()
    }

    fn stop_limit(&self) -> Duration {
        self.supervisor.stop.limit()
    }

    async fn stop_instance(&self, instance: &Instance) -> bool {
        match instance.identity == self.tree.child() {
            true => self.tree.stop_all(),
            false => self.supervisor.stop.stop_by_identity(instance),
        }
    }

    async fn remove_files(&self) {
        self.supervisor.unlink_files();
    }

    async fn remove_failure_note(&self) {
        self.supervisor.unlink_failure_note();
    }

    fn is_subreaper(&self) -> bool {
        true
    }

    fn has_exited(&self) -> bool {
        self.tree.has_exited()
    }
}

impl SubreaperOps for Subreaper<'_> {
    fn child(&self) -> Identity {
        self.tree.child()
    }

    fn exit_status(&self) -> Option<Ended> {
        self.tree.exit_status()
    }

    fn report_exit(&self) {
        if let Some(ended) = self.tree.exit_status() {
            write(REPORT, &Message::Exited(ended).encode());
        }
    }

    fn report_tree_exited(&self) {
        write(REPORT, &Message::TreeExited.encode());
    }

    fn close_report(&self) {
        self.tree.set_served();
        close(REPORT);
    }

    async fn stop_leftovers(&self) {
        self.tree.stop_leftovers();
    }

    async fn stop_tree(&self) {
        self.tree.stop_all();
    }
}

/// Moves the pipe and the log to their numbers, and closes all other descriptors of the starter.
fn keep_descriptors(report: RawFd, log: RawFd) {
    // Copy both to free numbers first, because each may have the number that the other one needs.
    let above = LOG + 1;
    let kept = [report, log].map(|fd| {
        // SAFETY: no pointers are passed. The new descriptor has a number that was free.
        unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) }
    });
    for (fd, place) in kept.into_iter().zip([REPORT, LOG]) {
        // SAFETY: no pointers are passed. The descriptor that is replaced was the starter's, and no code of this
        // process uses it.
        unsafe { libc::dup3(fd, place, libc::O_CLOEXEC) };
    }
    close_from(above);
}
