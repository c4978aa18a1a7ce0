//! An actor that forks, executes, and has a mask for what it creates.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::Arc;

use procref_testkit::observe;
use procref_testkit::process::{Forked, exit_at_once};
use procref_testkit::protocol::Reply;
use rustix::fs::Mode;

use crate::End;
use crate::commands::failed;
use crate::stage::{Stage, lock};

/// Standard output, or the socket of a forked child.
#[derive(Default)]
pub struct Mouth(Option<UnixStream>);

impl Mouth {
    pub fn say(&mut self, line: &[u8]) {
        match &mut self.0 {
            Some(socket) => drop(socket.write_all(line)),
            None => write_to_stdout(line),
        }
    }
}

/// Written with bare `write`s: the standard library's buffered output has a
/// lock, which a forked child could inherit locked.
fn write_to_stdout(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

impl Stage {
    /// Runs `body` while no other thread is in the middle of anything here, as
    /// a fork must.
    pub fn quietly<T>(&self, body: impl FnOnce() -> T) -> T {
        let _held = (
            lock(&self.services),
            lock(&self.handles),
            lock(&self.counters),
            lock(&self.cancels),
            lock(&self.voice.mouth),
        );
        body()
    }

    /// Speaks through `socket` from now on, which is also returned to read.
    pub fn move_to(&self, socket: &Path) -> UnixStream {
        let stream = UnixStream::connect(socket).expect("connect to the test");
        let reading = stream.try_clone().expect("a second descriptor");
        *lock(&self.voice.mouth) = Mouth(Some(stream));
        reading
    }
}

pub fn set_umask(mask: &str) {
    let mask = mask.parse().expect("a mask");
    rustix::process::umask(Mode::from_raw_mode(mask));
}

/// Forks; in the child, talks with the test until that is over, and returns
/// how it ended.
pub fn fork(stage: &Arc<Stage>, id: u64, socket: &Path) -> Option<End> {
    match stage.quietly(procref_testkit::process::fork) {
        Ok(Forked::Parent(child)) => {
            stage.answer(id, Reply::Forked { child });
            // So that its death does not leave a zombie.
            std::thread::spawn(move || reap(child));
            None
        }
        Ok(Forked::Child) => {
            observe::exit_with_guardian(stage.guardian);
            let stream = stage.move_to(socket);
            match crate::converse(stage, stream) {
                End::Hangup => exit_at_once(0),
                End::Return => Some(End::Return),
            }
        }
        Err(error) => {
            stage.answer(id, failed(&error.into()));
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

/// Executes a sleeping program in this one's place.
pub fn exec(stage: &Stage) -> ! {
    let own = std::env::current_exe().expect("the actor's own program");
    let error = std::process::Command::new(own)
        .args(["--sleep-forever", "--guardian"])
        .arg(stage.guardian.to_string())
        .exec();
    panic!("exec: {error}");
}
