//! The first code after the fork, and the supervisor of a service that a callback starts.

#![expect(unsafe_code, reason = "the data in memory that this process keeps")]

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use super::calls::{exit, name_process, own_identity, unmap_dispensable, write, write_title};
use super::{attendant, subreaper};
use crate::calls::{close_from, fork_here};
use crate::channel::Message;
use crate::clock;
use crate::crash::{self, Point};
use crate::life::watch;
use crate::ops::SupervisorOps;
use crate::prepared::{SupervisorSpec, Text};
use crate::raw_calls::{Limit, RawCalls, keep_room};
use crate::state::Instance;

/// Leaves the session of the starter, forks the supervisor, and becomes its attendant.
pub extern "C" fn first_child(spec: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the starter passes a pointer to an initialized `SupervisorSpec` in the arena. This process has a copy of
    // the arena, never unmaps it, and has no other thread that could write to it.
    let spec = unsafe { &*spec.cast::<SupervisorSpec>() };
    let _ = rustix::process::setsid();
    // Set the name before the fork, so that the supervisor always has it. A supervisor that waits for its
    // children recognizes other supervisors by their name, and would wait for a supervisor without a name.
    name_process(spec);
    crash::point(Point::AttendantStarted);
    // Unmap the memory before the fork. Otherwise the fork would copy the page tables of all of it once more, and both
    // processes would unmap it.
    unmap_dispensable(spec);
    match fork_here() {
        0 => supervise(spec),
        child => attendant::attend(spec, child),
    }
}

fn supervise(spec: &SupervisorSpec) -> ! {
    let _ = rustix::process::chdir(c"/");
    write_title(spec);
    crash::point(Point::SupervisorStarted);
    if let Some(service) = &spec.service {
        subreaper::supervise(spec, service);
        exit();
    }
    if expect_ready(spec.set.supervise()).is_err() {
        exit();
    }
    crash::point(Point::SupervisorRegistered);
    let reported = write(spec.ready, &Message::Registered(own_identity()).encode());
    crash::point(Point::SupervisorReported);
    close_from(0);
    keep_room();
    if reported {
        expect_ready(watch(spec.set, spec));
    }
    exit()
}

/// Polls a future once, and exits if it is pending. On Linux every step blocks in its system call, so no
/// future is ever pending.
pub(super) fn expect_ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => exit(),
    }
}

impl SupervisorSpec {
    pub(super) fn unlink_files(&self) {
        self.unlink(&self.files);
    }

    pub(super) fn unlink_failure_note(&self) {
        self.unlink(&[self.failure_note]);
    }

    fn unlink(&self, files: &[Text]) {
        let same_dir = rustix::fs::lstat(self.dir.as_c_str())
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.dir_identity);
        if same_dir {
            for file in files {
                let _ = rustix::fs::unlink(file.as_c_str());
            }
        }
    }
}

impl SupervisorOps for SupervisorSpec {
    type Calls = RawCalls;

    fn limit(&self) -> &Limit {
        // All signals are blocked in this process, so no handler ends the sleep early.
        static LIMIT: Limit = Limit::new();
        &LIMIT
    }

    fn set_limit(&self, left: Option<Duration>) {
        self.limit().set(left);
    }

    fn now(&self) -> Duration {
        clock::now()
    }

    fn stop_limit(&self) -> Duration {
        self.stop.limit()
    }

    async fn stop_instance(&self, instance: &Instance) -> bool {
        self.stop.stop_by_identity(instance)
    }

    async fn remove_files(&self) {
        self.unlink_files();
    }

    async fn remove_failure_note(&self) {
        self.unlink_failure_note();
    }

    fn is_subreaper(&self) -> bool {
        false
    }

    fn has_exited(&self) -> bool {
        false
    }
}
