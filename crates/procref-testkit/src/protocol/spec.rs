//! The services of a test: their settings, and the behavior of their callbacks.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Gate;
use crate::observe::Identity;

/// The behavior of a callback that starts an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Starts the fake service and returns it.
    Serve,
    /// Stops the old instance, and then behaves as [`Outcome::Serve`].
    Replace,
    /// Makes the old instance healthy by removing [`FakeService::unhealthy_file`], and returns it.
    Heal,
    /// Returns the old instance unchanged.
    Same,
    /// Returns an error with this text.
    Fail(String),
    /// Panics inside the future.
    Panic,
    /// Panics before the callback returns a future.
    PanicAtCall,
    /// Kills the actor with SIGKILL.
    Die,
    /// Returns the pid of a process that was reaped.
    DeadPid,
    /// Returns the pid of a zombie.
    Zombie,
    /// Returns this pid and starts nothing.
    Pid(u32),
    /// Returns the actor's own pid.
    OwnPid,
}

/// The behavior of `on_last_release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopOutcome {
    /// Sends SIGTERM and returns at once, as the example of version 0.1 does.
    Terminate,
    /// Returns without doing anything.
    Nothing,
    /// Returns an error.
    Fail,
    /// Panics.
    Panic,
}

/// The behavior of `on_ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadyOutcome {
    /// Checks that the service answers, and succeeds.
    Pass,
    /// Returns an error.
    Fail,
    /// Panics inside the future.
    Panic,
    /// Panics before the callback returns a future.
    PanicAtCall,
    /// Kills the service, and succeeds.
    Kill,
}

/// The behavior of `on_health_check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthOutcome {
    /// Queries the service over TCP.
    Query,
    /// Always returns this.
    Always(bool),
    /// Panics.
    Panic,
}

/// The policy for a client with a different fingerprint.
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
    /// Path of the program.
    pub program: PathBuf,
    /// Path of the scene's log.
    pub log: PathBuf,
    /// Path of the file that a live service holds locked.
    pub witness: PathBuf,
    /// Ignores SIGTERM.
    pub ignore_sigterm: bool,
    /// Time from SIGTERM to the exit.
    pub slow_stop_ms: u64,
    /// The service is unhealthy while this file contains its pid or 0.
    pub unhealthy_file: Option<PathBuf>,
    /// The service exits by itself after this time.
    pub exit_after_ms: Option<u64>,
    /// The service exits with this process.
    pub guardian: Option<Identity>,
}

impl FakeService {
    /// Returns the arguments, without those about listening.
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

/// The settings of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Name of the service.
    pub name: String,
    /// The runtime directory. `None` uses the environment.
    pub dir: Option<PathBuf>,
    /// The fake service that the callbacks start.
    pub fake: FakeService,
    /// `on_first_acquire`: an outcome for each call in this process. The last one repeats. If empty, there is no
    /// callback.
    pub start: Vec<Outcome>,
    /// `on_last_release`, if it is set.
    pub stop: Option<StopOutcome>,
    /// `on_health_check`, if it is set.
    pub health: Option<HealthOutcome>,
    /// `on_recover`. If empty, there is no callback.
    pub recover: Vec<Outcome>,
    /// `on_ready`: an outcome for each call in this process. The last one repeats. If empty, there is no callback.
    pub on_ready: Vec<ReadyOutcome>,
    /// `fingerprint`, if it is set.
    pub fingerprint: Option<(String, Mismatch)>,
    /// Gates at which callbacks wait for [`Command::Proceed`](super::Command::Proceed).
    pub gates: Vec<Gate>,
    /// The metadata of every instance.
    pub metadata: Vec<(String, String)>,
    /// `start_timeout`, if it is set.
    pub start_timeout_ms: Option<u64>,
    /// `wait_timeout`, if it is set.
    pub wait_timeout_ms: Option<u64>,
    /// `stop_timeout`, if it is set. `u64::MAX` stands for `Duration::MAX`.
    pub stop_timeout_ms: Option<u64>,
    /// `Orphan::Keep`, without a supervisor.
    pub keep_orphan: bool,
    /// `linger`
    pub linger_ms: u64,
    /// `command`, if it is set.
    pub command: Option<CommandSpec>,
}

/// The command that procref executes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// A program and its arguments, instead of the fake service.
    pub program: Option<Vec<String>>,
    /// Further arguments of the fake service.
    pub args: Vec<String>,
    /// Environment variables, in addition to those of the actor.
    pub env: Vec<(String, String)>,
    /// The readiness check. `None` uses the default of the library.
    pub ready: Option<ReadySpec>,
    /// A fixed port, if it is set.
    pub port: Option<u16>,
    /// Uses socket activation.
    pub activated: bool,
    /// Name of the stop signal, if it is set.
    pub stop_signal: Option<String>,
    /// The log file and its size limit, if they are set.
    pub log: Option<(PathBuf, u64)>,
    /// The working directory, if it is set.
    pub dir: Option<PathBuf>,
}

/// A readiness check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadySpec {
    /// Ready as soon as the program is executed.
    AtOnce,
    /// TCP connections to the port.
    Tcp,
    /// HTTP requests of this path.
    Http(String),
    /// Connections to this Unix socket.
    Unix(String),
    /// A line of the log that matches.
    Log(String),
    /// A program that exits with 0.
    Command(Vec<String>),
    /// `sd_notify`
    Notify,
    /// `sd_notify` by the fake service, with the port that it has bound.
    NotifyPort,
    /// A callback that waits at [`Gate::Before`] of [`Callback::Ready`](super::Callback::Ready).
    Callback,
}

impl ServiceSpec {
    /// Adds gates at which callbacks wait.
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

    /// Sets `Orphan::Keep`: the service keeps running when all clients are killed.
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
    /// Panics if the service is not a command.
    #[must_use]
    pub fn with_args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        let command = self.command.as_mut().expect("a command");
        command.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the readiness check of the command.
    ///
    /// # Panics
    ///
    /// Panics if the service is not a command.
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
