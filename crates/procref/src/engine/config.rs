//! What one client was told about the service: callbacks and time limits.

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

/// What becomes of a service whose last clients were killed.
///
/// ```no_run
/// use procref::{Orphan, ServiceInfo, SharedService};
///
/// # async fn start_cache() -> procref::Result<ServiceInfo> { Ok(ServiceInfo::with_pid(1234)) }
/// # fn example() -> procref::Result<()> {
/// let service = SharedService::builder("cache")
///     .on_first_acquire(start_cache)
///     // It may outlive clients that are killed, but not one that lets go.
///     .orphan(Orphan::Keep)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Orphan {
    /// A supervisor stops it: `SIGTERM`, and after the stop timeout `SIGKILL`. It is a small process of
    /// procref's own that sleeps for as long as anybody uses the service.
    #[default]
    Stop,
    /// It is left running, and the next client adopts it. There is no supervisor.
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
    /// `None`: as long as others have announced.
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
    /// Whether to ask for a supervisor in a join.
    pub(crate) fn supervised(&self) -> Supervised {
        match self.orphan {
            Orphan::Stop => Supervised::Yes,
            Orphan::Keep => Supervised::No,
        }
    }

    /// How this client stops the service.
    pub(crate) fn stop(&self) -> StopPolicy {
        StopPolicy {
            signal: self
                .command
                .as_ref()
                .map_or_else(StopSignal::default, |command| command.chosen_stop_signal()),
            grace: self.stop_timeout,
        }
    }

    /// How long this client waits for others, from now.
    pub(crate) fn patience(&self) -> Patience {
        Patience::of(self.wait_timeout)
    }

    /// How long the health check may take.
    pub(crate) fn health_timeout(&self) -> Duration {
        self.wait_timeout.unwrap_or(DEFAULT_WAIT_TIMEOUT)
    }

    /// How long a start or a recovery by this client takes at most, from when nothing of an older instance
    /// is left but, with `tree`, processes that its supervisor ends. The end of a start that fails included.
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

    /// How long dropping the last handle waits for the stop. Longer than the grace, so that killing a
    /// service that ignores it is still seen through.
    pub(crate) fn drop_patience(&self) -> Duration {
        self.stop_timeout.saturating_add(KILL_TIMEOUT)
    }

    /// What an instance that this client brings up is said to be.
    pub(crate) fn own_fingerprint(&self) -> Option<String> {
        self.fingerprint.as_ref().map(|own| own.text.clone())
    }

    /// Whether clients that join have to read in the record what the instance is.
    pub(crate) fn is_told_by_record(&self) -> bool {
        let fingerprint = self.fingerprint.as_ref();
        fingerprint.is_some_and(|own| own.identity().is_none()) || !self.definition.is_empty()
    }

    /// Whether the client is refused where an instance that is well is this one.
    pub(crate) fn refuses<W: Platform>(&self, current: &ResolvedInstance<W>) -> bool {
        self.fingerprint
            .as_ref()
            .is_some_and(|own| own.mismatch == Mismatch::Refuse && !own.is_of(current))
    }
}

/// A callback's own error, with the callback's name around it.
pub(crate) fn callback_error(service: &str, callback: &'static str, source: Error) -> Error {
    Error::Callback {
        service: service.to_owned(),
        callback,
        source: Box::new(source),
    }
}

/// Runs a callback whose panic must not keep what follows from being done.
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
