//! One client's settings of a service: callbacks and time limits.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::fingerprint::{Fingerprint, Mismatch};
use super::platform::Platform;
use super::resolved_instance::ResolvedInstance;
use crate::command::{ServiceCommand, StopPolicy, StopSignal};
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::kernel::Supervised;
use crate::process::KILL_TIMEOUT;
use crate::runtime::deadline::{DEFAULT_WAIT_TIMEOUT, Patience};
use crate::runtime::{BoxFuture, caught};

pub(crate) type StartFn = Box<dyn Fn() -> BoxFuture<Result<ServiceInfo>> + Send + Sync>;
pub(crate) type StopFn = Box<dyn Fn(ServiceInfo) -> BoxFuture<Result<()>> + Send + Sync>;
pub(crate) type HealthFn = Box<dyn Fn(&ServiceInfo) -> BoxFuture<bool> + Send + Sync>;
pub(crate) type ReadyFn = StopFn;
pub(crate) type RecoverFn =
    Box<dyn Fn(ServiceInfo) -> BoxFuture<Result<ServiceInfo>> + Send + Sync>;

pub(crate) const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The policy for a service whose last clients are killed.
///
/// The default is [`Stop`](Self::Stop).
///
/// ```no_run
/// use procref::{Orphan, ServiceInfo, SharedService};
///
/// # async fn start_cache() -> procref::Result<ServiceInfo> { Ok(ServiceInfo::with_pid(1234)) }
/// # fn example() -> procref::Result<()> {
/// let service = SharedService::builder("cache")
///     .on_first_acquire(start_cache)
///     // The cache outlives a last client that is killed, but not one that releases its handle.
///     .orphan(Orphan::Keep)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Orphan {
    /// A supervisor stops the service: with `SIGTERM`, and with `SIGKILL` after the stop timeout. The supervisor is a
    /// small process of procref, which sleeps while any client uses the service.
    #[default]
    Stop,
    /// The service continues to run, and the next client adopts it. It has no supervisor.
    Keep,
}

pub(crate) struct Config {
    pub(crate) start: Option<StartFn>,
    pub(crate) stop: Option<StopFn>,
    pub(crate) health: Option<HealthFn>,
    pub(crate) recover: Option<RecoverFn>,
    pub(crate) on_ready: Option<ReadyFn>,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) definition: BTreeMap<String, String>,
    pub(crate) start_timeout: Duration,
    /// `None` means the time that the other processes have announced.
    pub(crate) wait_timeout: Option<Duration>,
    pub(crate) stop_timeout: Duration,
    pub(crate) orphan: Orphan,
    pub(crate) linger_ms: u32,
    pub(crate) command: Option<Arc<ServiceCommand>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            start: None,
            stop: None,
            health: None,
            recover: None,
            on_ready: None,
            fingerprint: None,
            definition: BTreeMap::new(),
            start_timeout: DEFAULT_START_TIMEOUT,
            wait_timeout: None,
            stop_timeout: DEFAULT_STOP_TIMEOUT,
            orphan: Orphan::default(),
            linger_ms: 0,
            command: None,
        }
    }
}

impl Config {
    /// Returns whether this client's join requires a supervisor.
    pub(crate) fn supervised(&self) -> Supervised {
        match self.orphan {
            Orphan::Stop => Supervised::Yes,
            Orphan::Keep => Supervised::No,
        }
    }

    /// Returns how this client stops the service.
    pub(crate) fn stop(&self) -> StopPolicy {
        StopPolicy {
            signal: self
                .command
                .as_ref()
                .map_or_else(StopSignal::default, |command| command.chosen_stop_signal()),
            grace: self.stop_timeout,
        }
    }

    /// Returns the time limit of waits for other processes, which begins now.
    pub(crate) fn patience(&self) -> Patience {
        Patience::of(self.wait_timeout)
    }

    /// Returns how long the health check may take.
    pub(crate) fn health_timeout(&self) -> Duration {
        self.wait_timeout.unwrap_or(DEFAULT_WAIT_TIMEOUT)
    }

    /// Returns the time limit of a start or a recovery by this client, which begins when the old instance is
    /// dead. If `tree` is `true`, the supervisor of the old instance must still stop other processes of that
    /// instance. The limit includes the stop of an instance whose start fails.
    pub(crate) fn start_limit(&self, tree: bool) -> Duration {
        let steps = [
            Some(self.start_timeout),
            tree.then_some(self.start_timeout),
            self.health.is_some().then(|| self.health_timeout()),
            self.on_ready.is_some().then_some(self.start_timeout),
            Some(self.stop().limit()),
        ];
        let steps = steps.into_iter().flatten();
        steps.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Returns how long dropping the last handle waits for the stop. This is longer than the grace, so that the handle
    /// also waits for a service that ignores the stop signal and is killed.
    pub(crate) fn drop_patience(&self) -> Duration {
        self.stop_timeout.saturating_add(KILL_TIMEOUT)
    }

    /// Returns the fingerprint of the instances that this client starts.
    pub(crate) fn own_fingerprint(&self) -> Option<String> {
        self.fingerprint.as_ref().map(|own| own.text.clone())
    }

    /// Returns `true` if clients that join must read the record of this client's instances.
    pub(crate) fn needs_record(&self) -> bool {
        let fingerprint = self.fingerprint.as_ref();
        fingerprint.is_some_and(|own| own.identity().is_none()) || !self.definition.is_empty()
    }

    /// Returns `true` if this client does not accept the fingerprint of an instance.
    pub(crate) fn refuses<W: Platform>(&self, current: &ResolvedInstance<W>) -> bool {
        self.fingerprint
            .as_ref()
            .is_some_and(|own| own.mismatch == Mismatch::Refuse && !own.is_of(current))
    }
}

/// Wraps the error of a callback with the callback's name.
pub(crate) fn callback_error(service: &str, callback: &'static str, source: Error) -> Error {
    Error::Callback {
        service: service.to_owned(),
        callback,
        source: Box::new(source),
    }
}

/// Runs a callback and catches its panic, so that the steps after the callback run anyway.
pub(crate) async fn run_to_end<F>(service: &str, callback: &'static str, future: F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    match caught(future).await {
        Ok(done) => done.map_err(|error| callback_error(service, callback, error)),
        Err(message) => Err(Error::CallbackPanicked {
            service: service.to_owned(),
            callback,
            message,
        }),
    }
}
