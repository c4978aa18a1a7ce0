use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::command::ServiceCommand;
use crate::engine::config::{Config, Orphan};
use crate::engine::fingerprint::{Fingerprint, Mismatch};
use crate::error::Result;
use crate::info::ServiceInfo;

mod build;

/// A builder of a [`SharedService`](crate::SharedService): how the service is started, checked and stopped.
/// [`SharedService::builder`](crate::SharedService::builder) makes one.
///
/// The task that awaits [`acquire`](crate::SharedService::acquire) or [`release`](crate::ServiceHandle::release) polls
/// the callbacks, on its own runtime. If a callback fails, panics or is cancelled, the lock is released and the count
/// is right.
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
#[must_use = "a builder does nothing before `build`"]
pub struct SharedServiceBuilder {
    name: String,
    base_dir: Option<PathBuf>,
    project: Option<PathBuf>,
    linger: Duration,
    config: Config,
}

impl SharedServiceBuilder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            base_dir: None,
            project: None,
            linger: Duration::ZERO,
            config: Config::default(),
        }
    }

    /// Sets the callback that starts the service. Its future resolves when the service is ready to be used.
    ///
    /// If the service does not run, one process calls it while all other clients wait. procref does not know
    /// the processes that the callback starts before the callback returns. If the calling process is killed
    /// by `SIGKILL` before that, these processes continue to run.
    ///
    /// The service outlives its starter. So the service must not use the starter's standard input, and must
    /// not exit when the starter's terminal closes. If the service is a child of the starter, it remains a
    /// zombie until the starter waits for it or exits.
    ///
    /// Without this callback [`acquire`](crate::SharedService::acquire) joins a running service, and returns
    /// [`Error::NoStart`](crate::Error::NoStart) if the service does not run.
    pub fn on_first_acquire<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ServiceInfo>> + Send + 'static,
    {
        self.config.start = Some(Box::new(move || Box::pin(callback())));
        self
    }

    /// Sets the callback that stops the service.
    ///
    /// The last client calls it, and so does a client that replaces an unhealthy instance. It is not called
    /// if the instance is already dead. After it has returned, procref waits until the process exits, and
    /// kills it after the [stop timeout](Self::stop_timeout). So the callback may send a signal and return.
    ///
    /// Without this callback procref sends `SIGTERM`.
    pub fn on_last_release<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn(ServiceInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.config.stop = Some(Box::new(move |info| Box::pin(callback(info))));
        self
    }

    /// Sets the callback that checks whether the service works. It returns `true` if the service is healthy.
    ///
    /// Every acquire calls it, after procref has found the process alive, and so does every start. If it takes longer
    /// than the [wait timeout](Self::wait_timeout), the service counts as unhealthy. Without this callback a service is
    /// healthy while its process is alive.
    pub fn on_health_check<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn(&ServiceInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        self.config.health = Some(Box::new(move |info| Box::pin(callback(info))));
        self
    }

    /// Sets the callback that recovers a service that is dead or unhealthy while other clients hold it. It returns the
    /// new instance, or the repaired one.
    ///
    /// If several processes notice the failure, one of them calls it once. If it returns another process and
    /// the old one is still alive, procref stops the old one. Without this callback, procref stops the old
    /// instance and calls `on_first_acquire`.
    pub fn on_recover<F, Fut>(mut self, callback: F) -> Self
    where
        F: Fn(ServiceInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ServiceInfo>> + Send + 'static,
    {
        self.config.recover = Some(Box::new(move |info| Box::pin(callback(info))));
        self
    }

    /// Sets the program that procref executes as the service. No callbacks are needed.
    ///
    /// A [supervisor](Self::orphan) executes the program and is its parent. After the last client, the supervisor sends
    /// the stop signal to the program, and kills the remaining processes after the [stop timeout](Self::stop_timeout).
    /// It does the same if the last client is killed. A release does not wait for that, but
    /// [`wait_stopped`](crate::SharedService::wait_stopped) does. A client that is killed during a start leaves no process
    /// behind.
    ///
    /// The command replaces `on_first_acquire`, `on_recover` and `on_last_release`: a dead or unhealthy service is
    /// executed again. All clients of a service must use a command, or all must use callbacks.
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

    /// Sets the callback that prepares a new instance before other clients may use it: migrations, a schema, a warm
    /// cache.
    ///
    /// The process that has started or recovered the instance calls it once, after the health check has passed. All
    /// other clients wait for it. It is also called after [`on_recover`](Self::on_recover) has returned the old
    /// process. If it fails, panics or takes longer than the [start timeout](Self::start_timeout), the start fails and
    /// the instance is stopped. The start timeout restarts for this callback.
    ///
    /// The callback must not acquire the service, because it would wait for itself. It gets
    /// [`Error::Recursion`](crate::Error::Recursion). If it starts a task or process that acquires the
    /// service, that task or process waits until the start timeout ends the start.
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

    /// Sets the runtime directory. Processes share a service if they use the same name **and** the same directory.
    ///
    /// If the directory is missing, it is created with mode 0700, with its parents. It must belong to this user, must
    /// not be a symbolic link, and must not be writable by others. A relative path is relative to the working directory
    /// at the time of [`build`](Self::build).
    ///
    /// On Linux the default is `$PROCREF_RUNTIME_DIR` if it is set. Otherwise it is `$XDG_RUNTIME_DIR/procref` if
    /// `$XDG_RUNTIME_DIR` exists and belongs to this user, and `/tmp/procref-UID` if not. The last two must have no
    /// permissions for others, and their parents are not created. A directory that `$PROCREF_RUNTIME_DIR` names is not
    /// created inside another user's directory. The variable may be that user's, kept by `sudo -E` or by `su` without
    /// `-`.
    ///
    /// ```no_run
    /// use procref::SharedService;
    ///
    /// # fn example() -> procref::Result<()> {
    /// // Each checkout of the project has its own services.
    /// let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/.procref");
    /// let service = SharedService::builder("database").base_dir(dir).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn base_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.base_dir = Some(dir.into());
        self
    }

    /// Makes the service one of a project, so that two checkouts of the project have separate services. `dir` is the
    /// directory of the project, which must exist. A relative path is relative to the working directory at the time of
    /// [`build`](Self::build), and links are resolved.
    ///
    /// The service's runtime directory is then `projects/NAME-DIGEST` in the directory that [`base_dir`](Self::base_dir)
    /// describes, as for the services of the command line whose `procref.toml` is in `dir`. So a test suite and `procref
    /// run` share a service if they use the same name. The files have mode 0700. `procref gc` removes the runtime directory
    /// of a project that does not exist any more.
    ///
    /// Without this, a name belongs to the user: all programs of the user that use the name share one service.
    ///
    /// ```no_run
    /// use procref::SharedService;
    ///
    /// # fn example() -> procref::Result<()> {
    /// let service = SharedService::builder("postgres")
    ///     .project(env!("CARGO_MANIFEST_DIR"))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn project(mut self, dir: impl Into<PathBuf>) -> Self {
        self.project = Some(dir.into());
        self
    }

    /// Sets the version or configuration of the service that this client requires: a version number, a digest, any text
    /// from 1 byte to 4 KiB. `mismatch` decides what happens if the running instance has another fingerprint or none.
    ///
    /// An instance has the fingerprint of the client that has started or recovered it. A dead or unhealthy
    /// instance with any fingerprint is replaced. Clients without a fingerprint join any instance, except a
    /// [separate](Mismatch::Separate) one, which only clients with its fingerprint find.
    ///
    /// ```no_run
    /// use procref::{Error, Mismatch, SharedService};
    ///
    /// # async fn example() -> procref::Result<()> {
    /// let service = SharedService::builder("language-server")
    ///     .fingerprint(env!("CARGO_PKG_VERSION"), Mismatch::Refuse)
    ///     .build()?;
    /// match service.acquire().await {
    ///     Err(Error::Fingerprint { theirs, .. }) => println!("version {theirs:?} is running"),
    ///     acquired => drop(acquired?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn fingerprint(mut self, text: impl Into<String>, mismatch: Mismatch) -> Self {
        self.config.fingerprint = Some(Fingerprint::new(text.into(), mismatch));
        self
    }

    /// Sets names and values that other clients can read, of an instance that this client starts or recovers.
    ///
    /// They are stored in the instance's record, which only this user can read, while the instance lives. A
    /// client that joins the instance reads them by [`definition`](crate::ServiceHandle::definition), and can
    /// report that the settings of the instance differ from its own. procref does not compare them. To refuse
    /// an instance, use [`fingerprint`](Self::fingerprint).
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

    /// Sets the time limit of a start: of `on_first_acquire`, of `on_recover`, of a command until it is ready, and once
    /// more of `on_ready`. The default is 60 s.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use procref::SharedService;
    ///
    /// # fn example(server: procref::ServiceCommand) -> procref::Result<()> {
    /// let service = SharedService::builder("model-server")
    ///     .command(server)
    ///     // It loads gigabytes before it is ready.
    ///     .start_timeout(Duration::from_secs(300))
    ///     // It has nothing to save.
    ///     .stop_timeout(Duration::from_secs(1))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.config.start_timeout = limit;
        self
    }

    /// Sets how long an acquire waits for other processes that start or stop the service, and for the health check.
    ///
    /// By default, an acquire waits for each start and stop for the time that the other process has
    /// announced, and 10 s more. A process announces the time that its own
    /// [`start_timeout`](Self::start_timeout) and [`stop_timeout`](Self::stop_timeout) allow. For a process
    /// that announces nothing (one that holds the lock of a [`RefCounter`](crate::RefCounter)), and for the
    /// health check, the default is 120 s.
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
    ///     Err(Error::Timeout { holder, .. }) => println!("process {holder:?} is still starting it"),
    ///     acquired => drop(acquired?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout(mut self, limit: Duration) -> Self {
        self.config.wait_timeout = Some(limit);
        self
    }

    /// Sets how long the service may take to exit after its stop signal, before it is killed. This includes the time of
    /// `on_last_release`. The default is 10 s.
    ///
    /// For a service that was started as a [`command`](Self::command), the setting of the client that has started it
    /// counts.
    pub fn stop_timeout(mut self, grace: Duration) -> Self {
        self.config.stop_timeout = grace;
        self
    }

    /// Sets what happens to the service when its last clients are killed. The default is [`Orphan::Stop`]. The setting
    /// of the client that starts the service counts.
    ///
    /// With [`Orphan::Stop`], that client forks a supervisor: a process of about 60 KiB that `ps` shows as `procref:
    /// NAME`. The supervisor sleeps in the kernel and exits with the service. It holds no descriptor, terminal or
    /// directory of the client. The fork copies the page tables of the client, which takes about 10 ms for 1 GiB of
    /// memory, once per start.
    ///
    /// Windows needs no supervisor. There the kernel ends the service with its last client, immediately and without a
    /// stop signal.
    ///
    /// ```no_run
    /// use procref::{Orphan, SharedService};
    ///
    /// # fn example(start: fn() -> std::future::Ready<procref::Result<procref::ServiceInfo>>) -> procref::Result<()> {
    /// let service = SharedService::builder("cache")
    ///     .on_first_acquire(start)
    ///     .orphan(Orphan::Keep) // the next client adopts it
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn orphan(mut self, policy: Orphan) -> Self {
        self.config.orphan = policy;
        self
    }

    /// Sets how long the service is kept after its last client, even if that client was killed. A client that
    /// acquires during this time gets the same instance. The default is zero, the maximum twelve days, the
    /// resolution a millisecond. The setting of the client that starts the service counts.
    ///
    /// With a linger time, many short processes share one instance, such as one process per test.
    ///
    /// When the time expires, there is no client that could run a callback, so the supervisor sends a signal.
    /// So a service that lingers must not have `on_last_release`, and needs [`Orphan::Stop`]. Windows has no
    /// supervisors, so on Windows [`build`](Self::build) returns an error for a linger time.
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
}

impl fmt::Debug for SharedServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedServiceBuilder")
            .field("name", &self.name)
            .field("base_dir", &self.base_dir)
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}
