//! A state file in the memory of its keeper.

#![expect(unsafe_code, reason = "a shared mapping of a file")]

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use super::state::{MAX_WORDS, MIN_WORDS, Memory};

/// A file that is mapped, so that the kernel keeps the stores of a process that was killed.
pub(crate) struct Mapped {
    file: OwnedFd,
    base: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and all access is through atomics. Only `&mut self` changes
// `base` and unmaps memory.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps a file, and gives an empty file its first size.
    pub(crate) fn new(file: OwnedFd) -> io::Result<Self> {
        let size = usize::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(usize::MAX);
        let words = match size / 8 {
            0 => {
                reserve(&file, MIN_WORDS)?;
                MIN_WORDS
            }
            words if words > MAX_WORDS => return Err(io::ErrorKind::InvalidData.into()),
            words => words,
        };
        let base = map(&file, words)?;
        Ok(Self { file, base, words })
    }

    fn word(&self, word: usize) -> Option<&AtomicU64> {
        if word >= self.words {
            return None;
        }
        // SAFETY: the mapping at `base` has `words` words, and lives as long as this value.
        let address = unsafe { self.base.add(word) };
        // SAFETY: the address is inside of the mapping and aligned, because the mapping is aligned to a page. All access
        // is through atomics. If another program cuts the file, the kernel ends this process.
        Some(unsafe { address.as_ref() })
    }
}

impl Memory for Mapped {
    fn load(&self, word: usize) -> u64 {
        self.word(word).map_or(0, |it| it.load(Ordering::Relaxed))
    }

    /// The order keeps the compiler from moving a store before an earlier one.
    fn store(&mut self, word: usize, value: u64) {
        if let Some(it) = self.word(word) {
            it.store(value, Ordering::Release);
        }
        #[cfg(test)]
        store_point::pass();
    }

    fn words(&self) -> usize {
        self.words
    }

    fn grow(&mut self, words: usize) -> io::Result<()> {
        reserve(&self.file, words)?;
        let base = map(&self.file, words)?;
        unmap(self.base, self.words);
        (self.base, self.words) = (base, words);
        Ok(())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        unmap(self.base, self.words);
    }
}

/// Makes room on the disk. Without room, a store to the mapping would end this process.
fn reserve(file: &OwnedFd, words: usize) -> io::Result<()> {
    let size = 8 * words as u64;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        // The file system reserves no room.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(rustix::fs::ftruncate(file, size)?),
        Err(error) => Err(error.into()),
    }
}

fn map(file: &OwnedFd, words: usize) -> io::Result<NonNull<AtomicU64>> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the call chooses the address, so it replaces no existing mapping.
    let base = unsafe {
        rustix::mm::mmap(
            ptr::null_mut(),
            8 * words,
            protection,
            MapFlags::SHARED,
            file,
            0,
        )
    }?;
    NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

fn unmap(base: NonNull<AtomicU64>, words: usize) {
    // SAFETY: the range is a mapping that `map` has made, and the caller uses it no more.
    let _ = unsafe { rustix::mm::munmap(base.as_ptr().cast(), 8 * words) };
}

/// The death of a keeper at one of its stores, for tests.
#[cfg(test)]
pub(crate) mod store_point {
    use std::sync::atomic::{AtomicU32, Ordering};

    /// The number of stores before the death. 0 means that this process does not die.
    static LEFT: AtomicU32 = AtomicU32::new(0);

    pub(crate) fn arm(stores: u32) {
        LEFT.store(stores, Ordering::Relaxed);
    }

    pub(super) fn pass() {
        let less = |left: u32| left.checked_sub(1);
        let before = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if before == Ok(1) {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
    }
}
