//! Forking a client process.

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Actor;
use crate::deadline::DEADLINE;
use crate::observe::Identity;
use crate::protocol::{Command, Reply};
use crate::shared::lock;

impl Actor {
    /// Forks the process. The child is a separate actor.
    ///
    /// # Panics
    ///
    /// Panics if the child does not connect before the deadline.
    #[must_use]
    #[track_caller]
    pub fn fork(&self) -> Self {
        let socket = self.shared.fresh_path("fork", "sock");
        let listener = UnixListener::bind(&socket).expect("bind a socket");
        let forked = self.call(Command::Fork { socket });
        assert!(matches!(forked, Reply::Forked { .. }), "fork: {forked:?}");
        let limit = Timespec::try_from(DEADLINE).expect("a short time");
        let ready = poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&limit));
        assert_eq!(ready.ok(), Some(1), "the forked child does not connect");
        let (stream, _) = listener.accept().expect("accept");
        let messages = stream.try_clone().expect("a second descriptor");
        let Reply::Forked { child } = forked else {
            unreachable!("asserted above");
        };
        let identity = Identity::of(child).expect("the forked child");
        lock(&self.shared.processes).push(identity);
        let mut actor = Self::new(identity, None, stream, messages, Arc::clone(&self.shared));
        // The child's copies of the parent's handles keep their numbers.
        let next = self.handles.load(Ordering::Relaxed);
        actor.handles = AtomicU32::new(next);
        actor.wait_ready();
        actor
    }
}
