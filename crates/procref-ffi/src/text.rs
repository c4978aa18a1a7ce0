//! Strings.

use std::ffi::{CStr, CString, c_char};

use crate::error::Failure;

/// Returns a string that the caller has passed. `what` names the parameter in the error.
///
/// # Safety
///
/// `text` must be null, or point to a string that ends with NUL and does not change during `'a`.
pub(crate) unsafe fn required<'a>(
    text: *const c_char,
    what: &'static str,
) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: `text` is not null, and the caller of this function promises the rest.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str()
        .map_err(|error| Failure::invalid(format!("{what} is not valid UTF-8: {error}")))
}

/// Returns the strings of an array that ends with a null pointer.
///
/// # Safety
///
/// `list` must point to pointers, the last of which is null. Each other one must be as for [`required`].
pub(crate) unsafe fn list<'a>(
    mut list: *const *const c_char,
    what: &'static str,
) -> Result<Vec<&'a str>, Failure> {
    let mut texts = Vec::new();
    loop {
        // SAFETY: no pointer before this one was null, so this one belongs to the array.
        let text = unsafe { *list };
        if text.is_null() {
            return Ok(texts);
        }
        // SAFETY: the caller of this function promises this for each string of the array.
        texts.push(unsafe { required(text, what) }?);
        // SAFETY: the pointer at `list` is not null, so the array has one more.
        list = unsafe { list.add(1) };
    }
}

/// Returns a text for C. A text in C ends at its first NUL, so NUL is replaced.
pub(crate) fn to_c(text: &str) -> CString {
    let text = text.replace('\0', "\u{fffd}");
    CString::new(text).unwrap_or_default()
}

/// Frees a string that procref has returned, such as that of `procref_status_json`. Does nothing if it is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn procref_string_free(string: *mut c_char) {
    if !string.is_null() {
        // SAFETY: the caller passes a string that `CString::into_raw` has returned, and does not use it any more.
        drop(unsafe { CString::from_raw(string) });
    }
}
