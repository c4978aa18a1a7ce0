//! What a test says to an actor, and what it hears back: one JSON value a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::observe::Identity;

mod spec;

pub use spec::{
    CommandSpec, FakeService, HealthOutcome, Mismatch, Outcome, ReadyOutcome, ReadySpec,
    ServiceSpec, StopOutcome,
};

/// One command, and the number its reply will carry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the test.
    pub id: u64,
    /// What to do.
    pub command: Command,
}

/// One line from an actor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// When it was written, on the clock of [`crate::observe::now_ns`].
    pub at: u64,
    /// What it says.
    pub body: Body,
}

/// What a [`Message`] says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Body {
    /// The answer to the request of this number.
    Reply(u64, Reply),
    /// Something happened.
    Event(Event),
}

/// The callbacks of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Callback {
    /// `on_first_acquire`
    Start,
    /// `on_last_release`
    Stop,
    /// `on_health_check`
    Health,
    /// `on_recover`
    Recover,
    /// The callback of `Ready::callback`
    Ready,
    /// `on_ready`
    OnReady,
}

impl Callback {
    /// The builder's name for it, which is also its name in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "on_first_acquire",
            Self::Stop => "on_last_release",
            Self::Health => "on_health_check",
            Self::Recover => "on_recover",
            Self::Ready => "ready",
            Self::OnReady => "on_ready",
        }
    }
}

/// Where somebody waits to be let through, each time by one
/// [`Command::Proceed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Gate {
    /// In the callback, before it does anything.
    Before(Callback),
    /// In the callback, when its work is done.
    After(Callback),
    /// In a task beside the command, on the same single thread.
    Tick,
}

/// What happens without being asked for at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The actor reads commands now.
    Ready(Identity),
    /// A callback began.
    Running(Callback),
    /// A callback has this process's service up, and is about to return it.
    Served(Identity),
    /// A callback is about to return what it was told to.
    Returning(Callback),
    /// A callback's future was dropped before it was done.
    Dropped(Callback),
    /// The task behind [`Gate::Tick`] had its turn.
    Ticked,
    /// The program that was executed in the actor's place runs.
    Executed,
}

/// Who drives a future, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Via {
    /// A task on a multi-threaded tokio runtime.
    TokioMulti,
    /// A current-thread tokio runtime that is gone afterwards. A second task
    /// on it answers [`Gate::Tick`].
    TokioCurrent,
    /// A task on smol's executor.
    Smol,
    /// No runtime: the thread polls and parks.
    Pollster,
    /// The blocking calls.
    Blocking,
}

impl Via {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::TokioMulti,
        Self::TokioCurrent,
        Self::Smol,
        Self::Pollster,
        Self::Blocking,
    ];
}

/// Where a handle is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DropContext {
    /// A thread without any runtime.
    Thread,
    /// A task of a multi-threaded tokio runtime.
    TokioMulti,
    /// The only thread of a current-thread tokio runtime, inside `block_on`.
    TokioCurrent,
    /// A task that a `LocalSet` runs.
    TokioLocal,
    /// A blocking-pool thread of tokio.
    TokioBlockingPool,
    /// With a task that is dropped because its runtime is shut down.
    TokioShutDown,
    /// A task that panics.
    TokioUnwinding,
    /// A task on smol's executor.
    Smol,
    /// A future polled without runtime.
    Pollster,
    /// A thread that panics.
    Unwinding,
    /// The destructor of a thread-local variable.
    ThreadLocal,
}

impl DropContext {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Thread,
        Self::TokioMulti,
        Self::TokioCurrent,
        Self::TokioLocal,
        Self::TokioBlockingPool,
        Self::TokioShutDown,
        Self::TokioUnwinding,
        Self::Smol,
        Self::Pollster,
        Self::Unwinding,
        Self::ThreadLocal,
    ];
}

/// How an actor ends itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Death {
    /// SIGKILL.
    Kill,
    /// `exit(0)`: exit handlers, but no destructors of live values.
    Exit,
    /// `_exit(0)`.
    ExitAtOnce,
    /// `abort()`: SIGABRT.
    Abort,
    /// The main function returns with everything dropped.
    Return,
    /// The thread that reads commands panics with everything in its hands.
    Panic,
}

/// An operation of the trait `RefCounter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CounterOp {
    /// `acquire`
    Acquire,
    /// `release`
    Release,
    /// `count`
    Count,
    /// `try_lock`
    TryLock,
    /// `unlock`
    Unlock,
}

/// An operation of the module `procref::process`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessOp {
    /// `is_alive`
    IsAlive,
    /// `terminate`
    Terminate,
    /// `kill`
    Kill,
    /// `stop`, with a second for the process
    Stop,
    /// `Process::open`, then nothing
    Open,
    /// `Process::open` and `Process::stop`
    OpenAndStop,
}

/// A command. Services, handles and counters are numbered by the test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Builds a service.
    Build {
        /// The number it gets.
        service: u32,
        /// What to build.
        spec: Box<ServiceSpec>,
    },
    /// Writes to every page of so much memory of the heap: the same memory each time.
    Rewrite {
        /// How much, in MiB.
        mib: usize,
    },
    /// Drops a `SharedService` value.
    DropService {
        /// Which.
        service: u32,
    },
    /// Acquires.
    Acquire {
        /// Of which service.
        service: u32,
        /// The number the handle gets.
        handle: u32,
        /// Driven by.
        via: Via,
    },
    /// Acquires many handles at once in one current-thread runtime, and
    /// releases them together.
    AcquireMany {
        /// Of which service.
        service: u32,
        /// How many futures.
        count: u32,
    },
    /// Drops the future of a request that still runs. Not for
    /// [`Via::Blocking`].
    Cancel {
        /// The request's number.
        request: u64,
    },
    /// `try_join`.
    TryJoin {
        /// Of which service.
        service: u32,
        /// The number the handle gets.
        handle: u32,
        /// Driven by; blocking is polled without runtime.
        via: Via,
    },
    /// `ServiceHandle::pin`.
    Pin {
        /// Which handle.
        handle: u32,
    },
    /// `unpin` or, with [`Via::Blocking`], `unpin_blocking`.
    Unpin {
        /// Of which service.
        service: u32,
        /// Driven by.
        via: Via,
    },
    /// `stop`, `force_stop` or, with [`Via::Blocking`], their blocking forms.
    Stop {
        /// Which service.
        service: u32,
        /// Also while clients hold it.
        force: bool,
        /// Driven by.
        via: Via,
    },
    /// `ServiceHandle::current`.
    Current {
        /// Of which handle.
        handle: u32,
    },
    /// `wait_dead`, several times at once; with [`Via::Blocking`]
    /// `wait_dead_blocking`, once.
    WaitDead {
        /// Of which handle.
        handle: u32,
        /// How many futures.
        count: u32,
        /// For the blocking call.
        limit_ms: u64,
        /// Driven by.
        via: Via,
    },
    /// `wait_stopped`, likewise.
    WaitStopped {
        /// Of which service.
        service: u32,
        /// How many futures.
        count: u32,
        /// For the blocking call.
        limit_ms: u64,
        /// Driven by.
        via: Via,
    },
    /// `wait_ready`, likewise.
    WaitReady {
        /// Of which service.
        service: u32,
        /// How many futures.
        count: u32,
        /// For the blocking call.
        limit_ms: u64,
        /// Driven by.
        via: Via,
    },
    /// `release` or, with [`Via::Blocking`], `release_blocking`.
    Release {
        /// Which.
        handle: u32,
        /// Driven by.
        via: Via,
    },
    /// Drops a handle.
    Drop {
        /// Which.
        handle: u32,
        /// Where.
        context: DropContext,
    },
    /// Drops every handle and every service.
    DropAll,
    /// `count`.
    Count {
        /// Of which service.
        service: u32,
    },
    /// `status`.
    Status {
        /// Of which service.
        service: u32,
    },
    /// Lets one waiter through a gate, now or when it comes.
    Proceed {
        /// Of which service.
        service: u32,
        /// Which.
        gate: Gate,
    },
    /// Acquires, talks to the service and lets go, again and again.
    Storm {
        /// Of which service.
        service: u32,
        /// How often.
        rounds: u32,
        /// The longest pause between two rounds; each is another, up to this.
        /// Without pauses the storms of several clients never let go of the
        /// service together.
        pause_us: u64,
    },
    /// Opens a `PlatformRefCounter`.
    Counter {
        /// The number it gets.
        counter: u32,
        /// Its name.
        name: String,
        /// Its directory; without, `PlatformRefCounter::new` is used.
        dir: Option<PathBuf>,
    },
    /// Does something with it.
    CounterOp {
        /// Which.
        counter: u32,
        /// What.
        op: CounterOp,
    },
    /// `Services::gc` of the runtime directory, again and again.
    Gc {
        /// Which.
        dir: PathBuf,
        /// How often.
        rounds: u32,
    },
    /// Calls a function of `procref::process`.
    Process {
        /// Which function.
        op: ProcessOp,
        /// For whom.
        pid: u32,
    },
    /// Forks. The child connects to this socket and takes commands there, with
    /// copies of all services and handles.
    Fork {
        /// A listening Unix socket.
        socket: PathBuf,
    },
    /// Executes another program in place of this one, which sleeps until its
    /// standard input ends.
    Exec,
    /// Ends the process.
    Die(Death),
}

/// A service that was acquired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquired {
    /// `ServiceHandle::pid`
    pub pid: u32,
    /// `ServiceHandle::port`
    pub port: u16,
    /// `ServiceHandle::generation`
    pub generation: u32,
    /// All metadata, sorted.
    pub metadata: Vec<(String, String)>,
    /// When the call returned.
    pub at: u64,
}

/// What `ServiceHandle::current` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// `pid`
    pub pid: u32,
    /// All metadata, sorted.
    pub metadata: Vec<(String, String)>,
}

/// `Status`, field by field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// `clients`
    pub clients: u32,
    /// `generation`
    pub generation: u32,
    /// Pid of `instance`
    pub instance: Option<u32>,
    /// `state`, as `Debug` prints it
    pub state: String,
    /// `transition`
    pub transition: Option<u32>,
    /// `exit_status`, as `Display` prints it
    pub exit: Option<String>,
    /// `is_pinned`
    pub pinned: bool,
}

/// An error of the library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// As `Display` prints it.
    pub text: String,
    /// The sources below it.
    pub sources: Vec<String>,
    /// As `Debug` prints it.
    pub debug: String,
}

impl Failure {
    /// The error and everything below it in one text.
    #[must_use]
    pub fn whole(&self) -> String {
        let mut whole = self.text.clone();
        for source in &self.sources {
            whole.push_str(": ");
            whole.push_str(source);
        }
        whole
    }
}

/// What a [`Command::Storm`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StormReport {
    /// Rounds in which all was well.
    pub good: u32,
    /// What was not.
    pub wrong: Vec<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done, nothing to tell.
    Done,
    /// A service was built.
    Built {
        /// `kernel_object`
        kernel_object: String,
        /// `runtime_dir`
        runtime_dir: PathBuf,
    },
    /// A handle is there.
    Acquired(Acquired),
    /// `try_join` found nothing to join.
    Nothing,
    /// A count.
    Count(u32),
    /// The instance that serves, if one does.
    Serves(Option<Serving>),
    /// A yes or no.
    Flag(bool),
    /// A status.
    Status(StatusReport),
    /// The library returned an error.
    Failed(Failure),
    /// The future was dropped on request.
    Cancelled,
    /// The command's thread panicked with this text.
    Panicked(String),
    /// What was collected.
    Collected {
        /// Of how many services.
        services: usize,
        /// Who was stopped.
        stopped: Vec<u32>,
        /// As `Display` prints them.
        failures: Vec<String>,
    },
    /// The storm is over.
    Stormed(StormReport),
    /// The process forked.
    Forked {
        /// The child.
        child: u32,
    },
}
