//! A client process that does what a test tells it.
//!
//! It reads commands line by line, runs each on a thread of its own, and
//! answers when the command is done; what its callbacks see is told as it
//! happens. It ends when its commands end, so it never outlives its test.

mod callbacks;
mod commands;
mod drops;
mod gate;
mod runtime;
mod stage;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io::{self, BufRead, BufReader, Read};
use std::process::ExitCode;
use std::sync::Arc;

use procref_testkit::observe::{self, Identity};
use procref_testkit::process::exit_at_once;
use procref_testkit::protocol::{Command, Death, Event, Request};
use tracing_subscriber::EnvFilter;

use crate::stage::Stage;
#[cfg(unix)]
use crate::unix as sys;
#[cfg(windows)]
use crate::windows as sys;

/// Why a conversation ended.
enum End {
    /// Nobody is there to talk to.
    Hangup,
    /// The main function shall return.
    Return,
}

fn main() -> ExitCode {
    let mut guardian = None;
    let mut sleep_forever = false;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--sleep-forever" => sleep_forever = true,
            "--guardian" => guardian = args.next().and_then(|text| text.parse().ok()),
            "--umask" => sys::set_umask(&args.next().expect("a mask")),
            // What a callback starts that wants a process that has ended.
            "--end" => return ExitCode::SUCCESS,
            _ => return ExitCode::from(2),
        }
    }
    let Some(guardian): Option<Identity> = guardian else {
        return ExitCode::from(2);
    };
    observe::exit_with_guardian(guardian);
    if sleep_forever {
        return sleep();
    }

    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("procref=debug")),
        )
        .with_writer(io::stderr)
        .init();
    let stage = Arc::new(Stage::new(guardian));
    let _curtain = Curtain(Arc::clone(&stage));
    match converse(&stage, io::stdin()) {
        // What is held is given back by the death alone.
        End::Hangup => exit_at_once(0),
        End::Return => ExitCode::SUCCESS,
    }
}

/// Drops everything on stage when the main function ends, unwinding included,
/// whoever else may still have the stage in their hands.
struct Curtain(Arc<Stage>);

impl Drop for Curtain {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// Lives until the standard input says or ends.
fn sleep() -> ExitCode {
    stage::send_to_stdout(Event::Executed);
    let mut line = String::new();
    let asked = io::stdin().read_line(&mut line).unwrap_or(0) > 0;
    if !asked {
        // A bystander's input ends at once: it waits for its guardian.
        loop {
            std::thread::park();
        }
    }
    ExitCode::SUCCESS
}

/// Does what `input` says until it ends.
fn converse(stage: &Arc<Stage>, input: impl Read) -> End {
    stage.tell(Event::Ready(Identity::own()));
    for line in BufReader::new(input).lines() {
        let Ok(line) = line else { break };
        let Request { id, command } = serde_json::from_str(&line).expect("a command");
        match command {
            Command::Die(Death::Return) => return End::Return,
            Command::Die(how) => die(how),
            Command::Fork { socket } => {
                if let Some(end) = sys::fork(stage, id, &socket) {
                    return end;
                }
            }
            Command::Exec => sys::exec(stage),
            command => commands::run(stage, id, command),
        }
    }
    End::Hangup
}

fn die(how: Death) -> ! {
    match how {
        Death::Kill => procref_testkit::process::kill_self(),
        Death::Exit => std::process::exit(0),
        Death::ExitAtOnce => exit_at_once(0),
        Death::Abort => std::process::abort(),
        Death::Panic => panic!("told to"),
        Death::Return => unreachable!("left to the conversation"),
    }
}
