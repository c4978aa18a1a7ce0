//! The main program on macOS: the first image that dyld has loaded.

#![expect(
    unsafe_code,
    reason = "only the loader knows the address of the main program"
)]

use std::env;
use std::io;
use std::mem;
use std::path::PathBuf;

unsafe extern "C" {
    // `mach-o/dyld.h`. The libc crate deprecates its declaration.
    fn _dyld_get_image_header(index: u32) -> *const libc::c_void;
}

/// Returns `true` if the main program contains this code.
pub(in crate::kernel::counted) fn contains_this_code() -> bool {
    // SAFETY: all fields are pointers, for which zeros are valid values.
    let mut found: libc::Dl_info = unsafe { mem::zeroed() };
    let code = contains_this_code as fn() -> bool as *const libc::c_void;
    // SAFETY: the call only searches the address among the loaded images, and writes to `found`.
    if unsafe { libc::dladdr(code, &raw mut found) } == 0 {
        return false;
    }
    // SAFETY: image 0 is the main program, which is never unloaded. Only its address is used.
    let main = unsafe { _dyld_get_image_header(0) };
    found.dli_fbase.cast_const() == main
}

/// Returns the path of the program.
pub(in crate::kernel::counted) fn path() -> io::Result<PathBuf> {
    env::current_exe()
}
