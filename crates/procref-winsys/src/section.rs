//! Named sections: memory that several processes share.

use std::io;
use std::os::windows::io::{AsRawHandle as _, OwnedHandle};
use std::sync::atomic::AtomicU64;

use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::Storage::FileSystem::READ_CONTROL;
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile,
    OpenFileMappingW, PAGE_READWRITE, UnmapViewOfFile,
};

use crate::OpenFailure;
use crate::call::wide;
use crate::open_failure::{checked, created};
use crate::security::{Kind, owner_only};

/// The number of words in a section.
pub const WORDS: usize = 512;
const BYTES: usize = WORDS * size_of::<u64>();

/// A mapped view of a section. Its words are 0 at first, and live as long as any process has a handle on the section.
#[derive(Debug)]
pub struct Section {
    handle: OwnedHandle,
    view: *const [AtomicU64; WORDS],
}

// SAFETY: all access to the view is through atomics. It is unmapped in `drop`, when no reference to it is left.
unsafe impl Send for Section {}
// SAFETY: all access to the view is through atomics, which threads may share.
unsafe impl Sync for Section {}

impl Section {
    /// Opens the section of this name, or creates it.
    ///
    /// # Errors
    ///
    /// Returns an error if the object belongs to another user or is not a section, or if the call fails.
    pub fn create(name: &str) -> Result<Self, OpenFailure> {
        let (name, security) = (wide(name), owner_only(Kind::Object)?);
        // SAFETY: `name` ends with a NUL. `security` is complete, and its descriptor is never freed.
        // INVALID_HANDLE_VALUE means that no file backs the section.
        let handle = unsafe {
            CreateFileMappingW(
                INVALID_HANDLE_VALUE,
                &raw const security,
                PAGE_READWRITE,
                0,
                BYTES as u32,
                name.as_ptr(),
            )
        };
        let handle = created(handle, &io::Error::last_os_error())?;
        Ok(Self::map(handle)?)
    }

    /// Opens the section of this name. Returns `None` if there is none.
    ///
    /// # Errors
    ///
    /// See [`create`](Self::create).
    pub fn open(name: &str) -> Result<Option<Self>, OpenFailure> {
        let name = wide(name);
        let access = FILE_MAP_READ | FILE_MAP_WRITE | READ_CONTROL;
        // SAFETY: `name` ends with a NUL and outlives the call.
        let handle = unsafe { OpenFileMappingW(access, 0, name.as_ptr()) };
        match checked(handle, &io::Error::last_os_error())? {
            Some(handle) => Ok(Some(Self::map(handle)?)),
            None => Ok(None),
        }
    }

    fn map(handle: OwnedHandle) -> io::Result<Self> {
        let access = FILE_MAP_READ | FILE_MAP_WRITE;
        // SAFETY: the handle is open. The call chooses the address, so it replaces no other mapping. It fails if the
        // section is smaller than BYTES.
        let view = unsafe { MapViewOfFile(handle.as_raw_handle(), access, 0, 0, BYTES) };
        if view.Value.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            handle,
            view: view.Value.cast_const().cast(),
        })
    }

    /// Returns the shared words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64; WORDS] {
        // SAFETY: the view is aligned to a page, has BYTES bytes and is mapped as long as `self` lives. Every process
        // that maps the section uses atomics only.
        unsafe { &*self.view }
    }

    /// Returns the handle on the section.
    #[must_use]
    pub fn handle(&self) -> &OwnedHandle {
        &self.handle
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        let view = MEMORY_MAPPED_VIEW_ADDRESS {
            Value: self.view.cast_mut().cast(),
        };
        // SAFETY: `map` has mapped this view, and every reference to it borrows from `self`.
        unsafe { UnmapViewOfFile(view) };
    }
}
