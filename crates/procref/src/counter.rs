//! A count of processes, without a service.

use crate::error::Result;

mod platform;

pub use platform::PlatformRefCounter;

/// A count of references that processes hold, and a lock for the process that acts on the count.
///
/// [`PlatformRefCounter`] counts with this machine's kernel. Implement this trait to count in another way:
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
    /// Takes a reference. Returns the count after that.
    ///
    /// If several processes take the first reference at once, exactly one of them gets 1.
    ///
    /// # Errors
    ///
    /// Fails if the count has reached its limit, or if the kernel refuses the step.
    fn acquire(&self) -> Result<u32>;

    /// Releases a reference. Returns the count after that.
    ///
    /// If several processes release the last references at once, exactly one of them gets 0.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`](crate::Error::NotHeld): no reference is held. Also fails if the kernel refuses the
    /// step.
    fn release(&self) -> Result<u32>;

    /// Returns the number of references that all processes hold.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses the step.
    fn count(&self) -> Result<u32>;

    /// Takes the lock without waiting. Returns `false` if the lock is held already.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses the step.
    fn try_lock(&self) -> Result<bool>;

    /// Releases the lock.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`](crate::Error::NotHeld): the lock is not held. Also fails if the kernel refuses the
    /// step.
    fn unlock(&self) -> Result<()>;
}
