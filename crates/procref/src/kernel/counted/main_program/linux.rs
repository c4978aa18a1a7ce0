//! The program headers of the main program, which the loader knows.

#![expect(
    unsafe_code,
    reason = "only the loader knows the address of the main program"
)]

use std::io;
use std::path::PathBuf;
use std::ptr;

/// Returns `true` if the main program contains this code.
pub(in crate::kernel::counted) fn contains_this_code() -> bool {
    let mut found = Search {
        address: contains_this_code as fn() -> bool as usize,
        is_inside: false,
    };
    // SAFETY: `check_main_program` has the type that the loader calls, and `found` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(check_main_program), (&raw mut found).cast()) };
    found.is_inside
}

struct Search {
    address: usize,
    is_inside: bool,
}

/// Checks the first object, which is the main program, and ends the iteration.
unsafe extern "C" fn check_main_program(
    info: *mut libc::dl_phdr_info,
    _: libc::size_t,
    search: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader passes a description that is valid during this call.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 1;
    }
    // SAFETY: `dlpi_phdr` points to `dlpi_phnum` program headers, which the loader keeps during this call.
    let headers =
        unsafe { &*ptr::slice_from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    // SAFETY: `search` points to the local variable of `contains_this_code`, which no other code uses during this call.
    let search = unsafe { &mut *search.cast::<Search>() };
    search.is_inside = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD)
        .any(|header| {
            let first = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
            search.address.wrapping_sub(first) < header.p_memsz as usize
        });
    1
}

/// Returns a path to the running program, even if its own path leads to another file now.
#[expect(clippy::unnecessary_wraps, reason = "the contract of all systems")]
pub(in crate::kernel::counted) fn path() -> io::Result<PathBuf> {
    Ok("/proc/self/exe".into())
}
