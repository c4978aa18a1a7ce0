//! A count of processes by itself, without a service around it.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::kernel::{Fault, Kernel, Missing, Native, Object, Snapshot, Step};
use crate::name::{Name, ServiceKey};
use crate::namespace;
use crate::process::fork_epoch;
use crate::service;

type NativeObject = <Native as Kernel>::Object;

/// Counts references of processes, and has a lock for who acts on the count.
///
/// [`PlatformRefCounter`] is this machine's. Implement it to count in some other way:
///
/// ```
/// use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
/// use procref::{RefCounter, Result};
///
/// /// Counts within one process.
/// #[derive(Default)]
/// struct LocalCounter {
///     count: AtomicU32,
///     locked: AtomicBool,
/// }
///
/// impl RefCounter for LocalCounter {
///     fn acquire(&self) -> Result<u32> {
///         Ok(self.count.fetch_add(1, Ordering::SeqCst) + 1)
///     }
///     fn release(&self) -> Result<u32> {
///         let less = |count: u32| count.checked_sub(1);
///         match self.count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
///             Ok(before) => Ok(before - 1),
///             Err(_) => Err("released more often than acquired".into()),
///         }
///     }
///     fn count(&self) -> Result<u32> {
///         Ok(self.count.load(Ordering::SeqCst))
///     }
///     fn try_lock(&self) -> Result<bool> {
///         Ok(!self.locked.swap(true, Ordering::SeqCst))
///     }
///     fn unlock(&self) -> Result<()> {
///         self.locked.store(false, Ordering::SeqCst);
///         Ok(())
///     }
/// }
///
/// let counter: Box<dyn RefCounter> = Box::new(LocalCounter::default());
/// assert_eq!(counter.acquire()?, 1);
/// assert_eq!(counter.release()?, 0);
/// # Ok::<(), procref::Error>(())
/// ```
pub trait RefCounter: Send + Sync {
    /// Takes a reference. Returns the count with it: of all who race for the first, one sees 1.
    ///
    /// # Errors
    ///
    /// The count cannot go higher, or the machine refuses.
    fn acquire(&self) -> Result<u32>;

    /// Gives a reference back. Returns the count without it: of all who race for the last, one
    /// sees 0.
    ///
    /// # Errors
    ///
    /// None is held, or the machine refuses.
    fn release(&self) -> Result<u32>;

    /// How many references all processes hold.
    ///
    /// # Errors
    ///
    /// The machine refuses.
    fn count(&self) -> Result<u32>;

    /// Takes the lock if nobody has it; false if somebody does.
    ///
    /// # Errors
    ///
    /// The machine refuses.
    fn try_lock(&self) -> Result<bool>;

    /// Gives the lock back.
    ///
    /// # Errors
    ///
    /// It is not held, or the machine refuses.
    fn unlock(&self) -> Result<()>;
}

/// The kernel's count of one name: what [`SharedService`](crate::SharedService) is built on, alone.
///
/// It is the very object of the service of the same name in the same runtime directory: a reference
/// here keeps that service alive, and the last release stops it (`SIGTERM`, grace, `SIGKILL`).
/// Where such a service is in use, its callbacks are the better way to let go.
///
/// References and lock belong to the process and end with it, however it ends. Dropping the counter
/// gives back what was taken through it.
///
/// - [`acquire`](RefCounter::acquire) waits while somebody else has the lock; with the lock taken
///   through this counter it does not.
/// - [`release`](RefCounter::release) of the last reference removes the kernel object, or leaves that
///   to [`unlock`](RefCounter::unlock) if the lock is held.
///
/// ```no_run
/// use procref::{PlatformRefCounter, RefCounter};
///
/// let counter = PlatformRefCounter::new("cache")?;
/// if counter.acquire()? == 1 {
///     println!("the first of all processes");
/// }
/// if counter.release()? == 0 {
///     println!("the last");
/// }
/// # Ok::<(), procref::Error>(())
/// ```
pub struct PlatformRefCounter {
    key: ServiceKey,
    held: Mutex<Held>,
    /// The process whose references these are; a forked child has none of them.
    epoch: u64,
}

/// What was taken through one counter.
#[derive(Default)]
struct Held {
    object: Option<Arc<NativeObject>>,
    references: u32,
    lock: bool,
}

impl PlatformRefCounter {
    /// The counter of this name in the default runtime directory.
    ///
    /// # Errors
    ///
    /// As [`SharedServiceBuilder::build`](crate::SharedServiceBuilder::build).
    pub fn new(name: &str) -> Result<Self> {
        Self::open(name, None)
    }

    /// The counter of this name in a runtime directory of one's own, with the rules of
    /// [`base_dir`](crate::SharedServiceBuilder::base_dir).
    ///
    /// # Errors
    ///
    /// As [`SharedServiceBuilder::build`](crate::SharedServiceBuilder::build).
    pub fn in_dir(name: &str, dir: impl AsRef<Path>) -> Result<Self> {
        Self::open(name, Some(dir.as_ref()))
    }

    fn open(name: &str, dir: Option<&Path>) -> Result<Self> {
        let name = Name::new(name)?;
        Ok(Self {
            key: ServiceKey::new(namespace::open(dir)?, name),
            held: Mutex::default(),
            epoch: fork_epoch(),
        })
    }

    fn not_held(&self, operation: &'static str, what: &'static str) -> Error {
        Error::NotHeld {
            service: self.key.name().to_owned(),
            operation,
            what,
        }
    }

    /// What is held, if this is the process that took it: in a forked child nothing is, and the mutex
    /// may have been locked by a thread that the child does not have.
    fn held(&self) -> Result<MutexGuard<'_, Held>> {
        if fork_epoch() != self.epoch {
            return Err(Error::NotHeld {
                service: self.key.name().to_owned(),
                operation: "use in a forked child",
                what: "anything; make a new one in the child",
            });
        }
        Ok(self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the object if need be, and does a step on it; again on a new one where the old one is
    /// gone, unless something was held on that.
    fn on_object<T>(
        &self,
        held: &mut Held,
        step: impl AsyncFn(&NativeObject) -> Step<Option<T>>,
    ) -> Result<T> {
        pollster::block_on(async {
            loop {
                let object = match &held.object {
                    Some(object) => Arc::clone(object),
                    None => match Native.open(&self.key, Missing::Create).await? {
                        Some(object) => Arc::new(object),
                        None => continue,
                    },
                };
                held.object = Some(Arc::clone(&object));
                match step(&object).await {
                    Ok(Some(output)) => return Ok(output),
                    Ok(None) => {}
                    // Removed from outside where something was held: that went with it.
                    Err(Fault::Removed) => *held = Held::default(),
                    Err(Fault::Refused(error)) => return Err(error),
                }
            }
        })
    }

    /// The last reference was given back along with taking the lock, or under it.
    fn clean_up(&self, held: &mut Held) -> Result<()> {
        *held = Held::default();
        service::stop_locked(&self.key)
    }
}

impl RefCounter for PlatformRefCounter {
    fn acquire(&self) -> Result<u32> {
        let mut held = self.held()?;
        let locked = held.lock;
        let count = self.on_object(&mut held, async |object| {
            let snapshot = object.snapshot().await?;
            if !snapshot.claimed {
                if locked {
                    object.claim().await?;
                } else if object.try_lock().await? {
                    object.claim().await?;
                    object.unlock().await?;
                } else {
                    object.wait_unlocked().await?;
                }
                return Ok(None);
            }
            if snapshot.locked && !locked {
                object.wait_unlocked().await?;
                return Ok(None);
            }
            let (from, to) = (snapshot.clients, snapshot.clients + 1);
            let counted = object.recount(from, to, !locked).await?;
            Ok(counted.then_some(to))
        })?;
        held.references += 1;
        Ok(count)
    }

    fn release(&self) -> Result<u32> {
        let mut held = self.held()?;
        if held.references == 0 {
            return Err(self.not_held("release", "a reference"));
        }
        let locked = held.lock;
        let count = self.on_object(&mut held, async |object| {
            let snapshot = object.snapshot().await?;
            match snapshot {
                // Removed from outside, and a new one was opened.
                Snapshot { clients: 0, .. } => return Ok(Some(Left::Nothing)),
                Snapshot { clients: 1, .. } if !locked => {
                    if object.leave_last().await? {
                        return Ok(Some(Left::LastLocked));
                    }
                    if snapshot.pinned {
                        object.drop_reference().await?;
                        return Ok(Some(Left::Others(0)));
                    }
                    if snapshot.locked {
                        object.wait_unlocked().await?;
                    }
                    return Ok(None);
                }
                _ => {}
            }
            let to = snapshot.clients - 1;
            let counted = object.recount(snapshot.clients, to, false).await?;
            Ok(counted.then_some(Left::Others(to)))
        })?;
        held.references = held.references.saturating_sub(1);
        match count {
            Left::Others(count) => Ok(count),
            Left::Nothing => Ok(0),
            Left::LastLocked => self.clean_up(&mut held).map(|()| 0),
        }
    }

    fn count(&self) -> Result<u32> {
        pollster::block_on(async {
            let Some(object) = Native.open(&self.key, Missing::Ignore).await? else {
                return Ok(0);
            };
            match object.snapshot().await {
                Ok(snapshot) => Ok(snapshot.clients),
                Err(Fault::Removed) => Ok(0),
                Err(Fault::Refused(error)) => Err(error),
            }
        })
    }

    fn try_lock(&self) -> Result<bool> {
        let mut held = self.held()?;
        if held.lock {
            return Ok(false);
        }
        let locked = self.on_object(&mut held, async |object| {
            let locked = object.try_lock().await?;
            if locked && !object.snapshot().await?.claimed {
                object.claim().await?;
            }
            Ok(Some(locked))
        })?;
        held.lock = locked;
        Ok(locked)
    }

    fn unlock(&self) -> Result<()> {
        let mut held = self.held()?;
        if !held.lock {
            return Err(self.not_held("unlock", "the lock"));
        }
        let nobody = self.on_object(&mut held, async |object| {
            let snapshot = object.snapshot().await?;
            if snapshot.clients == 0 && !snapshot.pinned {
                return Ok(Some(true));
            }
            object.unlock().await?;
            Ok(Some(false))
        })?;
        if nobody {
            return self.clean_up(&mut held);
        }
        held.lock = false;
        Ok(())
    }
}

/// What a release left.
enum Left {
    Others(u32),
    /// Nobody, and the lock is ours.
    LastLocked,
    /// The object went meanwhile, and every reference with it.
    Nothing,
}

impl Drop for PlatformRefCounter {
    fn drop(&mut self) {
        let Ok(held) = self.held().map(|held| (held.references, held.lock)) else {
            return;
        };
        let (references, locked) = held;
        let released = (0..references).try_for_each(|_| self.release().map(drop));
        let unlocked = if locked { self.unlock() } else { Ok(()) };
        if let Err(error) = released.and(unlocked) {
            tracing::error!(counter = self.key.name(), %error, "could not give back a count cleanly");
        }
    }
}

impl fmt::Debug for PlatformRefCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlatformRefCounter")
            .field("name", &self.key.name())
            .field("dir", &self.key.namespace.dir())
            .finish_non_exhaustive()
    }
}
