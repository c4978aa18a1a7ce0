//! The programs and libraries that a supervisor needs: procref itself, the C library and the loader.

#![expect(
    unsafe_code,
    reason = "only the loader knows whether symbols are bound"
)]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use procref_supervisor::called;
use procref_supervisor::forked::entry::first_child;

/// The code that a supervisor uses, by its addresses.
pub(super) struct Needed {
    /// An address in procref itself, one in the C library, and one in the loader. 0 if there is no loader.
    pub(super) objects: [usize; 3],
    /// The functions that procref calls. Each is in one of the objects above, unless another library replaces it.
    pub(super) functions: Vec<usize>,
}

/// Returns the code that a supervisor needs. Returns `None` if it may need any library.
pub(super) fn needed() -> Option<Needed> {
    let procref = first_child as *const () as usize;
    // SAFETY: no pointers are passed.
    let loader = unsafe { libc::getauxval(libc::AT_BASE) } as usize;
    is_bound(procref).then(|| Needed {
        objects: [
            procref,
            libc::__errno_location as *const () as usize,
            loader,
        ],
        functions: called::functions().to_vec(),
    })
}

/// Returns `true` if all symbols that the code at this address uses are bound.
///
/// A program or library may be linked so that each symbol is bound at its first call. The loader then searches the
/// symbol in the libraries of the process, so the supervisor needs all of them.
fn is_bound(code: usize) -> bool {
    // The loader does not change this after it has loaded the code. One query also keeps forked children from waiting
    // for the loader's lock, which another thread may have held during the fork.
    static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN);

    match KNOWN.load(Ordering::Relaxed) {
        UNKNOWN => {}
        known => return known == BOUND,
    }
    let mut query = Query { code, bound: false };
    // SAFETY: `visit` has the type that the loader calls, and `query` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut query).cast()) };
    KNOWN.store(if query.bound { BOUND } else { LAZY }, Ordering::Relaxed);
    query.bound
}

const UNKNOWN: u8 = 0;
const BOUND: u8 = 1;
const LAZY: u8 = 2;

struct Query {
    code: usize,
    bound: bool,
}

/// An entry of a dynamic section: [elf(5)](https://man7.org/linux/man-pages/man5/elf.5.html), `ElfN_Dyn`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    tag: usize,
    value: usize,
}

const DT_NULL: usize = 0;
const DT_JMPREL: usize = 23;
const DT_BIND_NOW: usize = 24;
const DT_FLAGS: usize = 30;
const DT_FLAGS_1: usize = 0x6fff_fffb;
const DF_BIND_NOW: usize = 8;
const DF_1_NOW: usize = 1;

unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _: libc::size_t,
    query: *mut c_void,
) -> c_int {
    // SAFETY: the loader passes a description that is valid during this call.
    let info = unsafe { &*info };
    // SAFETY: `query` points to the local variable of `is_bound`, which no other code uses during this call.
    let query = unsafe { &mut *query.cast::<Query>() };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: `dlpi_phdr` points to `dlpi_phnum` program headers, which the loader keeps during this call.
    let headers =
        unsafe { &*ptr::slice_from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let base = info.dlpi_addr as usize;
    let contains = |header: &libc::Elf64_Phdr| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        header.p_type == libc::PT_LOAD && query.code.wrapping_sub(start) < header.p_memsz as usize
    };
    if !headers.iter().any(contains) {
        return 0;
    }
    let dynamic = headers.iter().find(|it| it.p_type == libc::PT_DYNAMIC);
    query.bound = dynamic.is_none_or(|header| {
        let entry = base.wrapping_add(header.p_vaddr as usize) as *const Entry;
        is_bound_by(entry)
    });
    1
}

/// Returns `true` if a dynamic section has no symbols that are bound at their first call.
fn is_bound_by(mut entry: *const Entry) -> bool {
    let mut has_calls = false;
    loop {
        // SAFETY: the loader has mapped the dynamic section of an object that is loaded, which is an array of entries.
        // The loop ends at its last entry, whose tag is `DT_NULL`.
        let Entry { tag, value } = unsafe { *entry };
        match tag {
            DT_NULL => return !has_calls,
            DT_BIND_NOW => return true,
            DT_FLAGS if value & DF_BIND_NOW != 0 => return true,
            DT_FLAGS_1 if value & DF_1_NOW != 0 => return true,
            DT_JMPREL => has_calls = true,
            _ => {}
        }
        // SAFETY: the last entry was not reached, so the next one is in the same array.
        entry = unsafe { entry.add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rust links programs so that all symbols are bound at the start.
    #[test]
    fn needed_code_is_bound_in_a_test_program() {
        let needed = needed().expect("all symbols are bound");
        assert!(needed.objects[..2].iter().all(|&address| address != 0));
        assert!(needed.functions.iter().all(|&address| address != 0));
    }

    #[test]
    fn symbols_are_bound_by_flags_or_if_there_are_none() {
        let end = (DT_NULL, 0);
        for (entries, bound) in [
            (&[end][..], true),
            (&[(DT_JMPREL, 7), end], false),
            (
                &[(DT_JMPREL, 7), (DT_FLAGS, 4), (DT_FLAGS_1, 2), end],
                false,
            ),
            (&[(DT_JMPREL, 7), (DT_FLAGS, 12), end], true),
            (&[(DT_JMPREL, 7), (DT_FLAGS_1, 0x0800_0001), end], true),
            (&[(DT_BIND_NOW, 0), (DT_JMPREL, 7), end], true),
            (&[(DT_JMPREL, 7), end, (DT_BIND_NOW, 0)], false),
        ] {
            let section = entries.iter().map(|&(tag, value)| Entry { tag, value });
            let section: Vec<Entry> = section.collect();
            assert_eq!(is_bound_by(section.as_ptr()), bound, "{entries:?}");
        }
    }
}
