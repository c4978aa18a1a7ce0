//! A client process that a test controls.
//!
//! The actor reads commands line by line, runs each command in its own thread, and replies when the command is done.
//! It reports the events of its callbacks as they happen. It exits at the end of its input, so it never outlives its
//! test.

mod callbacks;
mod commands;
mod drop_contexts;
mod gate;
mod output;
mod reply;
mod reporter;
mod runtime;
mod state;
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
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::state::ActorState;
#[cfg(unix)]
use crate::unix as sys;
#[cfg(windows)]
use crate::windows as sys;

/// The reason why the actor reads no further commands.
enum End {
    /// The input has ended, because the test has exited or dropped the actor.
    Eof,
    /// The main function must return.
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
            // A callback runs this for a process that exits at once.
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

    let set = std::env::var("RUST_LOG").ok();
    let set = set.and_then(|text| text.parse::<Targets>().ok());
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(io::stderr)
        .finish()
        .with(set.unwrap_or_else(|| Targets::new().with_target("procref", LevelFilter::DEBUG)))
        .init();
    let state = Arc::new(ActorState::new(guardian));
    let _drop_all = DropAllOnReturn(Arc::clone(&state));
    match run_commands(&state, io::stdin()) {
        // The kernel releases the references, not this process.
        End::Eof => exit_at_once(0),
        End::Return => ExitCode::SUCCESS,
    }
}

/// Drops all handles and services when the main function returns or unwinds, even if other threads still have a
/// pointer to the state.
struct DropAllOnReturn(Arc<ActorState>);

impl Drop for DropAllOnReturn {
    fn drop(&mut self) {
        self.0.drop_all();
    }
}

/// Sleeps until the standard input has a line or the guardian exits.
fn sleep() -> ExitCode {
    reporter::print_event(Event::Executed);
    let mut line = String::new();
    let has_line = io::stdin().read_line(&mut line).unwrap_or(0) > 0;
    if !has_line {
        // A bystander has no input. It exits with its guardian.
        loop {
            std::thread::park();
        }
    }
    ExitCode::SUCCESS
}

/// Runs the commands from `input` until it ends.
fn run_commands(state: &Arc<ActorState>, input: impl Read) -> End {
    state.reporter.report(Event::Ready(Identity::own()));
    for line in BufReader::new(input).lines() {
        let Ok(line) = line else { break };
        let Request { id, command } = serde_json::from_str(&line).expect("a command");
        match command {
            Command::Die(Death::Return) => return End::Return,
            Command::Die(death) => die(death),
            Command::Fork { socket } => {
                if let Some(input) = sys::fork(state, id, &socket) {
                    return run_child(state, input);
                }
            }
            Command::Exec => sys::exec(state),
            command => commands::run(state, id, command),
        }
    }
    End::Eof
}

/// Runs the commands of a forked child.
fn run_child(state: &Arc<ActorState>, input: Box<dyn Read>) -> End {
    match run_commands(state, input) {
        End::Eof => exit_at_once(0),
        End::Return => End::Return,
    }
}

fn die(death: Death) -> ! {
    match death {
        Death::Kill => procref_testkit::process::kill_self(),
        Death::Exit => std::process::exit(0),
        Death::ExitAtOnce => exit_at_once(0),
        Death::Abort => std::process::abort(),
        Death::Panic => panic!("the test makes this thread panic"),
        Death::Return => unreachable!("`run_commands` handles this"),
    }
}
