//! All services of a runtime directory.

use std::path::Path;

use super::gc::{self, Collected};
use super::status::{self, Status};
use super::survey::{Known, survey};
use crate::error::{Error, Result};
use crate::kernel::{Kernel as _, Native};
use crate::namespace::Location;
use crate::process::{self, Process};

/// Returns `true` if the process that has this pid now is a supervisor of procref's, or a service that a
/// supervisor stops, of any runtime directory.
///
/// A supervisor outlives the process that has started it. If that process has an ancestor that takes in orphans
/// (a container's first process, or a
/// [subreaper](https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html)), the supervisor becomes
/// a child of that ancestor. An ancestor that waits for all its children, or signals them, leaves out those for
/// which this function returns `true`: they end by themselves when no client is left.
///
/// A client that is a service itself (its own pid is that of its
/// [`ServiceInfo`](crate::ServiceInfo)) is left to its parent, and is no such process. A process that names itself as a
/// supervisor does is no supervisor. On Windows this function returns `false`.
///
/// ```
/// assert!(!procref::is_managed(std::process::id())?);
/// # Ok::<(), procref::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Io`](crate::Error::Io): `/proc` cannot be read.
pub fn is_managed(pid: u32) -> Result<bool> {
    if process::is_supervisor(pid) {
        return Ok(true);
    }
    match Process::find(pid)? {
        Some(process) => Native::is_instance(process.identity()),
        None => Ok(false),
    }
}

/// The services of one runtime directory, whoever started them: what an administrator asks for.
///
/// Neither making one nor [`list`](Self::list) creates anything, the directory included; where there
/// is none, there are no services.
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
    /// Those of the default runtime directory: `$PROCREF_RUNTIME_DIR` if it is set, otherwise
    /// `$XDG_RUNTIME_DIR/procref` if `$XDG_RUNTIME_DIR` exists and belongs to this user, and otherwise
    /// `/tmp/procref-UID`.
    ///
    /// # Errors
    ///
    /// [`Error::RuntimeDir`]: it is there, and not safe to use. [`Error::Proc`] and [`Error::Namespaces`]: this
    /// process cannot share services.
    pub fn open() -> Result<Self> {
        Self::at(Location::of(None)?)
    }

    /// Those of a runtime directory of one's own, with the rules of
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
    /// As [`open`](Self::open).
    pub fn in_dir(dir: impl AsRef<Path>) -> Result<Self> {
        Self::at(Location::of(Some(dir.as_ref()))?)
    }

    fn at(location: Location) -> Result<Self> {
        location.find()?;
        Ok(Self { location })
    }

    /// The runtime directory, as it was named, as an absolute path.
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
    /// println!("{} is there", services.dir().display());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::RuntimeDir`](crate::Error::RuntimeDir): the directory cannot be created, or is not safe
    /// to use.
    pub fn create_dir(&self) -> Result<()> {
        self.location.create()?;
        self.location.find().map(drop)
    }

    /// The namespace of the services, as 15 hexadecimal digits: a digest of the directory (its path, device and
    /// inode), of what this process sees of the machine (on Linux its pid, IPC and time namespaces, on Windows
    /// its session), and of the layout that procref uses.
    ///
    /// Two processes share services if this is the same for both. Identities (pid and start time) that one of
    /// them has written down mean something to the other one only then. The files that procref writes into the
    /// directory have it in their names.
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
    /// [`Error::RuntimeDir`]: the directory does not exist, or is not safe to use. [`Error::Proc`] and
    /// [`Error::Namespaces`]: this process cannot share services at all.
    pub fn namespace_id(&self) -> Result<String> {
        match self.location.find()? {
            Some(namespace) => Ok(namespace.digest().to_string()),
            None => Err(Error::runtime_dir(self.dir(), "it does not exist")),
        }
    }

    /// Every service that the kernel counts clients of, or that has left a record; ordered by name,
    /// those without one last.
    ///
    /// A service that cannot be looked at and a record that is broken are left out, with a warning
    /// in the log. Other sets and files than procref's are not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::RuntimeDir`]: the directory is not safe to use or cannot be read, or the kernel's list cannot.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for known in self.survey()? {
            if !known.named && !known.counted {
                continue;
            }
            match status::look(&known.key) {
                Ok(status) => listed.push(Listed {
                    name: known.named.then(|| known.key.name().to_owned()),
                    kernel_object: Native::object_name(&known.key),
                    status,
                }),
                Err(error) => tracing::warn!(%error, "left out of the list"),
            }
        }
        listed.sort_by(|a, b| {
            let order = |it: &Listed| (it.name.is_none(), it.name.clone());
            order(a).cmp(&order(b))
        });
        Ok(listed)
    }

    /// Removes what nobody uses and nobody will clean up: what crashes have left.
    ///
    /// - A service that runs, has no client, and has no supervisor to stop it, because somebody killed
    ///   that, too: it is stopped (`SIGTERM`, and after 10 s `SIGKILL`).
    /// - One that runs although its kernel object was removed from outside: likewise.
    /// - Kernel objects and records of services that are dead and that nobody holds, and drafts and
    ///   logs without a service.
    ///
    /// Left alone are services that somebody holds, starts or stops, that are pinned, kept warm, meant
    /// to outlive their clients ([`Orphan::Keep`](crate::Orphan::Keep)), or no process of this
    /// machine; and every file that procref has not written.
    ///
    /// Any number of processes may do this at once, beside clients that come and go: it takes the
    /// same lock as those who start and stop a service. A future that is dropped is finished by a
    /// thread in the background where it has begun to stop something.
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
    /// As [`list`](Self::list). What goes wrong with one service does not keep the others from being
    /// cleaned, and is in [`Collected::failures`].
    pub async fn gc(&self) -> Result<Collected> {
        let mut collected = Collected::default();
        for known in self.survey()? {
            gc::collect(known, &mut collected).await;
        }
        Ok(collected)
    }

    /// [`gc`](Self::gc) for code that is not async. Blocks the thread.
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
    /// As [`gc`](Self::gc).
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

/// A service in a list. Made by [`Services::list`].
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
    /// Its name. `None`: its record is missing or broken, and the kernel knows only a digest.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// As [`SharedService::kernel_object`](crate::SharedService::kernel_object).
    #[must_use]
    pub fn kernel_object(&self) -> &str {
        &self.kernel_object
    }

    /// As [`SharedService::status`](crate::SharedService::status).
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }
}
