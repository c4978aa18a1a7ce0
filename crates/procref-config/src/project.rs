//! The services that apply to a directory.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procref::{SharedService, SharedServiceBuilder};

use crate::acquired::AcquiredServices;
use crate::error::{Error, Result};
use crate::files::diagnostic::suggestion;
use crate::files::{Files, Selection};
use crate::resolved::ResolvedServices;

/// The services that apply to a directory: those of a `procref.toml`, and those of the user's file.
///
/// The user's file is `procref/config.toml` in `$XDG_CONFIG_HOME` or `~/.config`, and in `%APPDATA%` on Windows. Its
/// services are available in all projects.
///
/// ```
/// use procref_config::Project;
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// std::fs::write(dir.join("procref.toml"), "[services.db]\nstart = 'db-server {port}'\n")?;
/// # let outer = dir;
/// let dir = dir.join("src");
/// # std::fs::create_dir(&dir)?;
/// # if std::env::var_os("PROCREF_CONFIG").is_none() {
/// let project = Project::find(&dir)?.expect("a file above the directory");
/// assert!(project.file().ends_with("procref.toml"));
/// assert!(project.names().any(|name| name == "db"));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Project {
    files: Files,
    runtime_dir: Option<PathBuf>,
}

impl Project {
    /// Reads the nearest `procref.toml` in `from` or above it, and the user's file. Returns `None` if there is neither.
    ///
    /// If the variable `PROCREF_CONFIG` is set, reads the file that it names instead of the nearest one. `from` may be
    /// relative to the working directory.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] with all errors of both files. A file that another user may have changed is an error,
    /// because it determines which programs are executed, unless `PROCREF_CONFIG` names it.
    pub fn find(from: &Path) -> Result<Option<Self>> {
        let project = Self::select(Selection {
            from: Some(from.to_owned()),
            ..Selection::default()
        })?;
        Ok(Some(project).filter(|project| project.files.paths().next().is_some()))
    }

    /// Reads this file and the user's file. The caller is responsible for the file: its owner is not checked.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] with all errors of both files, also if this file does not exist.
    pub fn read(file: &Path) -> Result<Self> {
        Self::select(Selection {
            file: Some(file.to_owned()),
            ..Selection::default()
        })
    }

    fn select(selection: Selection) -> Result<Self> {
        Ok(Self {
            files: Files::read(&selection)?,
            runtime_dir: None,
        })
    }

    /// Sets the common runtime directory, as `--runtime-dir` of the command line does. The services that belong to the
    /// project run in a directory below it. The default is that of
    /// [`base_dir`](procref::SharedServiceBuilder::base_dir).
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use procref_config::Project;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// # let file = dir.join("procref.toml");
    /// std::fs::write(&file, "[services.db]\nstart = 'db-server {port}'\nshared = true\n")?;
    /// let project = Project::read(&file)?.with_runtime_dir(dir.join("run"));
    /// let db = project.service("db", Path::new("/usr/bin/procref"))?;
    /// assert_eq!(db.shared_service()?.runtime_dir(), dir.join("run"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_runtime_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.runtime_dir = Some(dir.into());
        self
    }

    /// Returns the names of the services, those of the project first. A name that both files describe is repeated.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.names()
    }

    /// Returns the absolute path of the project's file, or of the user's file if there is no other.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.files.paths().next().expect("at least one file")
    }

    /// Returns a service with its dependencies. The project's file is searched first, and then the user's file.
    ///
    /// `helper` is the path of the program `procref`. See [the helper](crate#the-helper).
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownService`] if no file describes the service, [`Error::Config`] if it depends on itself,
    /// [`Error::Conflict`] if two of its dependencies export the same variable, and [`Error::Service`] if the runtime
    /// directory cannot be created.
    pub fn service(&self, name: &str, helper: &Path) -> Result<ResolvedService> {
        let names = [name.to_owned()];
        let found = self.files.resolve(self.runtime_dir.as_deref(), &names)?;
        let unknown = |name: &str| {
            Err(Error::UnknownService {
                name: name.to_owned(),
                files: self.files.paths().map(Path::to_owned).collect(),
                hint: suggestion(name, self.names()),
            })
        };
        Ok(ResolvedService {
            resolved: ResolvedServices::new(found, &names, unknown)?,
            helper: helper.to_owned(),
        })
    }
}

/// A service of a configuration, with all its dependencies.
///
/// ```
/// use std::path::Path;
///
/// use procref_config::Project;
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # let file = dir.join("procref.toml");
/// std::fs::write(
///     &file,
///     "[services.db]\nstart = 'db-server'\n[services.web]\nstart = 'web-server'\ndepends-on = ['db']\n",
/// )?;
/// # let project = Project::read(&file)?.with_runtime_dir(dir.join("run"));
/// # #[cfg(any())]
/// let project = Project::read(&file)?;
/// let web = project.service("web", Path::new("/usr/bin/procref"))?;
/// assert_eq!(web.name(), "web");
/// assert_eq!(web.dependencies().collect::<Vec<_>>(), ["db"]);
/// // Read the status without starting the service.
/// let status = web.shared_service()?.status()?;
/// assert_eq!(status.state(), procref::State::Absent);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ResolvedService {
    resolved: ResolvedServices,
    helper: PathBuf,
}

impl ResolvedService {
    /// Returns the name of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.resolved.first().name
    }

    /// Returns the names of the direct and indirect dependencies, in the order in which they are acquired.
    pub fn dependencies(&self) -> impl Iterator<Item = &str> {
        let all = self.resolved.all().map(|spec| spec.name.as_str());
        all.take(self.resolved.first_named())
    }

    /// Returns how long each service is kept after its last client, in the order in which [`acquire`](Self::acquire)
    /// changes their builders: the dependencies, and then the service.
    ///
    /// ```
    /// use std::path::Path;
    /// use std::time::Duration;
    ///
    /// use procref_config::Project;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let file = dir.path().join("procref.toml");
    /// std::fs::write(
    ///     &file,
    ///     "[services.db]\nstart = 'db-server'\nlinger = '5s'\n[services.web]\nstart = 'x'\ndepends-on = ['db']\n",
    /// )?;
    /// let web = Project::read(&file)?.service("web", Path::new("/usr/bin/procref"))?;
    /// let lingers: Vec<Duration> = web.lingers().collect();
    /// assert_eq!(lingers, [Duration::from_secs(5), Duration::ZERO]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lingers(&self) -> impl Iterator<Item = Duration> {
        let all = self.resolved.all();
        all.map(|spec| spec.linger.unwrap_or_default())
    }

    /// Returns the service itself, to read its status, to join it while it runs, or to stop it.
    ///
    /// To start a service with dependencies, use [`acquire`](Self::acquire): the service does not start if a
    /// dependency is not running.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Service`] if the runtime directory cannot be used.
    pub fn shared_service(&self) -> Result<SharedService> {
        Ok(self.resolved.first().build(&self.helper)?)
    }

    /// Acquires the service and its dependencies. Those that do not depend on each other start at the same time.
    ///
    /// `change` can add settings to each of the services, dependencies included. It must not change the runtime
    /// directory, the command or the fingerprint, because the services find each other by them.
    ///
    /// Dropping the future releases everything.
    ///
    /// ```no_run
    /// use std::path::Path;
    /// use std::time::Duration;
    ///
    /// use procref_config::Project;
    ///
    /// # async fn example() -> procref_config::Result<()> {
    /// let project = Project::read(Path::new("procref.toml"))?;
    /// let web = project.service("web", Path::new("/usr/bin/procref"))?;
    /// let held = web
    ///     .acquire(|builder| builder.linger(Duration::from_secs(2)))
    ///     .await?;
    /// println!("web runs on port {}", held.handle().port());
    /// held.release().await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the first error of a service, and releases the others. [`Error::Service`] is an error of the library.
    /// [`Error::BeforeProgram`], [`Error::Advised`] and [`Error::AfterFailures`] explain one. [`Error::Exited`] means
    /// that a service exited while the others started.
    pub fn acquire(
        self,
        change: impl Fn(SharedServiceBuilder) -> SharedServiceBuilder,
    ) -> impl Future<Output = Result<AcquiredServices>> + Send {
        let specs = self.resolved.all();
        let services = specs.map(|spec| change(spec.builder(&self.helper)).build());
        let services: procref::Result<Vec<SharedService>> = services.collect();
        async move { AcquiredServices::acquire(&self.resolved, &services?).await }
    }

    /// Acquires the service and its dependencies, like [`acquire`](Self::acquire), and blocks this thread.
    ///
    /// ```no_run
    /// # fn example(web: procref_config::ResolvedService) -> procref_config::Result<()> {
    /// let held = web.acquire_blocking(|builder| builder.on_ready(|info| async move {
    ///     println!("{} started", info.pid());
    ///     Ok(())
    /// }))?;
    /// held.release_blocking()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_blocking(
        self,
        change: impl Fn(SharedServiceBuilder) -> SharedServiceBuilder,
    ) -> Result<AcquiredServices> {
        pollster::block_on(self.acquire(change))
    }
}
