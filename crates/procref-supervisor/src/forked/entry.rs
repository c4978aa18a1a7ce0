//! Where a supervisor begins, and the life of one that is not the parent of its service.

#![expect(unsafe_code, reason = "the plan in memory that this process keeps")]

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use super::calls::{drop_memory, exit, name_process, own_identity, write, write_title};
use super::{attendant, subreaper};
use crate::calls::{close_from, fork_here};
use crate::channel::Message;
use crate::clock;
use crate::crash::{self, Point};
use crate::life::{SupervisorOps, watch};
use crate::prepared::SupervisorSpec;
use crate::process::SignalSafeProcess;
use crate::raw_calls::{Limit, RawCalls};
use crate::spec::KILL_TIMEOUT;
use crate::state::Identity;
use crate::state::Instance;
use rustix::process::Signal;

/// Leaves the session, forks the supervisor, and attends it.
pub extern "C" fn first_child(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `plan` points to a `SupervisorSpec` in the arena, of which this process has a copy.
    let plan = unsafe { &*plan.cast::<SupervisorSpec>() };
    let _ = rustix::process::setsid();
    // Here, so that the supervisor has its name from its first instruction: a process that waits for all its
    // children tells supervisors by it, and would wait for a supervisor that it has taken for another process.
    name_process(plan);
    crash::point(Point::AttendantStarted);
    match fork_here() {
        0 => supervise(plan),
        child => attendant::attend(plan, child),
    }
}

fn supervise(plan: &SupervisorSpec) -> ! {
    let _ = rustix::process::chdir(c"/");
    write_title(plan);
    crash::point(Point::SupervisorStarted);
    if let Some(service) = &plan.service {
        subreaper::supervise(plan, service);
        exit();
    }
    if expect_ready(plan.set.supervise()).is_err() {
        exit();
    }
    crash::point(Point::SupervisorRegistered);
    drop_memory(plan);
    let told = write(plan.ready, &Message::Registered(own_identity()).encode());
    crash::point(Point::SupervisorReported);
    close_from(0);
    if told {
        expect_ready(watch(plan.set, plan));
    }
    exit()
}

/// Runs what is written as `async` for the model's sake. Here each of its steps blocks and is never pending,
/// so one poll is all; the future is on this stack.
pub fn expect_ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => exit(),
    }
}

impl SupervisorSpec {
    pub fn end_by_identity(&self, instance: &Instance) -> bool {
        let Identity { pid, .. } = instance.identity;
        if pid == 0 {
            return true;
        }
        let signal = Signal::from_named_raw(self.stop.signal).unwrap_or(Signal::TERM);
        match SignalSafeProcess::find(instance.identity) {
            Ok(Some(process)) => process.end(signal, self.stop.grace, KILL_TIMEOUT),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    pub fn unlink_files(&self) {
        let same_dir = rustix::fs::lstat(self.dir.as_c_str())
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.dir_identity);
        if same_dir {
            for file in &self.files {
                let _ = rustix::fs::unlink(file.as_c_str());
            }
        }
    }
}

impl SupervisorOps for SupervisorSpec {
    type Calls = RawCalls;

    fn limit(&self) -> &Limit {
        // Its signals are all blocked, so nothing ends it early.
        static LIMIT: Limit = Limit::new();
        &LIMIT
    }

    fn set_limit(&self, left: Option<Duration>) {
        self.limit().set(left);
    }

    fn now(&self) -> Duration {
        clock::now()
    }

    fn end_limit(&self) -> Duration {
        self.stop.limit()
    }

    async fn end(&self, instance: &Instance) -> bool {
        self.end_by_identity(instance)
    }

    async fn remove_files(&self) {
        self.unlink_files();
    }

    fn is_parent(&self) -> bool {
        false
    }

    fn has_exited(&self) -> bool {
        false
    }
}
