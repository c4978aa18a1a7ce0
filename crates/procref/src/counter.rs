//! A count of processes by itself, without a service around it.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::registry;
use crate::error::{Error, Result};
use crate::kernel::{self, Fault, Kernel, Missing, Native, Object, Step};
use crate::key::ServiceKey;
use crate::name::Name;
use crate::namespace;
use crate::process::{fork_epoch, is_suspended};

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
/// assert!(counter.try_lock()?);
/// assert!(!counter.try_lock()?);
/// counter.unlock()?;
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
/// gives back what was taken through it. If it holds the last reference and the lock is taken through another counter, or
/// by another process, dropping waits for 10 s, and then leaves the rest to the holder of the lock.
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
/// if counter.try_lock()? {
///     println!("nobody can acquire or release meanwhile; {} have it", counter.count()?);
///     counter.unlock()?;
/// }
/// if counter.release()? == 0 {
///     println!("the last");
/// }
/// # Ok::<(), procref::Error>(())
/// ```
pub struct PlatformRefCounter {
    key: ServiceKey,
    held: Mutex<CounterState>,
    /// The process whose references these are; a forked child has none of them.
    epoch: u64,
}

/// How long dropping a counter waits for the lock.
const DROP_LIMIT: Duration = Duration::from_secs(10);

/// How often the lock is tried where waiting for it cannot be limited.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// What was taken through one counter.
#[derive(Default)]
struct CounterState {
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
    /// ```no_run
    /// # fn example() -> procref::Result<()> {
    /// use procref::{PlatformRefCounter, RefCounter};
    ///
    /// let counter = PlatformRefCounter::in_dir("cache", "/tmp/build-42")?;
    /// println!("{} processes", counter.acquire()?);
    /// # Ok(())
    /// # }
    /// ```
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
    fn held(&self) -> Result<MutexGuard<'_, CounterState>> {
        if fork_epoch() != self.epoch {
            return Err(Error::NotHeld {
                service: self.key.name().to_owned(),
                operation: "use in a forked child",
                what: "anything; make a new one in the child",
            });
        }
        Ok(self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does a step on the object, opened if need be; on a new one where the old one was removed from
    /// outside, and what was held with it.
    fn on_object<T>(
        &self,
        held: &mut CounterState,
        step: impl AsyncFn(&NativeObject) -> Step<T>,
    ) -> Result<T> {
        pollster::block_on(async {
            loop {
                if held.object.is_none() {
                    held.object = Native.open(&self.key, Missing::Create).await?.map(Arc::new);
                }
                let Some(object) = held.object.clone() else {
                    continue;
                };
                match step(&object).await {
                    Ok(output) => return Ok(output),
                    Err(Fault::Removed) => *held = CounterState::default(),
                    Err(Fault::Refused(error)) => {
                        if held.references == 0 && !held.lock {
                            kernel::remove_blank(&*object).await;
                        }
                        return Err(error);
                    }
                }
            }
        })
    }

    /// Attempts a step until it has happened, and does not keep other threads from using the counter
    /// while it waits for somebody's lock. Waits until `deadline`, or indefinitely.
    fn until_done<T>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut(&mut CounterState) -> Result<Attempt<T>>,
    ) -> Result<T> {
        loop {
            let mut held = self.held()?;
            match attempt(&mut held)? {
                Attempt::Done(output) => return Ok(output),
                Attempt::Again => {}
                Attempt::Locked => {
                    let object = held.object.clone();
                    drop(held);
                    if let Some(object) = object {
                        self.wait_unlocked(&object, deadline)?;
                    }
                }
            }
        }
    }

    fn wait_unlocked(&self, object: &NativeObject, deadline: Option<Instant>) -> Result<()> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let waited = match left {
            None => pollster::block_on(object.wait_unlocked()),
            Some(Duration::ZERO) => {
                let holder = pollster::block_on(object.lock_holder()).ok().flatten();
                return Err(Error::Timeout {
                    service: self.key.name().to_owned(),
                    operation: "waiting for the lock, to give back the last reference",
                    limit: DROP_LIMIT,
                    holder,
                    suspended: holder.is_some_and(is_suspended),
                });
            }
            Some(left) => match object.wait_unlocked_within(left) {
                Some(waited) => waited.map(drop),
                None => {
                    thread::sleep(left.min(TRY_AGAIN));
                    Ok(())
                }
            },
        };
        match waited {
            Ok(()) | Err(Fault::Removed) => Ok(()),
            Err(Fault::Refused(error)) => Err(error),
        }
    }

    /// Releases a reference, and waits until `deadline` at most if it is the last one and the lock is taken.
    fn release_before(&self, deadline: Option<Instant>) -> Result<u32> {
        self.until_done(deadline, |held| {
            if held.references == 0 {
                return Err(self.not_held("release", "a reference"));
            }
            let locked = held.lock;
            let attempt = self.on_object(held, async |object| {
                let snapshot = object.snapshot().await?;
                match snapshot.clients {
                    // Removed from outside, and opened anew to see that.
                    0 => return Ok(Attempt::Done(Left::Nothing)),
                    1 if !locked && !snapshot.pinned => {
                        if object.leave_last().await? {
                            return Ok(Attempt::Done(Left::Lock));
                        }
                        return Ok(match snapshot.locked {
                            true => Attempt::Locked,
                            false => Attempt::Again,
                        });
                    }
                    _ => {}
                }
                let to = snapshot.clients - 1;
                Ok(match object.recount(snapshot.clients, to, false).await? {
                    true => Attempt::Done(Left::Others(to)),
                    false => Attempt::Again,
                })
            })?;
            if let Attempt::Done(left) = &attempt {
                held.references = held.references.saturating_sub(1);
                if let Left::Lock = left {
                    self.clean_up(held)?;
                }
            }
            Ok(attempt.map(|left| match left {
                Left::Others(count) => count,
                Left::Lock | Left::Nothing => 0,
            }))
        })
    }

    /// Gives all references back at once, and leaves what they kept to the process that has the lock.
    ///
    /// That process cleans up when it releases the lock: it finds that no reference is left.
    fn forsake(&self) -> Result<()> {
        self.until_done(None, |held| {
            let references = held.references;
            if references == 0 {
                return Ok(Attempt::Done(()));
            }
            let attempt = self.on_object(held, async |object| {
                let clients = object.snapshot().await?.clients;
                let to = clients.saturating_sub(references);
                Ok(match object.recount(clients, to, false).await? {
                    true => Attempt::Done(()),
                    false => Attempt::Again,
                })
            })?;
            if let Attempt::Done(()) = attempt {
                held.references = 0;
            }
            Ok(attempt)
        })
    }

    /// The last reference was given back along with taking the lock, or under it.
    fn clean_up(&self, held: &mut CounterState) -> Result<()> {
        *held = CounterState::default();
        registry::stop_locked(&self.key)
    }
}

impl RefCounter for PlatformRefCounter {
    fn acquire(&self) -> Result<u32> {
        self.until_done(None, |held| {
            let locked = held.lock;
            let attempt = self.on_object(held, async |object| {
                let snapshot = object.snapshot().await?;
                if snapshot.locked && !locked {
                    return Ok(Attempt::Locked);
                }
                if !snapshot.claimed {
                    // Only the lock's holder writes whose object it is.
                    if !locked && !object.try_lock().await? {
                        return Ok(Attempt::Locked);
                    }
                    let claimed = object.claim().await;
                    if !locked {
                        object.unlock().await?;
                    }
                    claimed?;
                    return Ok(Attempt::Again);
                }
                let to = snapshot.clients + 1;
                Ok(match object.recount(snapshot.clients, to, !locked).await? {
                    true => Attempt::Done(to),
                    false => Attempt::Again,
                })
            })?;
            if let Attempt::Done(_) = attempt {
                held.references += 1;
            }
            Ok(attempt)
        })
    }

    fn release(&self) -> Result<u32> {
        self.release_before(None)
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
                if let Err(refused) = object.claim().await {
                    object.unlock().await?;
                    return Err(refused);
                }
            }
            Ok(locked)
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
            let nobody = snapshot.clients == 0 && !snapshot.pinned;
            // With nobody left the lock goes with the object.
            if !nobody {
                object.unlock().await?;
            }
            Ok(nobody)
        })?;
        if nobody {
            return self.clean_up(&mut held);
        }
        held.lock = false;
        Ok(())
    }
}

/// What came of an attempt.
enum Attempt<T> {
    Done(T),
    /// Somebody else was faster: look again.
    Again,
    /// Somebody else has the lock.
    Locked,
}

impl<T> Attempt<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Self::Done(output) => Attempt::Done(map(output)),
            Self::Again => Attempt::Again,
            Self::Locked => Attempt::Locked,
        }
    }
}

/// What a release left.
enum Left {
    Others(u32),
    /// Nobody, and the lock came with it.
    Lock,
    /// Nothing: the object had gone, and every reference with it.
    Nothing,
}

impl Drop for PlatformRefCounter {
    fn drop(&mut self) {
        let Ok(held) = self.held().map(|held| (held.references, held.lock)) else {
            return;
        };
        let (references, locked) = held;
        let deadline = Instant::now().checked_add(DROP_LIMIT);
        let released = (0..references).try_for_each(|_| self.release_before(deadline).map(drop));
        let released = match released {
            Err(error @ Error::Timeout { .. }) => self.forsake().and(Err(error)),
            released => released,
        };
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
