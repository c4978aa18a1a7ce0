//! The processes of this user.

#![expect(unsafe_code, reason = "proc_listpids has no safe wrapper")]

use std::ptr;

/// `PROC_UID_ONLY` of `sys/proc_info.h`: the processes with this effective user.
const UID_ONLY: u32 = 4;

/// Room for processes that start between the two calls.
const SPARE: usize = 64;

/// Returns the pids of the processes of this user, or `None` if the kernel refuses the list.
pub(crate) fn own_user() -> Option<Vec<u32>> {
    let uid = rustix::process::geteuid().as_raw();
    loop {
        // SAFETY: without a buffer, the call only returns the size of the list.
        let size = unsafe { libc::proc_listpids(UID_ONLY, uid, ptr::null_mut(), 0) };
        let room = usize::try_from(size).ok().filter(|&size| size > 0)? / size_of::<u32>() + SPARE;
        let mut pids = vec![0_u32; room];
        let bytes = libc::c_int::try_from(room * size_of::<u32>()).ok()?;
        // SAFETY: the call writes at most `bytes` bytes to `pids`, whose elements are integers of the size of a pid.
        let written =
            unsafe { libc::proc_listpids(UID_ONLY, uid, pids.as_mut_ptr().cast(), bytes) };
        let count = usize::try_from(written).ok().filter(|&it| it > 0)? / size_of::<u32>();
        // A list that fills the room may be incomplete.
        if count < room {
            pids.truncate(count);
            pids.retain(|&pid| pid != 0);
            return Some(pids);
        }
    }
}
