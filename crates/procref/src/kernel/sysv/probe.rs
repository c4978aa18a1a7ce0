//! The question whether `SEM_UNDO` works. gVisor accepts the flag and ignores it.

#![expect(unsafe_code, reason = "fork, and a set without a key")]

use std::ptr;
use std::sync::OnceLock;

use procref_supervisor::calls::{block_signals, fork_unseen, set_signal_mask};
use procref_supervisor::raw_calls::{self, SetId};

use crate::kernel::semset::{Op, Wait};

/// Returns `true` if the kernel reverts the operations of a process that exits. The first call of a process forks a
/// child; the others return the same result.
///
/// Returns `true` if that cannot be tested, because the error of the first real step is more useful.
pub(crate) fn has_working_undo() -> bool {
    static RESULT: OnceLock<bool> = OnceLock::new();
    *RESULT.get_or_init(test_undo)
}

/// Returns the same as [`has_working_undo`], and tests it in each call.
pub(crate) fn test_undo() -> bool {
    // SAFETY: no pointers are passed.
    let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
    if id == -1 {
        // The process that opens a set reports the error, or chooses the keeper.
        return true;
    }
    let is_reverted = is_reverted(id);
    let _ = raw_calls::remove(SetId::new(id));
    is_reverted
}

fn is_reverted(id: libc::c_int) -> bool {
    let one = [Op {
        slot: 0,
        delta: 1,
        undo: true,
        nowait: true,
    }];
    let mask = block_signals();
    // The child has no exit signal, so the host program does not notice it.
    let child = fork_unseen();
    if child == 0 {
        let done = raw_calls::operate(SetId::new(id), &one, Wait::No);
        // SAFETY: the child makes only system calls. `_exit` runs no handlers of the host program.
        unsafe { libc::_exit(i32::from(done.is_err())) }
    }
    set_signal_mask(&mask);
    let Some(child) = libc::pid_t::try_from(child).ok().filter(|&child| child > 0) else {
        return true;
    };
    loop {
        // SAFETY: the status pointer is null, so the call writes nothing. `__WALL` finds a child without exit signal.
        let reaped = unsafe { libc::waitpid(child, ptr::null_mut(), libc::__WALL) };
        let error = std::io::Error::last_os_error().raw_os_error();
        if reaped != -1 || error != Some(libc::EINTR) {
            break;
        }
    }
    // SAFETY: GETVAL takes no fourth argument, and no pointers are passed.
    let value = unsafe { libc::semctl(id, 0, libc::GETVAL) };
    value <= 0
}
