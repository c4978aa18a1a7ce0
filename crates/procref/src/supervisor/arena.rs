//! The memory of a process that cannot allocate.

#![expect(unsafe_code, reason = "memory that a forked child keeps")]

use std::ffi::CStr;
use std::{io, ptr};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use procref_supervisor::prepared::{PAGE, Range, Text};

pub(super) const STACK: usize = 64 << 10;

/// Room for aligning the items in an arena.
const ALIGNMENTS: usize = 512;

/// One mapping with the stack of the child and all data that the child reads. The parent unmaps its copy after the
/// fork.
pub(super) struct Arena {
    base: *mut libc::c_void,
    size: usize,
    /// Offset of the next item. The stack is the first part of the mapping and grows down.
    next: usize,
}

impl Arena {
    /// Maps an arena with room for `size` bytes in addition to the stack.
    pub(super) fn new(size: usize) -> io::Result<Self> {
        // The size is a multiple of the page size, because the rest of a page cannot be unmapped.
        let size = (STACK + size + ALIGNMENTS).next_multiple_of(PAGE);
        // SAFETY: no address is requested, so no existing mapping is replaced. The new mapping is anonymous and
        // private.
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
        // SAFETY: the mapping is larger than the stack, so the result is inside of it.
        unsafe { self.base.byte_add(STACK) }
    }

    /// Copies items into the arena, and returns their address.
    pub(super) fn put<T: Copy>(&mut self, items: &[T]) -> *const T {
        let at = self.next.next_multiple_of(align_of::<T>());
        let end = at + size_of_val(items);
        assert!(end <= self.size, "the arena has room for all items");
        self.next = end;
        // SAFETY: the assertion above ensures that `at` is not larger than the size of the mapping.
        let place = unsafe { self.base.byte_add(at) }.cast::<T>();
        // SAFETY: `place` is aligned, because the mapping is page-aligned and `at` is a multiple of the
        // alignment. The assertion ensures that it has room for the items. `next` only grows, so no other
        // item is there, and `items` is not in that part of the mapping.
        unsafe { place.copy_from_nonoverlapping(items.as_ptr(), items.len()) };
        place
    }

    /// Copies a text into the arena.
    pub(super) fn text(&mut self, text: &CStr) -> Text {
        Text(self.put(text.to_bytes_with_nul()).cast())
    }

    /// Puts an array of texts into the arena, with a null pointer at the end, as `execve` takes it.
    pub(super) fn array(&mut self, mut texts: Vec<Text>) -> *const Text {
        texts.push(Text(ptr::null()));
        self.put(&texts)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`. The child has its own copy. In this process no reference to the
        // mapping exists any more, because items are returned as raw pointers, which only the child dereferences.
        let _ = unsafe { munmap(self.base, self.size) };
    }
}
