//! The services of a runtime directory.

use std::path::Path;

use super::gc::{self, Collected};
use super::status::{self, Status};
use super::survey::{Known, survey};
use crate::error::{Error, Result};
use crate::kernel::{Kernel as _, Native};
use crate::namespace::Location;
use crate::process::{self, Process};

/// Returns `true` if the process that has this pid now is a supervisor of procref, or a service that a supervisor
/// stops, in any runtime directory. Always returns `false` on Windows.
///
/// A supervisor outlives the process that has started it. If that process has an ancestor that adopts orphans, the
/// supervisor becomes a child of that ancestor: of a container's first process, or of a
/// [subreaper](https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html). An ancestor that waits for
/// all its children, or signals them, must skip those for which this function returns `true`. They exit by themselves
/// when no client is left.
///
/// On Linux, keepers count the clients if `PROCREF_KERNEL` or the system requires that. The service of a killed keeper is
/// found only in the runtime directories that this process or the service would use.
///
/// Returns `false` for a client that is a service itself, because its own pid is that of its
/// [`ServiceInfo`](crate::ServiceInfo): its parent waits for it. Returns `false` for a process that only has the name of
/// a supervisor.
///
/// ```
/// assert!(!procref::is_managed(std::process::id())?);
/// # Ok::<(), procref::Error>(())
/// ```
///
/// # Errors
///
/// - [`Error::Process`]: the process could not be identified.
/// - [`Error::Io`]: `/proc` cannot be read.
pub fn is_managed(pid: u32) -> Result<bool> {
    if process::is_supervisor(pid) {
        return Ok(true);
    }
    match Process::find(pid)? {
        Some(process) => Native::is_instance(process.identity()),
        None => Ok(false),
    }
}

/// The services of one runtime directory, started by any processes.
///
/// Neither opening this nor [`list`](Self::list) creates anything, including the directory. If the directory does not
/// exist, there are no services.
///
/// ```no_run
/// let services = procref::Services::open()?;
/// for service in services.list()? {
///     let name = service.name().unwrap_or("(unknown)");
///     println!("{name}: {}, {} clients", service.status().state(), service.status().clients());
/// }
/// # Ok::<(), procref::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Services {
    location: Location,
}

impl Services {
    /// Returns the services of the default runtime directory.
    ///
    /// On Linux this is `$PROCREF_RUNTIME_DIR` if it is set. Otherwise it is `$XDG_RUNTIME_DIR/procref` if
    /// `$XDG_RUNTIME_DIR` exists and belongs to this user, and `/tmp/procref-UID` if not.
    ///
    /// # Errors
    ///
    /// - [`Error::RuntimeDir`]: the directory exists, and is not safe to use.
    /// - [`Error::Proc`], [`Error::Namespaces`]: this process cannot share services.
    pub fn open() -> Result<Self> {
        Self::at(Location::of(None)?)
    }

    /// Returns the services of a runtime directory, with the rules of
    /// [`base_dir`](crate::SharedServiceBuilder::base_dir).
    ///
    /// ```no_run
    /// # fn example() -> procref::Result<()> {
    /// let services = procref::Services::in_dir("/tmp/build-42")?;
    /// println!("{} services in {}", services.list()?.len(), services.dir().display());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`open`](Self::open).
    pub fn in_dir(dir: impl AsRef<Path>) -> Result<Self> {
        Self::at(Location::of(Some(dir.as_ref()))?)
    }

    fn at(location: Location) -> Result<Self> {
        location.find()?;
        Ok(Self { location })
    }

    /// Returns the services of a directory below the present one. This process was checked for the present one.
    fn below(location: Location) -> Result<Self> {
        location.check_existing()?;
        Ok(Self { location })
    }

    /// Returns the services of a project in this runtime directory. `dir` is the directory of the project, as for
    /// [`project`](crate::SharedServiceBuilder::project). This creates nothing.
    ///
    /// ```no_run
    /// # fn example() -> procref::Result<()> {
    /// let services = procref::Services::open()?.project(env!("CARGO_MANIFEST_DIR"))?;
    /// println!("{} services of this project", services.list()?.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::RuntimeDir`]: `dir` does not exist or is not a directory, or the runtime directory is not safe to use.
    pub fn project(&self, dir: impl AsRef<Path>) -> Result<Self> {
        Self::below(self.location.clone().of_project(dir.as_ref())?)
    }

    /// Returns the services of each project that has a directory in this runtime directory, ordered by the paths of the
    /// projects.
    ///
    /// ```no_run
    /// for services in procref::Services::open()?.projects()? {
    ///     println!("{:?}: {} services", services.project_dir(), services.list()?.len());
    /// }
    /// # Ok::<(), procref::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::RuntimeDir`]: the directory is not safe to use or cannot be read.
    pub fn projects(&self) -> Result<Vec<Self>> {
        let locations = self.location.projects()?.into_iter();
        locations.map(Self::below).collect()
    }

    /// Returns the services of each project that has a directory in this runtime directory, and whose own directory does
    /// not exist any more. The projects that exist are not checked.
    ///
    /// ```no_run
    /// for project in procref::Services::open()?.vanished_projects()? {
    ///     println!("{:?} was deleted", project.project_dir());
    /// }
    /// # Ok::<(), procref::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`projects`](Self::projects).
    pub fn vanished_projects(&self) -> Result<Vec<Self>> {
        let locations = self.location.projects()?.into_iter();
        let vanished = locations.filter(Location::has_vanished);
        vanished.map(Self::below).collect()
    }

    /// Returns the directory of the project, if these are the services of a project. Links in it are resolved.
    ///
    /// ```no_run
    /// let services = procref::Services::open()?;
    /// assert_eq!(services.project_dir(), None);
    /// assert!(services.project(".")?.project_dir().is_some());
    /// # Ok::<(), procref::Error>(())
    /// ```
    #[must_use]
    pub fn project_dir(&self) -> Option<&Path> {
        self.location.project()
    }

    /// Returns `true` if these are the services of a project whose directory does not exist any more.
    ///
    /// ```no_run
    /// let mut vanished = procref::Services::open()?.projects()?;
    /// vanished.retain(procref::Services::has_vanished);
    /// println!("{} projects were deleted", vanished.len());
    /// # Ok::<(), procref::Error>(())
    /// ```
    #[must_use]
    pub fn has_vanished(&self) -> bool {
        self.location.has_vanished()
    }

    /// Removes the runtime directory of a project that has [vanished](Self::has_vanished), with the logs in it, if there
    /// are no services in it. Returns `true` if it was removed.
    ///
    /// A service of the project that only [`gc`](Self::gc) would remove keeps the directory.
    ///
    /// ```no_run
    /// for project in procref::Services::open()?.projects()? {
    ///     project.gc_blocking()?;
    ///     project.remove_vanished()?;
    /// }
    /// # Ok::<(), procref::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::RuntimeDir`]: the directory is not safe to use, or cannot be read or removed.
    /// - [`Error::Proc`], [`Error::Namespaces`]: this process cannot share services.
    pub fn remove_vanished(&self) -> Result<bool> {
        if !self.has_vanished() || !self.list()?.is_empty() {
            return Ok(false);
        }
        self.location.remove_vanished()
    }

    /// Returns the runtime directory as an absolute path. Symbolic links are not resolved.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.location.dir()
    }

    /// Creates the runtime directory with mode 0700 if it is missing, as
    /// [`build`](crate::SharedServiceBuilder::build) does, and checks it.
    ///
    /// ```no_run
    /// # fn example() -> procref::Result<()> {
    /// let services = procref::Services::open()?;
    /// services.create_dir()?;
    /// println!("{} exists", services.dir().display());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::RuntimeDir`]: the directory cannot be created, or is not safe to use.
    pub fn create_dir(&self) -> Result<()> {
        self.location.create()?;
        self.location.check().map(drop)
    }

    /// Returns the namespace of the services, as 15 hexadecimal digits.
    ///
    /// The namespace is a digest of the directory (its path, device and inode), of the layout that procref uses, and of
    /// the part of the machine that this process sees. On Linux that part is the pid, IPC and time namespaces, on
    /// Windows the session.
    ///
    /// Two processes share services if their namespaces are equal. If they differ, an identity (pid and start
    /// time) that one process has written is not valid for the other. The names of the files that procref
    /// writes into the directory contain the namespace.
    ///
    /// ```no_run
    /// # fn example() -> procref::Result<()> {
    /// let note = format!("filled by {} in {}", std::process::id(), procref::Services::open()?.namespace_id()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::RuntimeDir`]: the directory does not exist, or is not safe to use.
    /// - [`Error::Proc`], [`Error::Namespaces`]: this process cannot share services.
    pub fn namespace_id(&self) -> Result<String> {
        match self.location.find()? {
            Some(namespace) => Ok(namespace.digest().to_string()),
            None => Err(Error::runtime_dir(self.dir(), "it does not exist")),
        }
    }

    /// Lists every service that has a kernel object or a record. The list is ordered by name; services whose name is
    /// unknown come last.
    ///
    /// A service whose status cannot be read and a record that is broken are skipped, with a warning in the log. Kernel
    /// objects and files of other programs are not read.
    ///
    /// # Errors
    ///
    /// - [`Error::RuntimeDir`]: the directory is not safe to use or cannot be read, or the kernel's list of objects
    ///   cannot be read.
    /// - [`Error::Proc`], [`Error::Namespaces`]: this process cannot share services.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for known in self.survey()? {
            if !known.named && !known.counted {
                continue;
            }
            match status::read(&known.key) {
                Ok(status) => listed.push(Listed {
                    name: known.named.then(|| known.key.name().to_owned()),
                    kernel_object: Native::object_name(&known.key),
                    status,
                }),
                Err(error) => {
                    tracing::warn!(%error, "skipped a service whose status cannot be read")
                }
            }
        }
        listed.sort_by(|a, b| {
            let order = |it: &Listed| (it.name.is_none(), it.name.clone());
            order(a).cmp(&order(b))
        });
        Ok(listed)
    }

    /// Removes the leftovers of crashes that no process uses or will remove.
    ///
    /// - A service that runs without a client and without a supervisor, because the supervisor was killed,
    ///   too. `gc` sends `SIGTERM`, and `SIGKILL` after 10 s.
    /// - A service that runs although its kernel object was removed from outside. It is stopped in the same way.
    /// - Kernel objects and records of dead services that no process holds, and drafts and logs without a service.
    ///
    /// A service is kept if a process holds, starts or stops it, and if it is pinned or lingers. It is also kept if it
    /// may outlive its clients ([`Orphan::Keep`](crate::Orphan::Keep)), or has no process on this machine. Files that
    /// procref has not written are kept, too.
    ///
    /// Any number of processes may call this at once, while clients start and stop services: it takes the same lock as
    /// they do. If the future is dropped after it has begun to stop a service, a background thread finishes the stop.
    ///
    /// ```no_run
    /// # async fn example() -> procref::Result<()> {
    /// let collected = procref::Services::open()?.gc().await?;
    /// for removed in collected.removed() {
    ///     println!("removed {}", removed.name().unwrap_or("something"));
    /// }
    /// for failure in collected.failures() {
    ///     eprintln!("{failure}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`list`](Self::list). An error of one service does not prevent the cleanup of the others. It is in
    /// [`Collected::failures`].
    pub async fn gc(&self) -> Result<Collected> {
        let mut collected = Collected::default();
        for known in self.survey()? {
            gc::collect(known, &mut collected).await;
        }
        if let Some(namespace) = self.location.find()? {
            Native.sweep(&namespace)?;
        }
        Ok(collected)
    }

    /// Blocking version of [`gc`](Self::gc).
    ///
    /// ```no_run
    /// # fn example() -> procref::Result<()> {
    /// let collected = procref::Services::open()?.gc_blocking()?;
    /// println!("{} services cleaned up", collected.removed().len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`gc`](Self::gc).
    pub fn gc_blocking(&self) -> Result<Collected> {
        pollster::block_on(self.gc())
    }

    fn survey(&self) -> Result<Vec<Known>> {
        match self.location.find()? {
            Some(namespace) => survey(&namespace),
            None => Ok(Vec::new()),
        }
    }
}

/// A service in the list that [`Services::list`] returns.
///
/// ```no_run
/// # fn example() -> procref::Result<()> {
/// for service in procref::Services::open()?.list()? {
///     let name = service.name().unwrap_or("(unknown)");
///     println!("{name}: {}, kernel object {}", service.status().state(), service.kernel_object());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Listed {
    name: Option<String>,
    kernel_object: String,
    status: Status,
}

impl Listed {
    /// Returns the service's name. Returns `None` if its record is missing or broken, because the kernel object has
    /// only a digest of the name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the name of the kernel object; see
    /// [`SharedService::kernel_object`](crate::SharedService::kernel_object).
    #[must_use]
    pub fn kernel_object(&self) -> &str {
        &self.kernel_object
    }

    /// Returns the status; see [`SharedService::status`](crate::SharedService::status).
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }
}
