//! The count of this machine's kernel.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::RefCounter;
use crate::error::{Error, Result};
use crate::kernel::{self, Fault, Kernel, Missing, Native, NativeObject, Object, Step};
use crate::key::ServiceKey;
use crate::name::Name;
use crate::namespace;
use crate::process::{fork_epoch, is_suspended};
use crate::registry;

/// The kernel's count of references for one name. [`SharedService`](crate::SharedService) uses the same count.
///
/// The counter uses the kernel object of the service that has the same name in the same runtime directory. So a
/// reference of the counter keeps that service alive, and the last release stops it (`SIGTERM`, grace, `SIGKILL`)
/// without calling its callbacks. If processes use such a service, release it through a
/// [`ServiceHandle`](crate::ServiceHandle) instead.
///
/// References and the lock belong to the process, and the kernel releases them when the process exits or is
/// killed. Dropping the counter releases everything that was taken through it. If it holds the last reference
/// while another counter or another process holds the lock, dropping waits for at most 10 s. After that, the
/// process that holds the lock does the cleanup.
///
/// - [`acquire`](RefCounter::acquire) waits while another process or counter holds the lock. It does not wait if this
///   counter holds the lock.
/// - [`release`](RefCounter::release) of the last reference removes the kernel object. If this counter holds the
///   lock, [`unlock`](RefCounter::unlock) removes it. If another one holds the lock, `release` waits until the lock
///   is free.
/// - A forked child holds nothing through its parent's counter. In the child, every method except `count`
///   returns [`Error::NotHeld`].
///
/// The highest count is 32,767 on Linux and 1,048,576 on Windows.
///
/// ```no_run
/// use procref::{PlatformRefCounter, RefCounter};
///
/// let counter = PlatformRefCounter::new("cache")?;
/// if counter.acquire()? == 1 {
///     println!("the first of all processes");
/// }
/// if counter.try_lock()? {
///     println!("no process can acquire or release now; the count is {}", counter.count()?);
///     counter.unlock()?;
/// }
/// if counter.release()? == 0 {
///     println!("the last of all processes");
/// }
/// # Ok::<(), procref::Error>(())
/// ```
pub struct PlatformRefCounter {
    key: ServiceKey,
    held: Mutex<CounterState>,
    /// The process that holds the references. A forked child holds none of them.
    epoch: u64,
}

/// Time for which dropping a counter waits for the lock.
const DROP_LIMIT: Duration = Duration::from_secs(10);

/// Time between two attempts to take the lock, if the kernel cannot wait with a limit.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// The references and the lock that were taken through one counter.
#[derive(Default)]
struct CounterState {
    object: Option<Arc<NativeObject>>,
    references: u32,
    lock: bool,
}

impl PlatformRefCounter {
    /// Returns the counter of this name in the default runtime directory.
    ///
    /// # Errors
    ///
    /// The errors of [`SharedServiceBuilder::build`](crate::SharedServiceBuilder::build).
    pub fn new(name: &str) -> Result<Self> {
        Self::open(name, None)
    }

    /// Returns the counter of this name in the given runtime directory, which follows the rules of
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
    /// The errors of [`SharedServiceBuilder::build`](crate::SharedServiceBuilder::build).
    pub fn in_dir(name: &str, dir: impl AsRef<Path>) -> Result<Self> {
        Self::open(name, Some(dir.as_ref()))
    }

    fn open(name: &str, dir: Option<&Path>) -> Result<Self> {
        let name = Name::new(name)?;
        Ok(Self {
            key: ServiceKey::new(namespace::open(dir, None)?, name),
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

    /// Returns the references and locks that this counter holds, if this process took them. In a forked
    /// child, the counter holds nothing, and a thread that the child does not have may have locked the mutex.
    fn held(&self) -> Result<MutexGuard<'_, CounterState>> {
        if fork_epoch() != self.epoch {
            return Err(Error::NotHeld {
                service: self.key.name().to_owned(),
                operation: "use in a forked child",
                what: "anything (create a new counter in the child)",
            });
        }
        Ok(self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Performs a step on the object, and opens the object first if necessary. If a foreign program has
    /// removed the object, repeats the step on a new object.
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

    /// Repeats a step until it succeeds. Waits for the lock until `deadline`, or indefinitely without one.
    /// While it waits, other threads may use the counter.
    fn until_done<T>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut(&mut CounterState) -> Result<Attempt<T>>,
    ) -> Result<T> {
        loop {
            let mut held = self.held()?;
            match attempt(&mut held)? {
                Attempt::Done(output) => return Ok(output),
                Attempt::Retry => {}
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
                    operation: "waiting for the lock to release the last reference",
                    limit: DROP_LIMIT,
                    holder,
                    suspended: holder.is_some_and(is_suspended),
                });
            }
            Some(left) => match object.wait_unlocked_within(left) {
                Some(waited) => waited.map(drop),
                None => {
                    thread::sleep(left.min(RETRY_AFTER));
                    Ok(())
                }
            },
        };
        match waited {
            Ok(()) | Err(Fault::Removed) => Ok(()),
            Err(Fault::Refused(error)) => Err(error),
        }
    }

    /// Releases a reference. If it is the last one and the lock is held, waits until the lock is free or
    /// `deadline` has passed.
    fn release_before(&self, deadline: Option<Instant>) -> Result<u32> {
        self.until_done(deadline, |held| {
            if held.references == 0 {
                return Err(self.not_held("release", "a reference"));
            }
            let locked = held.lock;
            let attempt = self.on_object(held, async |object| {
                let snapshot = object.snapshot().await?;
                match snapshot.clients {
                    // A foreign program has removed the object. The snapshot is that of a new one.
                    0 => return Ok(Attempt::Done(AfterRelease::Removed)),
                    1 if !locked && !snapshot.pinned => {
                        if object.leave_last().await? {
                            return Ok(Attempt::Done(AfterRelease::Lock));
                        }
                        return Ok(match snapshot.locked {
                            true => Attempt::Locked,
                            false => Attempt::Retry,
                        });
                    }
                    _ => {}
                }
                let to = snapshot.clients - 1;
                Ok(match object.recount(snapshot.clients, to, false).await? {
                    true => Attempt::Done(AfterRelease::Others(to)),
                    false => Attempt::Retry,
                })
            })?;
            if let Attempt::Done(left) = &attempt {
                held.references = held.references.saturating_sub(1);
                if let AfterRelease::Lock = left {
                    self.clean_up(held)?;
                }
            }
            Ok(attempt.map(|left| match left {
                AfterRelease::Others(count) => count,
                AfterRelease::Lock | AfterRelease::Removed => 0,
            }))
        })
    }

    /// Releases all references in one step, and leaves the cleanup to the process that holds the lock.
    ///
    /// That process cleans up when it releases the lock, because it finds that no reference is left.
    fn release_all_to_lock_holder(&self) -> Result<()> {
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
                    false => Attempt::Retry,
                })
            })?;
            if let Attempt::Done(()) = attempt {
                held.references = 0;
            }
            Ok(attempt)
        })
    }

    /// Cleans up after the last reference. The caller holds the lock.
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
                    // Only the process that holds the lock writes which service the object belongs to.
                    if !locked && !object.try_lock().await? {
                        return Ok(Attempt::Locked);
                    }
                    let claimed = object.claim().await;
                    if !locked {
                        object.unlock().await?;
                    }
                    claimed?;
                    return Ok(Attempt::Retry);
                }
                let to = snapshot.clients + 1;
                Ok(match object.recount(snapshot.clients, to, !locked).await? {
                    true => Attempt::Done(to),
                    false => Attempt::Retry,
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
        let is_unused = self.on_object(&mut held, async |object| {
            let snapshot = object.snapshot().await?;
            let is_unused = snapshot.clients == 0 && !snapshot.pinned;
            // Without references, the lock ends with the object.
            if !is_unused {
                object.unlock().await?;
            }
            Ok(is_unused)
        })?;
        if is_unused {
            return self.clean_up(&mut held);
        }
        held.lock = false;
        Ok(())
    }
}

/// The result of one attempt.
enum Attempt<T> {
    Done(T),
    /// Another process has changed the object. The attempt must be repeated.
    Retry,
    /// Another process or counter holds the lock.
    Locked,
}

impl<T> Attempt<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Self::Done(output) => Attempt::Done(map(output)),
            Self::Retry => Attempt::Retry,
            Self::Locked => Attempt::Locked,
        }
    }
}

/// The state after a release.
enum AfterRelease {
    Others(u32),
    /// No reference is left, and this process holds the lock.
    Lock,
    /// The object was removed, together with every reference on it.
    Removed,
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
            Err(error @ Error::Timeout { .. }) => self.release_all_to_lock_holder().and(Err(error)),
            released => released,
        };
        let unlocked = if locked { self.unlock() } else { Ok(()) };
        if let Err(error) = released.and(unlocked) {
            tracing::error!(counter = self.key.name(), %error, "could not release everything that the counter held");
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
