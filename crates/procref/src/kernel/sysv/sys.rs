//! The System V calls, one function each. Return codes become [`io::Error`] here.

#![expect(unsafe_code, reason = "semget, semop and semctl have no safe wrapper")]

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

pub(super) use procref_supervisor::raw_calls::SetId;
use procref_supervisor::raw_calls::{self, Guarded, RawArray};
use rustix::io::Errno;

use crate::kernel::semset::{Op, Values, Wait};

/// The owner, creator and permissions of a set.
pub(super) struct Ownership {
    pub(super) uid: u32,
    pub(super) creator: u32,
    pub(super) mode: u32,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

pub(super) fn get(key: i32, slots: u16, create: bool) -> io::Result<SetId> {
    let flags = if create { libc::IPC_CREAT | 0o600 } else { 0 };
    // SAFETY: no pointers are passed.
    let result = unsafe { libc::semget(key, slots.into(), flags) };
    check(result).map(SetId::new)
}

/// Checks that this machine allows this number of operations in one array. Returns `E2BIG` if it does not.
pub(super) fn check_length(count: usize) -> io::Result<()> {
    // The kernel checks the length before it searches the set, so an id that no set has is sufficient. Even
    // if a set had this id, an operation that only requires 0 would change nothing.
    let nothing = Op {
        slot: 0,
        delta: 0,
        undo: false,
        nowait: false,
    };
    match operate(
        SetId::new(libc::c_int::MAX),
        &vec![nothing; count],
        Wait::No,
    ) {
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) => Err(error),
        _ => Ok(()),
    }
}

thread_local! {
    static BUFFER: Result<Guarded, Errno> = Guarded::new();
}

/// Allocates the buffer of this thread in advance.
pub(super) fn prepare() {
    // If the thread is exiting, a buffer is allocated when it is needed.
    let _ = BUFFER.try_with(|buffer| buffer.as_ref().map(Guarded::blank).is_ok());
}

/// Returns the values of all slots. Returns `EFAULT` if the set has more slots than COUNT.
pub(super) fn values(id: SetId) -> io::Result<Values> {
    let read = BUFFER.try_with(|buffer| buffer.as_ref().ok().map(|buffer| buffer.read(id)));
    match read {
        Ok(Some(values)) => Ok(values?),
        // The thread is exiting and has lost its buffer, or there was no memory for it.
        Ok(None) | Err(_) => Ok(Guarded::new()?.read(id)?),
    }
}

pub(super) fn owner(id: SetId) -> io::Result<Ownership> {
    let perm = stat(id)?.sem_perm;
    Ok(Ownership {
        uid: perm.uid,
        creator: perm.cuid,
        mode: u32::from(perm.mode),
    })
}

/// Returns the key that the set was created with.
pub(super) fn key(id: SetId) -> io::Result<i32> {
    let stat = stat(id)?;
    // SAFETY: the key is the first field of `ipc_perm`, which is the first field of `semid_ds`, in the kernel and in
    // every libc. Only its name differs.
    Ok(unsafe { (&raw const stat).cast::<libc::key_t>().read() })
}

/// Returns the time of the last array or undo, in seconds since the Unix epoch. 0 means never.
pub(super) fn changed_at(id: SetId) -> io::Result<u64> {
    // The kernel never writes a time before the epoch.
    Ok(u64::try_from(stat(id)?.sem_otime).unwrap_or(0))
}

#[cfg(not(target_env = "musl"))]
type SetStat = libc::semid_ds;

/// The beginning of `semid_ds`, which is the same on all 64-bit architectures. The crate `libc` does not have the struct
/// for musl.
#[cfg(all(target_env = "musl", target_pointer_width = "64"))]
#[repr(C)]
struct SetStat {
    sem_perm: libc::ipc_perm,
    sem_otime: i64,
    /// The kernel writes four to six more fields, each as long as a pointer.
    _rest: [libc::c_long; 8],
}

fn stat(id: SetId) -> io::Result<SetStat> {
    let mut stat = MaybeUninit::<SetStat>::zeroed();
    // SAFETY: IPC_STAT writes one `semid_ds`, and `stat` has its alignment and at least its size.
    check(unsafe { libc::semctl(id.number(), 0, libc::IPC_STAT, stat.as_mut_ptr()) })?;
    // SAFETY: `stat` was zeroed, and zero is valid for all of its integers.
    Ok(unsafe { stat.assume_init() })
}

pub(super) fn last_pid(id: SetId, slot: u16) -> io::Result<Option<u32>> {
    // SAFETY: GETPID takes no fourth argument, so no pointers are passed.
    let pid = check(unsafe { libc::semctl(id.number(), slot.into(), libc::GETPID) })?;
    // 0 means that no process has operated on the slot, or that the process is in another pid namespace.
    Ok(u32::try_from(pid).ok().filter(|&pid| pid != 0))
}

/// Returns the number of processes that sleep until this slot is 0.
pub(super) fn sleepers(id: SetId, slot: u16) -> io::Result<u32> {
    // SAFETY: GETZCNT takes no fourth argument, so no pointers are passed.
    let count = check(unsafe { libc::semctl(id.number(), slot.into(), libc::GETZCNT) })?;
    Ok(u32::try_from(count).unwrap_or(0))
}

pub(super) fn remove(id: SetId) -> io::Result<()> {
    Ok(raw_calls::remove(id)?)
}

pub(super) fn operate(id: SetId, ops: &[Op], wait: Wait) -> io::Result<()> {
    Ok(raw_calls::operate(id, ops, wait)?)
}

/// Performs an array. Returns `false` if that is not possible now, or if this machine allows only shorter arrays.
pub(super) fn perform(id: SetId, array: &RawArray) -> io::Result<bool> {
    match array.perform(id) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::TOOBIG) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns `EAGAIN` if the array cannot be performed within `limit`.
pub(super) fn operate_within(id: SetId, ops: &[Op], limit: Duration) -> io::Result<()> {
    Ok(raw_calls::operate_within(id, ops, limit)?)
}
