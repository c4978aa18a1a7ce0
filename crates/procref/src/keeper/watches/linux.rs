//! The deaths of clients on Linux: by pidfds.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use procref_supervisor::process::{has_exited, open_pidfd};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::{Identified, key};
use crate::keeper::is_reserved;
use crate::process::{self, Identity};

/// Time between two checks of processes without a pidfd.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// The processes whose exit a keeper must notice.
///
/// The kernel makes a pidfd readable before waitpid(2) in the parent can return. If pidfds are not available, the keeper
/// reads the start times of the processes every 5 ms, and before each request.
pub(in crate::keeper) struct Watches {
    /// An event queue that contains only pidfds, so that it can be read by itself.
    events: OwnedFd,
    pidfds: BTreeMap<Identified, (u64, Option<OwnedFd>)>,
    tokens: BTreeMap<u64, Identity>,
    next: u64,
    without_pidfd: usize,
    uses_pidfds: bool,
}

impl Watches {
    pub(in crate::keeper) fn new() -> io::Result<Self> {
        Ok(Self {
            events: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            pidfds: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next: 0,
            without_pidfd: 0,
            uses_pidfds: !is_without_pidfds(),
        })
    }

    pub(in crate::keeper) fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Returns the time after which [`take_dead`](Self::take_dead) must be called again without an event.
    pub(in crate::keeper) fn retry_after(&self) -> Option<Duration> {
        (self.without_pidfd > 0).then_some(RETRY_AFTER)
    }

    /// Watches a process. Returns `false` if it has exited.
    pub(in crate::keeper) fn watch(&mut self, process: Identity) -> bool {
        if self.pidfds.contains_key(&key(process)) {
            return true;
        }
        // The pidfd is opened before the start time is read. If the start time is right, the pidfd refers to this
        // process, or reports its exit.
        let pidfd = match self.uses_pidfds.then(|| open_pidfd(process.pid)) {
            Some(Ok(pidfd)) => pidfd,
            Some(Err(Errno::SRCH | Errno::INVAL)) => return false,
            // This process may have no free descriptor.
            Some(Err(_)) | None => None,
        };
        let is_it = process::is_identity_alive(process);
        if !is_it || pidfd.as_ref().is_some_and(has_exited) {
            return false;
        }
        let token = self.next;
        let data = epoll::EventData::new_u64(token);
        let add = |fd: &OwnedFd| epoll::add(&self.events, fd, data, epoll::EventFlags::IN);
        let watched = pidfd.filter(|fd| !is_reserved(fd) && add(fd).is_ok());
        self.next += 1;
        self.without_pidfd += usize::from(watched.is_none());
        self.tokens.insert(token, process);
        self.pidfds.insert(key(process), (token, watched));
        true
    }

    pub(in crate::keeper) fn forget(&mut self, process: Identity) {
        if let Some((token, pidfd)) = self.pidfds.remove(&key(process)) {
            self.tokens.remove(&token);
            self.without_pidfd -= usize::from(pidfd.is_none());
        }
    }

    /// Returns the processes that have exited, and forgets them.
    pub(in crate::keeper) fn take_dead(&mut self) -> Vec<Identity> {
        const NONE: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut dead = Vec::new();
        if self.without_pidfd < self.pidfds.len() {
            let mut ready = Vec::with_capacity(64);
            // At most one round of events. The next call returns the rest, and is made before each request.
            loop {
                ready.clear();
                let buffer = rustix::buffer::spare_capacity(&mut ready);
                let count = epoll::wait(&self.events, buffer, Some(&NONE)).unwrap_or(0);
                let found: Vec<Identity> = ready
                    .iter()
                    .filter_map(|event| self.tokens.get(&event.data.u64()).copied())
                    .collect();
                // The descriptors leave the queue, so that the loop ends.
                found.iter().for_each(|&process| self.forget(process));
                dead.extend(found);
                if count < 64 {
                    break;
                }
            }
        }
        if self.without_pidfd > 0 {
            let unwatched: Vec<Identity> = self
                .pidfds
                .iter()
                .filter(|(_, (_, pidfd))| pidfd.is_none())
                .map(|(&(pid, start), _)| Identity { pid, start })
                // An error says nothing about the process: this one may have no free descriptor.
                .filter(|&process| matches!(process::find(process), Ok(None)))
                .collect();
            unwatched.iter().for_each(|&process| self.forget(process));
            dead.extend(unwatched);
        }
        dead
    }
}

/// Returns `true` if a test has chosen a keeper without pidfds.
fn is_without_pidfds() -> bool {
    #[cfg(test)]
    return std::env::var_os(crate::kernel::counted::helper::tests::NO_PIDFD).is_some();
    #[cfg(not(test))]
    false
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;
    use crate::process::Process;

    /// The name of the test whose process has no free descriptor.
    const WITHOUT_DESCRIPTORS: &str =
        "keeper::watches::linux::tests::client_stays_alive_in_a_keeper_without_free_descriptors";

    #[test]
    fn client_without_pidfd_stays_alive_if_no_descriptor_is_free() {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.args([WITHOUT_DESCRIPTORS, "--exact", "--ignored"]);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
    }

    #[test]
    #[ignore = "changes the limit of its process; another test executes it"]
    fn client_stays_alive_in_a_keeper_without_free_descriptors() {
        let own = Process::open(std::process::id()).unwrap().identity();
        let mut watches = Watches::new().unwrap();
        watches.uses_pidfds = false;
        assert!(watches.watch(own));
        let limit = getrlimit(Resource::Nofile);
        let none = Rlimit {
            current: Some(0),
            ..limit
        };
        setrlimit(Resource::Nofile, none).unwrap();
        let dead = watches.take_dead();
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(dead, []);
        assert_eq!(watches.without_pidfd, 1);
    }
}
