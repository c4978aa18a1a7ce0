//! The messages between a test and an actor: one JSON value per line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::observe::Identity;

mod spec;

pub use spec::{
    CommandSpec, FakeService, HealthOutcome, Mismatch, Outcome, ReadyOutcome, ReadySpec,
    ServiceSpec, StopOutcome,
};

/// A command, with the number of its reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// A number that the test chooses.
    pub id: u64,
    /// The command.
    pub command: Command,
}

/// A message of an actor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Time of the message, on the clock of [`crate::observe::now_ns`].
    pub at: u64,
    /// The content.
    pub body: Body,
}

/// The content of a [`Message`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Body {
    /// The reply to the request with this number.
    Reply(u64, Reply),
    /// An event.
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
    /// The name of the builder's method, which is also the name in the log.
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

/// A point at which a future waits. Each [`Command::Proceed`] lets one future pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Gate {
    /// At the start of the callback.
    Before(Callback),
    /// In the callback, after its work.
    After(Callback),
    /// In a second task on the single thread that runs the command.
    Tick,
}

/// An event that an actor reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The actor reads commands.
    Ready(Identity),
    /// A callback was called.
    Running(Callback),
    /// A callback has started this process and is about to return it.
    Served(Identity),
    /// A callback is about to return.
    Returning(Callback),
    /// A callback's future was dropped before it completed.
    Dropped(Callback),
    /// The task has passed [`Gate::Tick`].
    Ticked,
    /// The program that replaced the actor runs.
    Executed,
}

/// The way to drive a future, or the blocking calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Via {
    /// A task on a multi-threaded tokio runtime.
    TokioMulti,
    /// A current-thread tokio runtime that is dropped afterwards. A second task on it passes [`Gate::Tick`].
    TokioCurrent,
    /// A task on smol's executor.
    Smol,
    /// No runtime. The thread polls and parks.
    Pollster,
    /// The blocking calls.
    Blocking,
}

impl Via {
    /// All variants.
    pub const ALL: [Self; 5] = [
        Self::TokioMulti,
        Self::TokioCurrent,
        Self::Smol,
        Self::Pollster,
        Self::Blocking,
    ];
}

/// The context in which a handle is dropped.
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
    /// A thread of tokio's blocking pool.
    TokioBlockingPool,
    /// A task that is dropped because its runtime is shut down.
    TokioShutDown,
    /// A task that panics.
    TokioUnwinding,
    /// A task on smol's executor.
    Smol,
    /// A future that is polled without a runtime.
    Pollster,
    /// A thread that panics.
    Unwinding,
    /// The destructor of a thread-local variable.
    ThreadLocal,
}

impl DropContext {
    /// All variants.
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

/// The way in which an actor ends itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Death {
    /// SIGKILL.
    Kill,
    /// `exit(0)`: exit handlers, but no destructors of live values.
    Exit,
    /// `_exit(0)`: no exit handlers.
    ExitAtOnce,
    /// `abort()`: SIGABRT.
    Abort,
    /// The main function returns, which drops everything.
    Return,
    /// The thread that reads commands panics, while all handles exist.
    Panic,
}

/// A method of the trait `RefCounter`.
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

/// A function of the module `procref::process`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessOp {
    /// `is_alive`
    IsAlive,
    /// `terminate`
    Terminate,
    /// `kill`
    Kill,
    /// `stop`, with a timeout of one second
    Stop,
    /// `Process::open`, then nothing
    Open,
    /// `Process::open` and `Process::stop`
    OpenAndStop,
}

/// A command. The test chooses the numbers of services, handles and counters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Builds a service.
    Build {
        /// Number of the new service.
        service: u32,
        /// The service.
        spec: Box<ServiceSpec>,
    },
    /// Writes to every page of a block of heap memory, which is the same block each time.
    Rewrite {
        /// The size of the block, in MiB.
        mib: usize,
    },
    /// Drops a `SharedService` value.
    DropService {
        /// Number of the service.
        service: u32,
    },
    /// Acquires.
    Acquire {
        /// Number of the service.
        service: u32,
        /// Number of the new handle.
        handle: u32,
        /// The way to drive the future.
        via: Via,
    },
    /// Acquires many handles at once in one current-thread runtime, and releases them together.
    AcquireMany {
        /// Number of the service.
        service: u32,
        /// Number of futures.
        count: u32,
    },
    /// Drops the future of a running request. Has no effect on [`Via::Blocking`].
    Cancel {
        /// Number of the request.
        request: u64,
    },
    /// `try_join`.
    TryJoin {
        /// Number of the service.
        service: u32,
        /// Number of the new handle.
        handle: u32,
        /// The way to drive the future. [`Via::Blocking`] polls without a runtime.
        via: Via,
    },
    /// `ServiceHandle::pin`.
    Pin {
        /// Number of the handle.
        handle: u32,
    },
    /// `unpin` or, with [`Via::Blocking`], `unpin_blocking`.
    Unpin {
        /// Number of the service.
        service: u32,
        /// The way to drive the future.
        via: Via,
    },
    /// `stop`, `force_stop` or, with [`Via::Blocking`], their blocking forms.
    Stop {
        /// Number of the service.
        service: u32,
        /// Stops the service even if clients hold it.
        force: bool,
        /// The way to drive the future.
        via: Via,
    },
    /// `ServiceHandle::current`.
    Current {
        /// Number of the handle.
        handle: u32,
    },
    /// `wait_dead`, several times at once. With [`Via::Blocking`], `wait_dead_blocking` once.
    WaitDead {
        /// Number of the handle.
        handle: u32,
        /// Number of futures.
        count: u32,
        /// The timeout of the blocking call.
        limit_ms: u64,
        /// The way to drive the future.
        via: Via,
    },
    /// `wait_stopped`, in the same way as [`Command::WaitDead`].
    WaitStopped {
        /// Number of the service.
        service: u32,
        /// Number of futures.
        count: u32,
        /// The timeout of the blocking call.
        limit_ms: u64,
        /// The way to drive the future.
        via: Via,
    },
    /// `wait_ready`, in the same way as [`Command::WaitDead`].
    WaitReady {
        /// Number of the service.
        service: u32,
        /// Number of futures.
        count: u32,
        /// The timeout of the blocking call.
        limit_ms: u64,
        /// The way to drive the future.
        via: Via,
    },
    /// `release` or, with [`Via::Blocking`], `release_blocking`.
    Release {
        /// Number of the handle.
        handle: u32,
        /// The way to drive the future.
        via: Via,
    },
    /// Drops a handle.
    Drop {
        /// Number of the handle.
        handle: u32,
        /// The context of the drop.
        context: DropContext,
    },
    /// Drops every handle and every service.
    DropAll,
    /// `count`.
    Count {
        /// Number of the service.
        service: u32,
    },
    /// `status`.
    Status {
        /// Number of the service.
        service: u32,
    },
    /// Lets one future pass a gate, now or when it arrives.
    Proceed {
        /// Number of the service.
        service: u32,
        /// The gate.
        gate: Gate,
    },
    /// Acquires, queries and releases the service repeatedly.
    Storm {
        /// Number of the service.
        service: u32,
        /// Number of rounds.
        rounds: u32,
        /// The longest pause between two rounds. The pauses are random. Without pauses, several clients would never
        /// all have released the service at the same time.
        pause_us: u64,
    },
    /// Opens a `PlatformRefCounter`.
    Counter {
        /// Number of the new counter.
        counter: u32,
        /// The name of the counter.
        name: String,
        /// The directory of the counter. Without a directory, `PlatformRefCounter::new` is called.
        dir: Option<PathBuf>,
    },
    /// Performs an operation of a counter.
    CounterOp {
        /// Number of the counter.
        counter: u32,
        /// The operation.
        op: CounterOp,
    },
    /// `Services::gc` of a runtime directory, repeatedly.
    Gc {
        /// The runtime directory.
        dir: PathBuf,
        /// Number of rounds.
        rounds: u32,
    },
    /// Calls a function of `procref::process`.
    Process {
        /// The function.
        op: ProcessOp,
        /// The pid that is passed.
        pid: u32,
    },
    /// Forks. The child has copies of all services and handles. It connects to this socket and reads commands there.
    Fork {
        /// A listening Unix socket.
        socket: PathBuf,
    },
    /// Replaces this program with one that sleeps until its standard input has a line.
    Exec,
    /// Ends the process in this way.
    Die(Death),
}

/// The result of an acquire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquired {
    /// `ServiceHandle::pid`
    pub pid: u32,
    /// `ServiceHandle::port`
    pub port: u16,
    /// `ServiceHandle::generation`
    pub generation: u32,
    /// The metadata, sorted.
    pub metadata: Vec<(String, String)>,
    /// Time at which the call returned.
    pub at: u64,
}

/// The result of `ServiceHandle::current`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// `pid`
    pub pid: u32,
    /// The metadata, sorted.
    pub metadata: Vec<(String, String)>,
}

/// The fields of `Status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// `clients`
    pub clients: u32,
    /// `generation`
    pub generation: u32,
    /// The pid of `instance`
    pub instance: Option<u32>,
    /// `state`, in the format of `Debug`
    pub state: String,
    /// `transition`
    pub transition: Option<u32>,
    /// `exit_status`, in the format of `Display`
    pub exit: Option<String>,
    /// `is_pinned`
    pub pinned: bool,
}

/// A variant of the library's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Variant {
    /// `Error::Fingerprint`
    Fingerprint,
    /// `Error::NoReference`
    NoReference,
}

/// An error of the library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The format of `Display`.
    pub text: String,
    /// The chain of sources.
    pub sources: Vec<String>,
    /// The variant, if a test distinguishes it.
    pub variant: Option<Variant>,
}

impl Failure {
    /// Returns the error and all its sources as one text.
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

/// The result of [`Command::Storm`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StormReport {
    /// Number of rounds without an error.
    pub good: u32,
    /// The errors of the other rounds.
    pub wrong: Vec<String>,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The command succeeded and has no result.
    Done,
    /// A service was built.
    Built {
        /// `kernel_object`
        kernel_object: String,
        /// `runtime_dir`
        runtime_dir: PathBuf,
    },
    /// A handle was acquired.
    Acquired(Acquired),
    /// `try_join` found no running service.
    Nothing,
    /// A count.
    Count(u32),
    /// The current instance, if there is one.
    Serves(Option<Serving>),
    /// A boolean.
    Flag(bool),
    /// A status.
    Status(StatusReport),
    /// The library returned an error.
    Failed(Failure),
    /// [`Command::Cancel`] dropped the future.
    Cancelled,
    /// The command's thread panicked with this text.
    Panicked(String),
    /// The result of `gc`.
    Collected {
        /// Number of services that were removed.
        services: usize,
        /// The pids of the stopped instances.
        stopped: Vec<u32>,
        /// The errors, in the format of `Display`.
        failures: Vec<String>,
    },
    /// The storm has finished.
    Stormed(StormReport),
    /// The process forked.
    Forked {
        /// The pid of the child.
        child: u32,
    },
}
