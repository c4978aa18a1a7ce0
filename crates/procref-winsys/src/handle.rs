//! Handles on any object of the kernel.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    DUPLICATE_CLOSE_SOURCE, DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE, WAIT_FAILED,
    WAIT_OBJECT_0,
};
use windows_sys::Win32::System::Threading::{INFINITE, PROCESS_DUP_HANDLE, WaitForSingleObject};

use crate::call::check;
use crate::process::{MYSELF, open_created};

/// Waits until an object is signaled, at most `timeout`. A process is signaled when it has exited.
///
/// Returns `true` if the object is signaled.
///
/// # Errors
///
/// Returns an error if the handle does not permit waiting.
pub fn wait_timeout(object: &OwnedHandle, timeout: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        // Round up, because a wait of 0 ms would spin for the last part of a millisecond. u32::MAX would wait
        // indefinitely.
        let milliseconds = left.as_nanos().div_ceil(1_000_000).min(0x7fff_ffff) as u32;
        // SAFETY: `object` keeps the handle open during the call.
        match unsafe { WaitForSingleObject(object.as_raw_handle(), milliseconds) } {
            WAIT_OBJECT_0 => return Ok(true),
            WAIT_FAILED => return Err(io::Error::last_os_error()),
            _ if left.is_zero() => return Ok(false),
            _ => {}
        }
    }
}

/// Waits indefinitely until an object is signaled. The caller keeps the handle open.
pub(crate) fn wait_raw(object: HANDLE) -> io::Result<()> {
    // SAFETY: the caller keeps the handle open during the call.
    match unsafe { WaitForSingleObject(object, INFINITE) } {
        WAIT_OBJECT_0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives another process a handle on an object. The object then lives at least as long as that process.
///
/// The process is named by its pid and creation time. Returns the number of the handle in that process, or 0 if the
/// process has exited.
///
/// # Errors
///
/// Returns an error if the process cannot be opened, or if the handle cannot be duplicated.
pub fn give(object: &OwnedHandle, pid: u32, creation_time: u64) -> io::Result<u64> {
    let Some(process) = open_created(pid, creation_time, PROCESS_DUP_HANDLE)? else {
        return Ok(0);
    };
    let mut given = ptr::null_mut();
    // SAFETY: the three handles are open, and `given` is a local variable. The other process gets one more
    // handle. The other process does not know the number, and its children do not inherit the handle.
    check(unsafe {
        DuplicateHandle(
            MYSELF,
            object.as_raw_handle(),
            process.as_raw_handle(),
            &raw mut given,
            0,
            0,
            DUPLICATE_SAME_ACCESS,
        )
    })?;
    Ok(given.addr() as u64)
}

/// Closes a handle that [`give`] has opened in another process. The number 0 is ignored.
///
/// # Errors
///
/// Returns an error if the process cannot be opened, or if the handle cannot be duplicated.
pub fn take(handle: u64, pid: u32, creation_time: u64) -> io::Result<()> {
    if handle == 0 {
        return Ok(());
    }
    let Some(process) = open_created(pid, creation_time, PROCESS_DUP_HANDLE)? else {
        return Ok(());
    };
    let source: HANDLE = ptr::without_provenance_mut(handle as usize);
    let mut taken = ptr::null_mut();
    // Move the handle into this process and close it here. Windows can also close the handle in the other
    // process, without a target process. Wine 8 does this, too, but returns an error.
    //
    // SAFETY: both process handles are open, and `taken` is a local variable. `give` put the handle into the other
    // process, which does not use it. So the call takes nothing that the process needs.
    check(unsafe {
        DuplicateHandle(
            process.as_raw_handle(),
            source,
            MYSELF,
            &raw mut taken,
            0,
            0,
            DUPLICATE_SAME_ACCESS | DUPLICATE_CLOSE_SOURCE,
        )
    })?;
    // SAFETY: the call has just created this handle for this process, and no other code knows it.
    drop(unsafe { OwnedHandle::from_raw_handle(taken) });
    Ok(())
}
