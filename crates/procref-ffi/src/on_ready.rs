//! The callback of `procref_service_on_ready`.

use std::ffi::{c_int, c_void};

use crate::handle::Handle;

/// The caller's function, with its data.
pub(crate) struct OnReady {
    // With "C-unwind", an exception of C++ that leaves the callback ends the process. With "C", it would be undefined.
    pub(crate) callback: unsafe extern "C-unwind" fn(handle: &Handle, data: *mut c_void) -> c_int,
    pub(crate) data: UserData,
}

impl OnReady {
    pub(crate) fn call(&self, handle: &Handle) -> procref::Result<()> {
        // SAFETY: the caller has passed a function of this type, and its data was not freed yet.
        match unsafe { (self.callback)(handle, self.data.data) } {
            0 => Ok(()),
            code => Err(format!("the callback returned {code}").into()),
        }
    }
}

/// The caller's data. Dropping it calls the caller's function that frees the data.
pub(crate) struct UserData {
    data: *mut c_void,
    free: Option<unsafe extern "C-unwind" fn(data: *mut c_void)>,
}

impl UserData {
    pub(crate) fn new(
        data: *mut c_void,
        free: Option<unsafe extern "C-unwind" fn(data: *mut c_void)>,
    ) -> Self {
        Self { data, free }
    }
}

// SAFETY: procref only passes `data` to the caller's functions. The header demands that both may run on every thread that
// uses the service.
unsafe impl Send for UserData {}
// SAFETY: a shared reference gives access to the pointer only, and the header demands that the callback may run on every
// thread.
unsafe impl Sync for UserData {}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: the caller has passed a function of this type. This runs once, and no call of the callback can follow.
            unsafe { free(self.data) };
        }
    }
}
