//! Cleaning up after crashes, for a service that nobody acquires again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::survey::Known;
use crate::crash::{self, Point};
use crate::engine::acquire::Drive;
use crate::engine::client::{Client, Permit};
use crate::engine::config::Config;
use crate::engine::platform::{ObjectOf, Platform};
use crate::engine::release::{Departure, Hold};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::kernel::{Fault, Kernel as _, Lock, Missing, Native, Object as _, Snapshot, Step};
use crate::key::ServiceKey;
use crate::record::files::{self, FileKind};

type NativeObject = Arc<ObjectOf<Host>>;

/// What [`Services::gc`](crate::Services::gc) has done.
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
    /// The services of which something was removed.
    #[must_use]
    pub fn removed(&self) -> &[Removed] {
        &self.removed
    }

    /// What could not be stopped or removed, and why. It is left as it was.
    #[must_use]
    pub fn failures(&self) -> &[Error] {
        &self.failures
    }
}

/// What was removed of one service.
///
/// ```no_run
/// # async fn example() -> procref::Result<()> {
/// for removed in procref::Services::open()?.gc().await?.removed() {
///     println!("{}:", removed.name().unwrap_or("(unknown)"));
///     if let Some(pid) = removed.stopped() {
///         println!("  stopped pid {pid}, which nobody used");
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
    /// The service's name; `None` where its record did not tell.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The process that ran without a client, and was stopped.
    #[must_use]
    pub fn stopped(&self) -> Option<u32> {
        self.stopped
    }

    /// The kernel object that was left, as the system's tools name it.
    #[must_use]
    pub fn kernel_object(&self) -> Option<&str> {
        self.kernel_object.as_deref()
    }

    /// The files that were left: record, draft, logs.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// Cleans up after one service, if nobody uses it.
pub(crate) async fn collect(known: Known, collected: &mut Collected) {
    // A seat of its own: what this process holds of the service is none of its business.
    let client = Arc::new(Client::new(Host, known.key.clone()));
    match Collection::begin(known, &client).await {
        Ok(Some(collection)) => collection.finish(collected).await,
        // Gone, or left alone.
        Ok(None) | Err(Fault::Removed) => {}
        Err(Fault::Refused(error)) => collected.failures.push(error),
    }
}

/// A service that nobody uses, with its lock in our hands.
struct Collection {
    permit: Permit<Host>,
    known: Known,
    object: NativeObject,
    snapshot: Snapshot,
    /// The object was there before.
    found: bool,
}

impl Collection {
    async fn begin(known: Known, client: &Arc<Client<Host>>) -> Step<Option<Self>> {
        let Some(permit) = client.try_permit() else {
            return Ok(None);
        };
        let mut object = client.object(Missing::Ignore).await?;
        let found = object.is_some();
        if !found && !known.files.is_empty() {
            // Only the lock of a service keeps others from starting it while its files are removed, so
            // an object is made for it. To look whether there is one, and then unlink, could take the
            // record of an instance that was started in between.
            object = client.object(Missing::Create).await?;
        }
        let Some(object) = object else {
            return Ok(None);
        };
        let snapshot = object.snapshot().await?;
        if is_kept(&snapshot).await? || !object.try_lock().await? {
            return Ok(None);
        }
        crash::point(Point::GcLocked);
        // Again under the lock: somebody may have come, or come and gone, before it was ours.
        let snapshot = match idle(&object).await {
            Ok(Some(snapshot)) => snapshot,
            other => {
                // No crash point: a death gives back the lock, as this does, and nothing else was done.
                object.unlock().await?;
                return other.map(|_| None);
            }
        };
        Ok(Some(Self {
            permit,
            known,
            object,
            snapshot,
            found,
        }))
    }

    /// Stops what runs, removes what is left, and the object last.
    async fn finish(self, collected: &mut Collected) {
        let Self {
            permit,
            known,
            object,
            snapshot,
            found,
        } = self;
        // From here on the lock goes with the hold, also if this future is dropped.
        let mut hold = Drive(Some(Hold::locked(permit, &Arc::new(Config::default()))));
        let stopped = match stop(&hold, &object, &snapshot).await {
            Ok(stopped) => stopped,
            Err(fault) => {
                // What could not be stopped keeps its set, for the next one to try. The departure of
                // the hold would try again at once. No crash point: what SIGKILL does not end no test
                // can make.
                let unlocked = object.unlock().await;
                hold.0 = None;
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
            // The record goes in its turn, with what clears the object.
            if let FileKind::Other = file.kind {
                if let Err(error) = remove_file(&known.key, &file.path) {
                    collected.failures.push(error);
                }
            }
        }
        crash::point(Point::GcRemovedFiles);
        if let Some(hold) = hold.0.take() {
            if let Err(error) = Departure::new(hold).await {
                collected.failures.push(error);
                return;
            }
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

/// Stops whatever runs, and tells who that was.
async fn stop(hold: &Hold<Host>, object: &NativeObject, snapshot: &Snapshot) -> Step<Option<u32>> {
    if !snapshot.claimed {
        object.claim().await?;
        crash::point(Point::GcClaimed);
    }
    let Some(instance) = hold.leftover(snapshot).await? else {
        return Ok(None);
    };
    let lives = !instance.hosted && instance.identity.find()?.is_some();
    let generation = snapshot.generation;
    if let Some(complaint) = hold.stop(object, instance, generation).await? {
        return Err(Fault::Refused(complaint));
    }
    // Cleared here, so that the departure does not leave what is dead to a supervisor that would keep it
    // warm.
    object.publish(None, generation, Lock::Keep).await?;
    crash::point(Point::GcCleared);
    Ok(lives.then_some(instance.identity.pid))
}

/// The object's state, if nobody uses the service.
async fn idle(object: &NativeObject) -> Step<Option<Snapshot>> {
    let snapshot = object.snapshot().await?;
    let kept = is_kept(&snapshot).await?;
    Ok((!kept).then_some(snapshot))
}

/// Whether somebody uses it, sees to it, or wants it kept.
async fn is_kept(snapshot: &Snapshot) -> Result<bool> {
    if snapshot.clients > 0 || snapshot.pinned {
        return Ok(true);
    }
    let Some(instance) = snapshot.instance else {
        return Ok(false);
    };
    if instance.identity.pid == 0 {
        // Only a callback can tell whether it lives.
        return Ok(true);
    }
    let found = Host.look_up(instance.identity.pid).await?;
    let alive = found.is_some_and(|(identity, _)| identity == instance.identity);
    // A start or a stop that was broken off is not what anybody wanted.
    let wanted = instance.is_serving() && (instance.keep_orphan || snapshot.supervised);
    Ok(alive && wanted)
}

fn remove_file(key: &ServiceKey, path: &Path) -> Result<()> {
    files::remove(&key.namespace, path).map_err(|source| Error::Record {
        service: key.name().to_owned(),
        operation: "remove",
        path: path.to_owned(),
        source,
    })
}
