//! The services of a test, as it wants them to be and to behave.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Gate;
use crate::observe::Identity;

/// How a callback that brings up an instance behaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Starts the fake service and returns it.
    Serve,
    /// Stops the old instance first, then as [`Outcome::Serve`].
    Replace,
    /// Returns the old instance, which it healed by removing the
    /// [`FakeService::unhealthy_file`].
    Heal,
    /// Returns the old instance as it is.
    Same,
    /// Returns an error with this text.
    Fail(String),
    /// Panics inside the future.
    Panic,
    /// Panics before there is a future.
    PanicAtCall,
    /// SIGKILLs the process.
    Die,
    /// Returns a pid that is dead, reaped and all.
    DeadPid,
    /// Returns a pid whose process ends while nobody reaps it.
    Zombie,
    /// Returns this pid; nothing is started.
    Pid(u32),
    /// Returns the actor itself.
    OwnPid,
}

/// How `on_last_release` behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopOutcome {
    /// Sends SIGTERM and returns at once, as the seed's example does.
    Terminate,
    /// Returns without doing anything.
    Nothing,
    /// Returns an error.
    Fail,
    /// Panics.
    Panic,
}

/// How `on_ready` behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadyOutcome {
    /// Finds that the service answers, and is content.
    Pass,
    /// Returns an error.
    Fail,
    /// Panics inside the future.
    Panic,
    /// Panics before there is a future.
    PanicAtCall,
    /// Kills the service, and is content.
    Kill,
}

/// How `on_health_check` judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthOutcome {
    /// Asks the service over TCP.
    Query,
    /// Always this.
    Always(bool),
    /// Panics.
    Panic,
}

/// What becomes of a client whose fingerprint is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mismatch {
    /// `Mismatch::Refuse`
    Refuse,
    /// `Mismatch::Join`
    Join,
    /// `Mismatch::Separate`
    Separate,
}

/// The options of `procref-fake-service`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FakeService {
    /// The program.
    pub program: PathBuf,
    /// The scene's log.
    pub log: PathBuf,
    /// The file that a live service holds locked.
    pub witness: PathBuf,
    /// Survives SIGTERM.
    pub ignore_sigterm: bool,
    /// Takes this long from SIGTERM to its end.
    pub slow_stop_ms: u64,
    /// Unhealthy while this file holds its pid or 0.
    pub unhealthy_file: Option<PathBuf>,
    /// Ends by itself after this time.
    pub exit_after_ms: Option<u64>,
    /// Ends with this process.
    pub guardian: Option<Identity>,
}

impl FakeService {
    /// Its arguments, but for where it listens.
    #[must_use]
    pub fn args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--log".into(), self.log.clone().into()];
        args.extend(["--witness".into(), self.witness.clone().into()]);
        if self.ignore_sigterm {
            args.push("--ignore-sigterm".into());
        }
        if self.slow_stop_ms > 0 {
            args.extend(["--slow-stop".into(), self.slow_stop_ms.to_string().into()]);
        }
        if let Some(file) = &self.unhealthy_file {
            args.extend(["--unhealthy-file".into(), file.clone().into()]);
        }
        if let Some(limit) = self.exit_after_ms {
            args.extend(["--exit-after".into(), limit.to_string().into()]);
        }
        if let Some(guardian) = self.guardian {
            args.extend(["--guardian".into(), guardian.to_string().into()]);
        }
        args
    }
}

/// A service as a test wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// The runtime directory; the environment decides without.
    pub dir: Option<PathBuf>,
    /// The fake service that the callbacks start.
    pub fake: FakeService,
    /// `on_first_acquire`: one outcome per call in this process, the last one
    /// again and again. Empty: no callback.
    pub start: Vec<Outcome>,
    /// `on_last_release`, if it is set.
    pub stop: Option<StopOutcome>,
    /// `on_health_check`, if it is set.
    pub health: Option<HealthOutcome>,
    /// `on_recover`; empty: no callback.
    pub recover: Vec<Outcome>,
    /// `on_ready`: one outcome per call in this process, the last one again and
    /// again. Empty: no callback.
    pub on_ready: Vec<ReadyOutcome>,
    /// `fingerprint`, if it is set.
    pub fingerprint: Option<(String, Mismatch)>,
    /// Where callbacks wait for [`Command::Proceed`](super::Command::Proceed).
    pub gates: Vec<Gate>,
    /// Metadata of every instance.
    pub metadata: Vec<(String, String)>,
    /// `start_timeout`, if it is set.
    pub start_timeout_ms: Option<u64>,
    /// `wait_timeout`, if it is set.
    pub wait_timeout_ms: Option<u64>,
    /// `stop_timeout`, if it is set; `u64::MAX` is as long as there is.
    pub stop_timeout_ms: Option<u64>,
    /// `Orphan::Keep`: no supervisor.
    pub keep_orphan: bool,
    /// `linger`
    pub linger_ms: u64,
    /// `command`, if it is set.
    pub command: Option<CommandSpec>,
}

/// How procref executes the fake service itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// Another program, with its arguments, in place of the fake service.
    pub program: Option<Vec<String>>,
    /// Further arguments of the fake service.
    pub args: Vec<String>,
    /// Its environment, beside the actor's.
    pub env: Vec<(String, String)>,
    /// When it is ready; the library's default without.
    pub ready: Option<ReadySpec>,
    /// A fixed port.
    pub port: Option<u16>,
    /// procref binds the socket.
    pub activated: bool,
    /// The name of the stop signal, if it is set.
    pub stop_signal: Option<String>,
    /// The log file, if it is set, and the largest size of one.
    pub log: Option<(PathBuf, u64)>,
    /// The working directory, if it is set.
    pub dir: Option<PathBuf>,
}

/// How procref sees that a service is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadySpec {
    /// When it is executed.
    AtOnce,
    /// TCP.
    Tcp,
    /// HTTP, of this path.
    Http(String),
    /// A Unix socket.
    Unix(String),
    /// A line in the log.
    Log(String),
    /// A program that ends well.
    Command(Vec<String>),
    /// `sd_notify`
    Notify,
    /// A callback, which waits at [`Gate::Before`] of [`Callback::Ready`](super::Callback::Ready).
    Callback,
}

impl ServiceSpec {
    /// Lets callbacks wait at `gates`.
    #[must_use]
    pub fn with_gates(mut self, gates: impl IntoIterator<Item = Gate>) -> Self {
        self.gates.extend(gates);
        self
    }

    /// Sets the outcomes of `on_first_acquire`.
    #[must_use]
    pub fn with_starts(mut self, outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        self.start = outcomes.into_iter().collect();
        self
    }

    /// Sets `on_last_release`.
    #[must_use]
    pub fn with_stop(mut self, outcome: StopOutcome) -> Self {
        self.stop = Some(outcome);
        self
    }

    /// Sets `on_health_check`.
    #[must_use]
    pub fn with_health(mut self, outcome: HealthOutcome) -> Self {
        self.health = Some(outcome);
        self
    }

    /// Sets the outcomes of `on_recover`.
    #[must_use]
    pub fn with_recoveries(mut self, outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        self.recover = outcomes.into_iter().collect();
        self
    }

    /// Sets the outcomes of `on_ready`.
    #[must_use]
    pub fn with_on_ready(mut self, outcomes: impl IntoIterator<Item = ReadyOutcome>) -> Self {
        self.on_ready = outcomes.into_iter().collect();
        self
    }

    /// Sets `fingerprint`.
    #[must_use]
    pub fn with_fingerprint(mut self, fingerprint: &str, mismatch: Mismatch) -> Self {
        self.fingerprint = Some((fingerprint.to_owned(), mismatch));
        self
    }

    /// Sets `start_timeout`.
    #[must_use]
    pub fn with_start_timeout_ms(mut self, limit: u64) -> Self {
        self.start_timeout_ms = Some(limit);
        self
    }

    /// Leaves the service running when all clients are killed.
    #[must_use]
    pub fn with_orphans_kept(mut self) -> Self {
        self.keep_orphan = true;
        self
    }

    /// Sets `linger`.
    #[must_use]
    pub fn with_linger_ms(mut self, time: u64) -> Self {
        self.linger_ms = time;
        self
    }

    /// Adds arguments to the fake service that procref executes.
    ///
    /// # Panics
    ///
    /// When procref does not execute it.
    #[must_use]
    pub fn with_args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        let command = self.command.as_mut().expect("a command");
        command.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets when the command is ready.
    ///
    /// # Panics
    ///
    /// When procref does not execute it.
    #[must_use]
    pub fn with_ready(mut self, ready: ReadySpec) -> Self {
        self.command.as_mut().expect("a command").ready = Some(ready);
        self
    }

    /// Sets `stop_timeout`.
    #[must_use]
    pub fn with_stop_timeout_ms(mut self, limit: u64) -> Self {
        self.stop_timeout_ms = Some(limit);
        self
    }
}
