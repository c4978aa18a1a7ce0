//! Memory for a process that may not allocate.

#![expect(unsafe_code, reason = "memory that a forked child keeps")]

use std::ffi::CStr;
use std::{io, ptr};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use procref_supervisor::prepared::{PAGE, Range, Text};

pub(super) const STACK: usize = 64 << 10;

/// Room for aligning what is put into an arena.
const ALIGNMENTS: usize = 512;

/// One mapping with the child's stack and everything the child reads. The parent's copy goes when
/// the child runs.
pub(super) struct Arena {
    base: *mut libc::c_void,
    size: usize,
    /// Where the next thing goes. The stack is the first part, and grows down.
    next: usize,
}

impl Arena {
    /// With room for so many bytes beside the stack.
    pub(super) fn new(size: usize) -> io::Result<Self> {
        // To the last page: the rest of one cannot be given back for itself.
        let size = (STACK + size + ALIGNMENTS).next_multiple_of(PAGE);
        // SAFETY: no address is asked for, so no existing mapping is replaced; the new one is
        // anonymous and private.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        Ok(Self {
            base,
            size,
            next: STACK,
        })
    }

    pub(super) fn range(&self) -> Range {
        let start = self.base as usize;
        Range {
            start,
            end: start + self.size,
        }
    }

    pub(super) fn stack_top(&self) -> *mut libc::c_void {
        // SAFETY: the mapping is larger than the stack.
        unsafe { self.base.byte_add(STACK) }
    }

    pub(super) fn put<T: Copy>(&mut self, items: &[T]) -> *const T {
        let at = self.next.next_multiple_of(align_of::<T>());
        let end = at + size_of_val(items);
        assert!(end <= self.size, "the arena is made for what is put in");
        self.next = end;
        // SAFETY: `at` is within the mapping, by the assertion.
        let place = unsafe { self.base.byte_add(at) }.cast::<T>();
        // SAFETY: `place` is aligned and has room for the items, by the assertion; nothing else is
        // there, because `next` only grows; the items are outside of it.
        unsafe { place.copy_from_nonoverlapping(items.as_ptr(), items.len()) };
        place
    }

    pub(super) fn text(&mut self, text: &CStr) -> Text {
        Text(self.put(text.to_bytes_with_nul()).cast())
    }

    /// Texts as `execve` takes them, with a null at the end.
    pub(super) fn array(&mut self, mut texts: Vec<Text>) -> *const Text {
        texts.push(Text(ptr::null()));
        self.put(&texts)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`; the child has a copy of its own, and in this
        // process nothing refers to it any more.
        let _ = unsafe { munmap(self.base, self.size) };
    }
}
