//! Named events.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;
use std::time::Duration;

use windows_sys::Wdk::Foundation::{NtQueryObject, ObjectBasicInformation};
use windows_sys::Win32::Storage::FileSystem::{READ_CONTROL, SYNCHRONIZE};
use windows_sys::Win32::System::Threading::{
    CreateEventW, EVENT_MODIFY_STATE, OpenEventW, SetEvent,
};
use windows_sys::Win32::System::WindowsProgramming::PUBLIC_OBJECT_BASIC_INFORMATION;

use crate::OpenFailure;
use crate::call::{check, wide};
use crate::handle::{wait_raw, wait_timeout};
use crate::open_failure::{checked, created};
use crate::security::{Kind, owner_only};

/// A handle on an event. Once an event is set, it stays set.
#[derive(Debug)]
pub struct Event(OwnedHandle);

impl Event {
    /// Opens the event of this name, or creates it. A new event is not set.
    ///
    /// # Errors
    ///
    /// Returns an error if the object belongs to another user or is not an event, or if the call fails.
    pub fn create(name: &str) -> Result<Self, OpenFailure> {
        let (name, security) = (wide(name), owner_only(Kind::Object)?);
        // SAFETY: `name` ends with a NUL. `security` is complete, and its descriptor is never freed.
        let handle = unsafe { CreateEventW(&raw const security, 1, 0, name.as_ptr()) };
        Ok(Self(created(handle, &io::Error::last_os_error())?))
    }

    /// Opens the event of this name. Returns `None` if there is none.
    ///
    /// # Errors
    ///
    /// See [`create`](Self::create).
    pub fn open(name: &str) -> Result<Option<Self>, OpenFailure> {
        let name = wide(name);
        let access = EVENT_MODIFY_STATE | SYNCHRONIZE | READ_CONTROL;
        // SAFETY: `name` ends with a NUL and outlives the call.
        let handle = unsafe { OpenEventW(access, 0, name.as_ptr()) };
        Ok(checked(handle, &io::Error::last_os_error())?.map(Self))
    }

    fn unnamed() -> io::Result<Self> {
        // SAFETY: both pointers may be null: the event has no name and default attributes.
        let handle = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just created this handle, and no other code knows it.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// Sets the event. Every wait for it returns.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call.
    pub fn set(&self) -> io::Result<()> {
        // SAFETY: `self` keeps the handle open.
        check(unsafe { SetEvent(self.0.as_raw_handle()) })
    }

    /// Waits indefinitely until the event is set.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call.
    pub fn wait(&self) -> io::Result<()> {
        wait_raw(self.0.as_raw_handle())
    }

    /// Waits until the event is set, at most `timeout`. Returns `true` if it is set.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call.
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<bool> {
        wait_timeout(&self.0, timeout)
    }

    /// Returns the number of handles on the event in all processes.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call.
    pub fn handle_count(&self) -> io::Result<u32> {
        let mut information = PUBLIC_OBJECT_BASIC_INFORMATION::default();
        // SAFETY: `self` keeps the handle open, and the length is that of the local variable that the call writes to.
        let status = unsafe {
            NtQueryObject(
                self.0.as_raw_handle(),
                ObjectBasicInformation,
                (&raw mut information).cast(),
                size_of::<PUBLIC_OBJECT_BASIC_INFORMATION>() as u32,
                ptr::null_mut(),
            )
        };
        match status {
            0 => Ok(information.HandleCount),
            status => Err(io::Error::other(format!(
                "NtQueryObject returned {status:#010x}"
            ))),
        }
    }
}

/// Sets the event of this name. Returns `false` if no event has the name, or if it belongs to another user.
///
/// # Errors
///
/// Returns an error if the call fails to set the event.
pub fn set_named(name: &str) -> io::Result<bool> {
    let name = wide(name);
    // SAFETY: `name` ends with a NUL and outlives the call.
    let handle = unsafe { OpenEventW(EVENT_MODIFY_STATE, 0, name.as_ptr()) };
    if handle.is_null() {
        return Ok(false);
    }
    // SAFETY: the call has just opened this handle, and no other code knows it.
    let event = Event(unsafe { OwnedHandle::from_raw_handle(handle) });
    event.set().map(|()| true)
}

/// Returns `true` if [`Event::handle_count`] counts each handle on an event.
///
/// Microsoft documents the counts of `NtQueryObject` as subject to change. So a program that depends on them checks here.
///
/// # Errors
///
/// Returns an error if the call fails to create or to query an event.
pub fn counts_handles() -> io::Result<bool> {
    let event = Event::unnamed()?;
    let before = event.handle_count()?;
    let second = Event(event.0.try_clone()?);
    let with_second = event.handle_count()?;
    drop(second);
    Ok((before, with_second, event.handle_count()?) == (1, 2, 1))
}
