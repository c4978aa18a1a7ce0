//! Cleans up after crashes of services that no process acquires again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::survey::Known;
use crate::crash::{self, Point};
use crate::engine::client::Client;
use crate::engine::config::Config;
use crate::engine::platform::{ObjectOf, find_identity};
use crate::engine::transition::Transition;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::kernel::{Fault, Kernel as _, Lock, Missing, Native, Object as _, Snapshot, Step};
use crate::key::ServiceKey;
use crate::process;
use crate::record::files::{self, FileKind};

type SharedObject = Arc<ObjectOf<Host>>;

/// The result of [`Services::gc`](crate::Services::gc).
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
#[derive(Debug, Default)]
pub struct Collected {
    removed: Vec<Removed>,
    failures: Vec<Error>,
}

impl Collected {
    /// Returns the services of which something was removed or stopped.
    #[must_use]
    pub fn removed(&self) -> &[Removed] {
        &self.removed
    }

    /// Returns the errors of services and files that could not be stopped or removed. These are unchanged.
    #[must_use]
    pub fn failures(&self) -> &[Error] {
        &self.failures
    }
}

/// The parts of one service that [`Services::gc`](crate::Services::gc) has removed.
///
/// ```no_run
/// # async fn example() -> procref::Result<()> {
/// for removed in procref::Services::open()?.gc().await?.removed() {
///     println!("{}:", removed.name().unwrap_or("(unknown)"));
///     if let Some(pid) = removed.stopped() {
///         println!("  stopped pid {pid}, which had no client");
///     }
///     if let Some(object) = removed.kernel_object() {
///         println!("  removed kernel object {object}");
///     }
///     for file in removed.files() {
///         println!("  removed {}", file.display());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    name: Option<String>,
    stopped: Option<u32>,
    kernel_object: Option<String>,
    files: Vec<PathBuf>,
}

impl Removed {
    /// Returns the service's name. Returns `None` if it has no readable record.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the pid of the process that ran without a client, and was stopped.
    #[must_use]
    pub fn stopped(&self) -> Option<u32> {
        self.stopped
    }

    /// Returns the name of the kernel object that was removed, as the system's tools print it.
    #[must_use]
    pub fn kernel_object(&self) -> Option<&str> {
        self.kernel_object.as_deref()
    }

    /// Returns the files that were removed: record, draft, logs.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// Cleans up after one service, if no process uses it.
pub(crate) async fn collect(known: Known, collected: &mut Collected) {
    // This client is not the registered one, so the other references of this process do not matter.
    let client = Arc::new(Client::new(Host, known.key.clone()));
    match Collection::begin(known, &client).await {
        Ok(Some(collection)) => collection.finish(collected).await,
        // The service does not exist any more, or is used or kept.
        Ok(None) | Err(Fault::Removed) => {}
        Err(Fault::Refused(error)) => collected.failures.push(error),
    }
}

/// A service that no process uses, with its lock held.
struct Collection {
    transition: Transition<Host>,
    known: Known,
    object: SharedObject,
    snapshot: Snapshot,
    /// The object existed before.
    found: bool,
}

impl Collection {
    async fn begin(known: Known, client: &Arc<Client<Host>>) -> Step<Option<Self>> {
        let Some(permit) = client.try_permit() else {
            return Ok(None);
        };
        let mut transition = Transition::begin(permit, &Arc::new(Config::default()));
        let mut object = transition.object(Missing::Ignore).await?;
        let found = object.is_some();
        if !found && !known.files.is_empty() {
            // Only the lock of a service prevents a start while its files are removed, so this creates an object for
            // the lock. A check without the lock could remove the record of an instance that started after the check.
            object = transition.object(Missing::Create).await?;
        }
        let Some(object) = object else {
            return Ok(None);
        };
        let snapshot = object.snapshot().await?;
        if is_kept(&snapshot).await? || !transition.try_lock(Point::GcLocked).await? {
            return Ok(None);
        }
        // Read again with the lock held: another process may have joined, or joined and left, before the lock was
        // taken.
        let snapshot = match idle(&object).await {
            Ok(Some(snapshot)) => snapshot,
            other => {
                // There is no crash point here, because a death releases the lock, too, and nothing else was changed.
                transition.unlock(None).await?;
                return other.map(|_| None);
            }
        };
        Ok(Some(Self {
            transition,
            known,
            object,
            snapshot,
            found,
        }))
    }

    /// Stops the instance, and removes all files and then the object.
    async fn finish(self, collected: &mut Collected) {
        let Self {
            mut transition,
            known,
            object,
            snapshot,
            found,
        } = self;
        let stopped = match stop(&transition, &object, &snapshot).await {
            Ok(stopped) => stopped,
            Err(fault) => {
                // Keep the object of an instance that could not be stopped, so that the next client tries again. A
                // release of the transition would try again immediately.
                // There is no crash point here, because no test can make a process that survives SIGKILL.
                let unlocked = transition.unlock(None).await;
                drop(transition.into_permit());
                for fault in [Err(fault), unlocked] {
                    if let Err(Fault::Refused(error)) = fault {
                        collected.failures.push(error);
                    }
                }
                return;
            }
        };
        let present = |path: &PathBuf| path.symlink_metadata().is_ok();
        let files = known.files.iter().map(|file| file.path.clone());
        let mut files: Vec<PathBuf> = files.filter(present).collect();
        for file in &known.files {
            // The release removes the record after it has cleared the object.
            if let FileKind::Other = file.kind {
                if let Err(error) = remove_file(&known.key, &file.path) {
                    collected.failures.push(error);
                }
            }
        }
        crash::point(Point::GcRemovedFiles);
        if let Err(error) = transition.release().await {
            collected.failures.push(error);
            return;
        }
        files.retain(|path| !present(path));
        let service = known.key.name();
        let removed = Removed {
            name: known.named.then(|| service.to_owned()),
            stopped,
            kernel_object: found.then(|| Native::object_name(&known.key)),
            files,
        };
        if found || stopped.is_some() || !removed.files.is_empty() {
            tracing::info!(service, stopped, files = ?removed.files, "collected");
            collected.removed.push(removed);
        }
    }
}

/// Stops the instance, if one lives. Returns its pid if it had to be stopped.
async fn stop(
    transition: &Transition<Host>,
    object: &SharedObject,
    snapshot: &Snapshot,
) -> Step<Option<u32>> {
    if !snapshot.claimed {
        object.claim().await?;
        crash::point(Point::GcClaimed);
    }
    let Some(instance) = transition.leftover(snapshot).await? else {
        return Ok(None);
    };
    let lives = !instance.hosted && process::find(instance.identity)?.is_some();
    let generation = snapshot.generation;
    if let Some(callback_error) = transition.stop(object, instance, generation).await? {
        return Err(Fault::Refused(callback_error));
    }
    // Clear the instance here. Otherwise the release would leave the dead instance to a supervisor, which
    // would let it linger.
    object.publish(None, generation, Lock::Keep).await?;
    crash::point(Point::GcCleared);
    Ok(lives.then_some(instance.identity.pid))
}

/// Returns the object's state, if no process uses the service.
async fn idle(object: &SharedObject) -> Step<Option<Snapshot>> {
    let snapshot = object.snapshot().await?;
    let kept = is_kept(&snapshot).await?;
    Ok((!kept).then_some(snapshot))
}

/// Returns `true` if a process uses the service or will stop it, or if the service must be kept.
async fn is_kept(snapshot: &Snapshot) -> Result<bool> {
    if snapshot.clients > 0 || snapshot.pinned {
        return Ok(true);
    }
    let Some(instance) = snapshot.instance else {
        return Ok(false);
    };
    if instance.identity.pid == 0 {
        // Only a health check can determine whether the instance is alive.
        return Ok(true);
    }
    let alive = find_identity(&Host, instance.identity).await?.is_some();
    // An instance whose start or stop was interrupted is not kept.
    let keep = instance.is_serving() && (instance.keep_orphan || snapshot.supervised);
    Ok(alive && keep)
}

fn remove_file(key: &ServiceKey, path: &Path) -> Result<()> {
    files::remove(&key.namespace, path).map_err(|source| Error::Record {
        service: key.name().to_owned(),
        operation: "remove",
        path: path.to_owned(),
        source,
    })
}
