//! The processes of a service on macOS, which has no subreapers: found among all processes of this user.

#![expect(unsafe_code, reason = "proc_pidinfo and getsid have no safe wrapper")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::mem;
use std::os::unix::ffi::OsStringExt as _;

use procref_supervisor::process::ProcessInfo;

use super::origin::{Candidate, members};
use crate::keeper::signals::watch_member;
use crate::kernel::counted::order::LaunchOrder;
use crate::launch::own_start;
use crate::process::macos::{arguments, list};
use crate::process::{self, Identity};

/// The processes of a service.
///
/// A process belongs to the service in one of these cases:
///
/// - It is in the process group or in the session of the service's main process, which has its own.
/// - A process of the service has forked it, also if that one has exited. The kernel keeps a number of each process that is
///   never reused, and that of its first parent.
/// - Its environment has the mark of this start.
///
/// So a process escapes if it has its own session, has another environment, and lost its parent before the parent was found.
pub(in crate::keeper) struct Members {
    child: Identity,
    /// The value of the variable that marks the processes of this start.
    mark: Option<OsString>,
    /// The numbers of the processes that were found.
    known: RefCell<BTreeSet<u64>>,
}

impl Members {
    pub(in crate::keeper) fn new(child: Identity, order: &LaunchOrder) -> Self {
        let mark = order.env.iter().find_map(|variable| {
            let value = variable
                .to_bytes()
                .strip_prefix(own_start::STARTING.as_bytes())?;
            Some(OsString::from_vec(value.strip_prefix(b"=")?.to_vec()))
        });
        let number = numbers(child.pid).map(|(number, _)| number);
        Self {
            child,
            mark,
            known: RefCell::new(number.into_iter().collect()),
        }
    }

    /// Calls `call` for each process of the service, except keepers of other services. Returns `None` if the processes
    /// cannot be listed.
    ///
    /// The exit of each of these processes is an event of the keeper from now on.
    pub(in crate::keeper) fn for_each(&self, call: &mut dyn FnMut(i32)) -> Option<()> {
        let own = std::process::id();
        let is_led = self.is_leader_unique();
        let candidates = list::own_user()?
            .into_iter()
            // The children of a keeper belong to another service, so it must not become known.
            .filter(|&pid| pid != own && !process::is_supervisor(pid))
            .filter_map(|pid| self.candidate(pid, is_led));
        let mut known = self.known.borrow_mut();
        for pid in members(candidates.collect(), &mut known) {
            watch_member(pid);
            call(pid as i32);
        }
        Some(())
    }

    /// Returns `false` if another process has the pid of the service's main process, which has exited. Then a group with
    /// that number is another one.
    fn is_leader_unique(&self) -> bool {
        ProcessInfo::of(self.child.pid).map_or(true, |info| info.start == self.child.start)
    }

    fn candidate(&self, pid: u32, is_led: bool) -> Option<Candidate> {
        let info = ProcessInfo::of(pid).ok()?;
        // A process whose numbers are unknown has no known parent.
        let (number, parent) = numbers(pid).unwrap_or((0, 0));
        let in_group = info.group == self.child.pid || session_of(pid) == Some(self.child.pid);
        Some(Candidate {
            pid,
            number,
            parent,
            is_marked: is_led && in_group || self.has_mark(pid),
        })
    }

    fn has_mark(&self, pid: u32) -> bool {
        let Some(mark) = &self.mark else {
            return false;
        };
        arguments::variable(pid, own_start::STARTING).as_ref() == Some(mark)
    }
}

fn session_of(pid: u32) -> Option<u32> {
    // SAFETY: no pointers are passed.
    u32::try_from(unsafe { libc::getsid(pid as libc::pid_t) }).ok()
}

/// `struct proc_uniqidentifierinfo`, which Apple's public headers do not contain.
#[repr(C)]
struct UniqueIds {
    uuid: [u8; 16],
    own: u64,
    parent: u64,
    reserved: [u64; 3],
}

const _: () = assert!(size_of::<UniqueIds>() == 56);

/// Returns the number of a process that is never reused, and that of the process that has forked it.
fn numbers(pid: u32) -> Option<(u64, u64)> {
    /// `PROC_PIDUNIQIDENTIFIERINFO`.
    const FLAVOR: libc::c_int = 17;
    const SIZE: libc::c_int = size_of::<UniqueIds>() as libc::c_int;

    // SAFETY: all fields are integers, for which zeros are valid values.
    let mut ids: UniqueIds = unsafe { mem::zeroed() };
    // SAFETY: the call writes at most `SIZE` bytes to `ids`, which is borrowed by nothing else.
    let written =
        unsafe { libc::proc_pidinfo(pid as libc::c_int, FLAVOR, 0, (&raw mut ids).cast(), SIZE) };
    (written == SIZE).then_some((ids.own, ids.parent))
}
