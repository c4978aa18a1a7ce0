//! A scenario of the model: the clients with their acts, the service that they share, and the disturbances.

use super::choices::Budget;
use super::mutations::Mutation;
use super::process_table::ProcId;
use crate::engine::config::Orphan;

/// One act of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Acquire,
    /// Acquires, or drops the future before it is ready.
    AcquireOrCancel,
    TryJoin,
    /// Releases the handle that was acquired last.
    Release,
    /// Drops the handle that was acquired last.
    Drop,
    Pin,
    Unpin,
    /// Stops the service, unless a client holds it.
    Stop,
    /// Stops the service, even while clients hold it.
    ForceStop,
    WaitStopped,
    /// Another thread of the process performs these acts at the same time.
    Beside(Vec<Act>),
    /// The process exits without a release.
    Exit,
}

/// The way in which the service is started and stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Callback,
    Command,
}

/// The effect of `on_recover`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recover {
    /// Stops the old instance and starts another one.
    Restarts,
    /// Starts another instance beside the old one.
    Replaces,
}

/// The starter's settings for a service without clients.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    pub(super) orphan: Orphan,
    pub(super) lingers: bool,
}

impl Settings {
    pub(super) fn linger_ms(self) -> u32 {
        if self.lingers { 1000 } else { 0 }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) by: By,
    pub(super) clients: Vec<Vec<Act>>,
    pub(super) budget: Budget,
    pub(super) settings: Settings,
    /// The settings of the second client, if they differ.
    pub(super) second: Option<Settings>,
    pub(super) recover: Option<Recover>,
    /// Unrelated processes get the pids of processes that have exited.
    pub(super) reuse_pids: bool,
    /// A service that crashes leaves one of its processes running.
    pub(super) workers: bool,
    /// The service ignores the stop signal, and exits only when it is killed.
    pub(super) stubborn: bool,
    /// The service sends a port and metadata when it is ready.
    pub(super) notifies: bool,
    /// Number of preemptions: switches to another process while the current one could continue. `None` means
    /// any number.
    pub(super) bound: Option<u8>,
    pub(super) mutation: Option<Mutation>,
}

impl Scenario {
    pub(super) fn new(name: &'static str, by: By, clients: &[&[Act]]) -> Self {
        Self {
            name,
            by,
            clients: clients.iter().map(|acts| acts.to_vec()).collect(),
            budget: Budget::default(),
            settings: Settings::default(),
            second: None,
            recover: None,
            reuse_pids: true,
            workers: false,
            stubborn: false,
            notifies: false,
            bound: None,
            mutation: None,
        }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn with_budget(mut self, change: impl FnOnce(&mut Budget)) -> Self {
        change(&mut self.budget);
        self
    }

    pub(super) fn keeping_orphans(self) -> Self {
        self.with(|it| it.settings.orphan = Orphan::Keep)
    }

    pub(super) fn lingering(self) -> Self {
        self.with(|it| it.settings.lingers = true)
    }

    pub(super) fn settings_of(&self, client: ProcId) -> Settings {
        let second = self.second.filter(|_| client == ProcId(1));
        second.unwrap_or(self.settings)
    }
}

/// Returns the acts of the client that cleans up after crashes.
pub(super) fn janitor() -> Vec<Act> {
    vec![Act::Unpin, Act::Acquire, Act::Release]
}

/// The label of the step before a release, at which a client only uses the service.
pub(super) const RELEASE_HANDLE: &str = "release the handle";
