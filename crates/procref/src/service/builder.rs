use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::SharedService;
use crate::command::ServiceCommand;
use crate::engine::config::{Config, Orphan};
use crate::engine::fingerprint::{Fingerprint, Mismatch};
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::kernel::{Kernel as _, MAX_LINGER_MS, Native};
use crate::key::ServiceKey;
use crate::name::Name;
use crate::namespace;

/// Tells how a service is started, checked and stopped. Made by
/// [`SharedService::builder`](crate::SharedService::builder).
///
/// Callbacks are polled by whoever awaits [`acquire`](crate::SharedService::acquire) or
/// [`release`](crate::ServiceHandle::release), on whatever runtime that is. A callback that fails,
/// panics or is cancelled leaves nothing locked and the count right.
///
/// ```no_run
/// use procref::{ServiceInfo, SharedService, process};
///
/// # fn start_database(port: u16) -> procref::Result<u32> { Ok(1234) }
/// # async fn restart(old: ServiceInfo) -> procref::Result<ServiceInfo> { Ok(old) }
/// # async fn example() -> procref::Result<()> {
/// let service = SharedService::builder("my-database")
///     .on_first_acquire(|| async {
///         let port = 5432;
///         let pid = start_database(port)?;
///         Ok(ServiceInfo::new(pid, port))
///     })
///     .on_last_release(|info| async move {
///         process::terminate(info.pid());
///         Ok(())
///     })
///     .on_health_check(|info: &ServiceInfo| {
///         let pid = info.pid();
///         async move { process::is_alive(pid) }
///     })
///     .on_recover(|old: ServiceInfo| async move { restart(old).await })
///     .build()?;
/// let handle = service.acquire().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before `build`"]
pub struct SharedServiceBuilder {
    name: String,
    base_dir: Option<PathBuf>,
    linger: Duration,
    config: Config,
}

impl SharedServiceBuilder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            base_dir: None,
            linger: Duration::ZERO,
            config: Config::default(),
        }
    }

    /// Starts the service; resolves when it is ready to be used.
    ///
    /// Called by the process that finds no service running, while all others wait. What it has
    /// spawned is unknown to procref until it returns: a process that is `SIGKILL`ed in the middle
    /// of it leaves that behind.
    ///
    /// The service outlives this process, so it should not share its standard input or die with its
    /// terminal, and a child of this process stays a zombie until this process waits for it or ends.
    ///
    /// Without this callback [`acquire`](crate::SharedService::acquire) can join, and fails with
    /// [`Error::NoStart`] where it would have to start.
    pub fn on_first_acquire<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ServiceInfo>> + Send + 'static,
    {
        self.config.start = Some(Box::new(move || Box::pin(callback())));
        self
    }

    /// Asks the service to stop.
    ///
    /// Called by the last client to let go, and before a service that is unhealthy is started anew.
    /// Not called when the service is dead already. procref then waits until the process is
    /// gone, and kills it after the [stop timeout](Self::stop_timeout), so it is enough to send a
    /// signal and return.
    ///
    /// Without this callback procref sends `SIGTERM` itself.
    pub fn on_last_release<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn(ServiceInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.config.stop = Some(Box::new(move |info| Box::pin(callback(info))));
        self
    }

    /// Says whether the service works. Asked in every acquire, after procref has seen that the
    /// process is alive, and once right after a start.
    ///
    /// One that does not answer within the [wait timeout](Self::wait_timeout) counts as unhealthy.
    /// Without this callback a service is healthy while its process lives.
    pub fn on_health_check<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn(&ServiceInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        self.config.health = Some(Box::new(move |info| Box::pin(callback(info))));
        self
    }

    /// Brings back a service that died or is unhealthy while others hold it, and tells how it is now.
    ///
    /// However many processes notice at once, one of them calls this, once. If the old process
    /// still lives and another one was returned, procref stops the old one. Without this callback
    /// the old one is stopped and `on_first_acquire` called.
    pub fn on_recover<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn(ServiceInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ServiceInfo>> + Send + 'static,
    {
        self.config.recover = Some(Box::new(move |info| Box::pin(callback(info))));
        self
    }

    /// Has procref itself execute the service, and stop it with every process it has started: the whole
    /// life of a service in one place, without callbacks.
    ///
    /// The program is executed under a [supervisor](Self::orphan) that is its parent. When the last
    /// client has let go, or was killed, the supervisor asks it to end, and kills what is left of it after
    /// the [stop timeout](Self::stop_timeout). Letting go never waits for that;
    /// [`wait_stopped`](crate::SharedService::wait_stopped) does. A client that is killed in the middle
    /// of a start leaves nothing behind.
    ///
    /// It takes the place of `on_first_acquire`, `on_recover` and `on_last_release`: a service that died
    /// or is unhealthy is executed anew. All clients of a service use either this or the callbacks.
    ///
    /// ```no_run
    /// use procref::{ServiceCommand, SharedService};
    ///
    /// # async fn example() -> procref::Result<()> {
    /// let redis = SharedService::builder("redis")
    ///     .command(ServiceCommand::new("redis-server").args(["--bind", "127.0.0.1", "--port", "{port}"]))
    ///     .build()?;
    /// let handle = redis.acquire().await?; // on a free port, once it answers there
    /// println!("redis://127.0.0.1:{}", handle.port());
    /// # Ok(())
    /// # }
    /// ```
    pub fn command(mut self, command: ServiceCommand) -> Self {
        self.config.command = Some(Arc::new(command));
        self
    }

    /// Prepares an instance that works, before anybody is let in: migrations, a schema, a warm cache.
    ///
    /// Called once for every instance, by the process that started or recovered it, when its process
    /// lives and its health check has said yes; all others wait until this is done, too. Also called when
    /// [`on_recover`](Self::on_recover) returned the old process. Where it fails, panics or takes longer
    /// than the [start timeout](Self::start_timeout), which begins anew for it, the start has failed and
    /// the instance is stopped.
    ///
    /// It must not acquire the service itself: it would wait for its own end, and gets
    /// [`Error::Recursion`]. A task or process that it starts for that waits until the start timeout is over.
    ///
    /// ```no_run
    /// # use procref::{ServiceInfo, SharedService};
    /// # async fn start_database() -> procref::Result<ServiceInfo> { Ok(ServiceInfo::new(1234, 5432)) }
    /// # async fn migrate(port: u16) -> procref::Result<()> { Ok(()) }
    /// # fn example() -> procref::Result<()> {
    /// let service = SharedService::builder("my-database")
    ///     .on_first_acquire(start_database)
    ///     .on_ready(|info| async move { migrate(info.port()).await })
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_ready<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn(ServiceInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.config.on_ready = Some(Box::new(move |info| Box::pin(callback(info))));
        self
    }

    /// The runtime directory: processes share a service if they name it alike **and** use the same
    /// directory.
    ///
    /// Created with mode 0700 if it is missing, with its parents. It must belong to this user, be no
    /// symbolic link, and not be writable by others. A relative path is relative to the working directory
    /// at the time of [`build`](Self::build).
    ///
    /// The default is `$PROCREF_RUNTIME_DIR` if it is set. Otherwise it is `$XDG_RUNTIME_DIR/procref` if
    /// `$XDG_RUNTIME_DIR` exists and belongs to this user, and `/tmp/procref-UID` if not. These two must
    /// have no permission for others at all, and none of their parents is created. A directory that
    /// `$PROCREF_RUNTIME_DIR` names is not created inside another user's directory: the variable may be
    /// that user's, kept by `sudo -E` or `su` without `-`.
    ///
    /// ```no_run
    /// use procref::SharedService;
    ///
    /// # fn example() -> procref::Result<()> {
    /// // Every checkout of the project has services of its own.
    /// let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/.procref");
    /// let service = SharedService::builder("database").base_dir(dir).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn base_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.base_dir = Some(dir.into());
        self
    }

    /// Says what this client wants the service to be: a version, a digest of its configuration, any text
    /// up to 4 KiB. `mismatch` decides what to do where an instance of another fingerprint, or of
    /// none, runs.
    ///
    /// The instance has the fingerprint of the client that started or recovered it. One that is dead or
    /// unhealthy is replaced, whatever it was. Clients without a fingerprint join any, except one that is
    /// [separate](Mismatch::Separate): nobody finds that without its fingerprint.
    ///
    /// ```no_run
    /// use procref::{Error, Mismatch, SharedService};
    ///
    /// # async fn example() -> procref::Result<()> {
    /// let service = SharedService::builder("language-server")
    ///     .fingerprint(env!("CARGO_PKG_VERSION"), Mismatch::Refuse)
    ///     .build()?;
    /// match service.acquire().await {
    ///     Err(Error::Fingerprint { theirs, .. }) => println!("others use {theirs:?}"),
    ///     acquired => drop(acquired?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn fingerprint(mut self, text: impl Into<String>, mismatch: Mismatch) -> Self {
        self.config.fingerprint = Some(Fingerprint::new(text.into(), mismatch));
        self
    }

    /// Tells others the settings of an instance that this client starts or recovers: names and values of
    /// its choice.
    ///
    /// They are kept in the instance's record, which only this user can read, for as long as the instance
    /// lives. A client that joins it finds them in [`definition`](crate::ServiceHandle::definition), and can
    /// tell its user that the instance runs with other settings than its own. procref does not compare them;
    /// [`fingerprint`](Self::fingerprint) refuses an instance.
    ///
    /// ```no_run
    /// use procref::{ServiceCommand, SharedService};
    ///
    /// # async fn example() -> procref::Result<()> {
    /// let cache = "512mb";
    /// let redis = SharedService::builder("redis")
    ///     .command(ServiceCommand::new("redis-server").args(["--port", "{port}", "--maxmemory", cache]))
    ///     .definition([("maxmemory", cache)])
    ///     .build()?;
    /// let handle = redis.acquire().await?;
    /// if handle.definition().get("maxmemory").is_some_and(|theirs| theirs != cache) {
    ///     eprintln!("redis runs with {:?}", handle.definition());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn definition<K: Into<String>, V: Into<String>>(
        mut self,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let settings = settings.into_iter();
        let settings = settings.map(|(name, value)| (name.into(), value.into()));
        self.config.definition = settings.collect();
        self
    }

    /// How long `on_first_acquire` or `on_recover` may take, and `on_ready` after it. 60 s each unless set.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use procref::SharedService;
    ///
    /// # fn example(server: procref::ServiceCommand) -> procref::Result<()> {
    /// let service = SharedService::builder("model-server")
    ///     .command(server)
    ///     // It loads gigabytes, which others wait for, too ...
    ///     .start_timeout(Duration::from_secs(300))
    ///     // ... and has nothing to save.
    ///     .stop_timeout(Duration::from_secs(1))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.config.start_timeout = limit;
        self
    }

    /// Limits how long an acquire waits for other processes to start or stop the service, and for the health
    /// check to answer.
    ///
    /// Unless it is set, an acquire waits for each start and stop as long as the process that does it says
    /// that it takes at most, by its own [`start_timeout`](Self::start_timeout) and
    /// [`stop_timeout`](Self::stop_timeout), and 10 s more. It waits 120 s for a process that says nothing (a
    /// [`RefCounter`](crate::RefCounter)'s lock), and for the health check.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use procref::{Error, SharedService};
    ///
    /// # async fn example(server: procref::ServiceCommand) -> procref::Result<()> {
    /// let service = SharedService::builder("model-server")
    ///     .command(server)
    ///     .start_timeout(Duration::from_secs(300))
    ///     .wait_timeout(Duration::from_secs(5))
    ///     .build()?;
    /// match service.acquire().await {
    ///     Err(Error::Timeout { holder, .. }) => println!("process {holder:?} still starts it"),
    ///     acquired => drop(acquired?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout(mut self, limit: Duration) -> Self {
        self.config.wait_timeout = Some(limit);
        self
    }

    /// How long the service has to be gone after it was asked, `on_last_release` included, before it
    /// is killed. 10 s unless set. Of a service that was started as a [`command`](Self::command), the
    /// setting of the client that started it counts.
    pub fn stop_timeout(mut self, grace: Duration) -> Self {
        self.config.stop_timeout = grace;
        self
    }

    /// What becomes of the service when its last clients are killed. [`Orphan::Stop`] unless set.
    ///
    /// For that, the client that starts the service forks a supervisor: a process of about 60 KiB that
    /// `ps` shows as `procref: NAME`. It sleeps in the kernel, holds no descriptor, terminal or
    /// directory of the client's, and ends with the service. Forking copies the page tables of the
    /// client: about 10 ms for 1 GiB of memory, once per start.
    ///
    /// Windows needs no such process: there the kernel ends the service with its last client, at once
    /// and without asking it first.
    ///
    /// The setting of the client that starts the service counts.
    ///
    /// ```no_run
    /// use procref::{Orphan, SharedService};
    ///
    /// # fn example(start: fn() -> std::future::Ready<procref::Result<procref::ServiceInfo>>) -> procref::Result<()> {
    /// let service = SharedService::builder("cache")
    ///     .on_first_acquire(start)
    ///     .orphan(Orphan::Keep) // for the next client, whenever that comes
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn orphan(mut self, policy: Orphan) -> Self {
        self.config.orphan = policy;
        self
    }

    /// Keeps the service warm for a time after its last client, also when that one was killed: a
    /// client that comes within it finds the same instance. Zero unless set; up to twelve days.
    ///
    /// This is what makes it cheap to have a process per test. The setting of the client that starts
    /// the service counts. When the time is over there is no client to call back, so the service
    /// is stopped by signal: a lingering service has no `on_last_release`, and needs [`Orphan::Stop`].
    ///
    /// Windows has nobody who could end it: there it is an error at [`build`](Self::build).
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use procref::SharedService;
    ///
    /// # fn example(server: procref::ServiceCommand) -> procref::Result<()> {
    /// let service = SharedService::builder("database")
    ///     .command(server)
    ///     .linger(Duration::from_secs(2))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    fn check_command(&self) -> Result<()> {
        let Some(command) = &self.config.command else {
            return Ok(());
        };
        let callbacks = [
            ("on_first_acquire", self.config.start.is_some()),
            ("on_recover", self.config.recover.is_some()),
            ("on_last_release", self.config.stop.is_some()),
        ];
        if let Some((callback, _)) = callbacks.into_iter().find(|(_, set)| *set) {
            let reason =
                format!("procref starts and stops it, so there is no `{callback}`; leave one out");
            return self.refused("command", reason);
        }
        if self.config.orphan == Orphan::Keep {
            let reason = "its supervisor is its parent, and stops it with its last client, so there is no \
                          `Orphan::Keep`; to keep it, pin it";
            return self.refused("orphan", reason);
        }
        command.check(&self.name)
    }

    fn refused<T>(&self, setting: &'static str, reason: impl Into<String>) -> Result<T> {
        Err(Error::InvalidSetting {
            service: self.name.clone(),
            setting,
            reason: reason.into(),
        })
    }

    fn checked_linger(&self) -> Result<u32> {
        let refused = |reason: &str| self.refused("linger", reason);
        if self.linger.is_zero() {
            return Ok(0);
        }
        if !Native::NEEDS_SUPERVISOR {
            return refused(
                "on Windows the service ends with its last client: there is no process that could keep it \
                 warm; to keep it, hold a handle somewhere, or pin it",
            );
        }
        if self.config.orphan == Orphan::Keep {
            return refused("there is no supervisor with `Orphan::Keep` that could end it");
        }
        if self.config.stop.is_some() {
            return refused(
                "when it ends there is no client to call `on_last_release`; leave one out",
            );
        }
        match u32::try_from(self.linger.as_millis()) {
            // A part of a millisecond is not nothing.
            Ok(milliseconds) if milliseconds <= MAX_LINGER_MS => Ok(milliseconds.max(1)),
            _ => refused("it is longer than twelve days"),
        }
    }

    /// Checks the name and the settings as [`build`](Self::build) does, and neither looks at the runtime
    /// directory nor creates it.
    ///
    /// ```
    /// use procref::{Ready, ServiceCommand, SharedService};
    ///
    /// let server = ServiceCommand::new("my-server").ready(Ready::log("ready ["));
    /// let error = SharedService::builder("server").command(server).check().unwrap_err();
    /// assert!(error.to_string().contains("invalid ready"));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`] and [`Error::InvalidSetting`], as for [`build`](Self::build).
    pub fn check(&self) -> Result<()> {
        Name::new(&self.name)?;
        self.checked_linger()?;
        self.check_command()?;
        let fingerprint = self.config.fingerprint.as_ref();
        fingerprint.map_or(Ok(()), |it| it.check(&self.name))
    }

    /// Checks name and directory. Starts nothing, and leaves no kernel object.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`]: the name is empty, longer than 255 bytes, or has a NUL.
    /// [`Error::InvalidSetting`]: [`linger`](Self::linger) is too long, or has no one to end it; the
    /// [`fingerprint`](Self::fingerprint) is empty or too long; [`command`](Self::command) cannot be what
    /// is meant.
    /// [`Error::RuntimeDir`]: the directory cannot be created or is not safe to use.
    pub fn build(mut self) -> Result<SharedService> {
        self.check()?;
        let name = Name::new(&self.name)?;
        self.config.linger_ms = self.checked_linger()?;
        let fingerprint = self.config.fingerprint.as_ref();
        let namespace = namespace::open(self.base_dir.as_deref())?;
        let mut key = ServiceKey::new(namespace, name);
        if let Some(fingerprint) = fingerprint.and_then(Fingerprint::identity) {
            key = key.separated(fingerprint);
        }
        Ok(SharedService::new(key, Arc::new(self.config)))
    }
}

impl fmt::Debug for SharedServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedServiceBuilder")
            .field("name", &self.name)
            .field("base_dir", &self.base_dir)
            .finish_non_exhaustive()
    }
}
