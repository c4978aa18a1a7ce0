//! Directories and access control lists of macOS.

#![expect(unsafe_code, reason = "access control lists have no safe wrapper")]

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use rustix::fs::OFlags;

/// The flag to open a directory only as the start of a path. This user must be allowed to list it.
pub(super) const SEARCH: OFlags = OFlags::RDONLY;

/// Returns `false`: the entries of a list are independent of the mode. See [`allows_others`].
pub(super) fn extends_group(_: BorrowedFd<'_>) -> bool {
    false
}

// `sys/acl.h`
const ACL_TYPE_EXTENDED: c_int = 0x100;
const ACL_FIRST_ENTRY: c_int = 0;
const ACL_NEXT_ENTRY: c_int = -1;
const ACL_EXTENDED_DENY: c_int = 2;

unsafe extern "C" {
    fn acl_get_fd_np(fd: c_int, kind: c_int) -> *mut c_void;
    fn acl_get_entry(acl: *mut c_void, which: c_int, entry: *mut *mut c_void) -> c_int;
    fn acl_get_tag_type(entry: *mut c_void, tag: *mut c_int) -> c_int;
    fn acl_free(acl: *mut c_void) -> c_int;
}

/// Returns `true` if an entry of the file's list allows anything. The directories of a user usually have entries that deny
/// something.
pub(super) fn allows_others(opened: BorrowedFd<'_>) -> bool {
    // SAFETY: no pointers are passed.
    let acl = unsafe { acl_get_fd_np(opened.as_raw_fd(), ACL_TYPE_EXTENDED) };
    if acl.is_null() {
        // The file has no list.
        return false;
    }
    let mut allows = false;
    let mut which = ACL_FIRST_ENTRY;
    let mut entry = ptr::null_mut();
    // SAFETY: `acl` is a list that this function owns, and the call writes a pointer into it to `entry`.
    while unsafe { acl_get_entry(acl, which, &raw mut entry) } == 0 {
        let mut tag = 0;
        // SAFETY: `entry` points into the list, which lives until the end of this function.
        let read = unsafe { acl_get_tag_type(entry, &raw mut tag) };
        allows |= read != 0 || tag != ACL_EXTENDED_DENY;
        which = ACL_NEXT_ENTRY;
    }
    // SAFETY: `acl` was returned by `acl_get_fd_np`, and nothing uses it any more.
    unsafe { acl_free(acl) };
    allows
}
