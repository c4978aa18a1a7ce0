//! Directories and access control lists of Linux.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::OFlags;

/// The flag to open a directory only as the start of a path.
pub(super) const SEARCH: OFlags = OFlags::PATH;

/// Returns `true` unless the file is known to have no access control list. With a list, the group bits of the mode are
/// the upper limit for all entries of the list.
pub(super) fn extends_group(opened: BorrowedFd<'_>) -> bool {
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let length = rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0]);
    !matches!(
        length,
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP)
    )
}

/// Returns `false`: see [`extends_group`].
pub(super) fn allows_others(_: BorrowedFd<'_>) -> bool {
    false
}
