//! The commands that exist only on Unix: `fork`, `exec` and the file mode creation mask.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::Arc;

use procref_testkit::observe;
use procref_testkit::process::Forked;
use procref_testkit::protocol::Reply;
use rustix::fs::Mode;

use crate::output::Output;
use crate::reply;
use crate::state::{ActorState, lock};

impl ActorState {
    /// Runs `body` with all locks of the state held, so that a fork copies no lock that another thread holds.
    fn with_all_locked<T>(&self, body: impl FnOnce() -> T) -> T {
        let _held = (
            lock(&self.services),
            lock(&self.handles),
            lock(&self.counters),
            lock(&self.cancellations),
            lock(&self.reporter.output),
        );
        body()
    }

    /// Connects to `socket`, and sends all later messages there. Returns the stream for reading.
    fn connect(&self, socket: &Path) -> UnixStream {
        let stream = UnixStream::connect(socket).expect("connect to the test");
        let reading = stream.try_clone().expect("a second descriptor");
        *lock(&self.reporter.output) = Output::to_socket(stream);
        reading
    }
}

pub fn set_umask(mask: &str) {
    let mask = mask.parse().expect("a mask");
    rustix::process::umask(Mode::from_raw_mode(mask));
}

/// Forks. Returns the input for the commands of the child in the child, and `None` in the parent.
pub fn fork(state: &Arc<ActorState>, id: u64, socket: &Path) -> Option<Box<dyn Read>> {
    match state.with_all_locked(procref_testkit::process::fork) {
        Ok(Forked::Parent(child)) => {
            state.reporter.reply(id, Reply::Forked { child });
            // The child must not remain a zombie.
            std::thread::spawn(move || reap(child));
            None
        }
        Ok(Forked::Child) => {
            observe::exit_with_guardian(state.guardian);
            Some(Box::new(state.connect(socket)))
        }
        Err(error) => {
            state.reporter.reply(id, reply::error(&error.into()));
            None
        }
    }
}

fn reap(child: u32) {
    let pid = i32::try_from(child)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
}

/// Replaces this program with one that sleeps.
pub fn exec(state: &ActorState) -> ! {
    let own = std::env::current_exe().expect("the actor's own program");
    let error = std::process::Command::new(own)
        .args(["--sleep-forever", "--guardian"])
        .arg(state.guardian.to_string())
        .exec();
    panic!("exec: {error}");
}
