//! The children of a process, by proc_listpids.

#![expect(unsafe_code, reason = "proc_listpids has no safe wrapper")]

use std::ptr;

/// `PROC_PPID_ONLY` of `sys/proc_info.h`: the processes with this parent.
const PARENT_ONLY: u32 = 6;

/// Room for processes that start between the two calls.
const SPARE: usize = 16;

/// Returns the children of a process. Returns none if the process has exited, or if the kernel refuses the list.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    loop {
        // SAFETY: without a buffer, the call only returns a size that suffices for all processes.
        let size = unsafe { libc::proc_listpids(PARENT_ONLY, pid, ptr::null_mut(), 0) };
        let Some(size) = usize::try_from(size).ok().filter(|&size| size > 0) else {
            return Vec::new();
        };
        let mut pids = vec![0_u32; size / size_of::<u32>() + SPARE];
        let Ok(bytes) = libc::c_int::try_from(pids.len() * size_of::<u32>()) else {
            return Vec::new();
        };
        // SAFETY: the call writes at most `bytes` bytes to `pids`, whose elements are integers of the size of a pid.
        let written =
            unsafe { libc::proc_listpids(PARENT_ONLY, pid, pids.as_mut_ptr().cast(), bytes) };
        let count = usize::try_from(written).unwrap_or(0) / size_of::<u32>();
        // A list that fills the room may be incomplete.
        if count < pids.len() {
            pids.truncate(count);
            pids.retain(|&it| it != 0 && it != pid);
            return pids;
        }
    }
}
