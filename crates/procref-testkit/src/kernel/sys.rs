//! The raw system calls. They are independent of the library's own calls, because a check that used the code under test
//! would repeat its errors.
#![expect(
    unsafe_code,
    reason = "semget and semctl have no safe wrapper, and the library's calls are under test"
)]

use std::io;

use libc::{c_int, c_ulong};

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn small<T: TryInto<c_int>>(number: T) -> c_int {
    number.try_into().ok().expect("a small number")
}

fn count(result: c_int) -> io::Result<u32> {
    checked(result).map(c_int::unsigned_abs)
}

/// `semget(key, len, IPC_CREAT | IPC_EXCL | mode)`.
pub(super) fn create(key: i32, len: usize, mode: u32) -> io::Result<i32> {
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | small(mode);
    // SAFETY: no pointers are passed.
    checked(unsafe { libc::semget(key, small(len), flags) })
}

/// `GETVAL`.
pub(super) fn value(id: i32, slot: usize) -> io::Result<u32> {
    // SAFETY: GETVAL takes no fourth argument, and no pointers are passed.
    count(unsafe { libc::semctl(id, small(slot), libc::GETVAL) })
}

/// `GETZCNT`.
pub(super) fn waiting_for_zero(id: i32, slot: usize) -> io::Result<u32> {
    // SAFETY: GETZCNT takes no fourth argument, and no pointers are passed.
    count(unsafe { libc::semctl(id, small(slot), libc::GETZCNT) })
}

/// `GETNCNT`.
pub(super) fn waiting_for_more(id: i32, slot: usize) -> io::Result<u32> {
    // SAFETY: GETNCNT takes no fourth argument, and no pointers are passed.
    count(unsafe { libc::semctl(id, small(slot), libc::GETNCNT) })
}

/// `SETVAL`.
pub(super) fn set_value(id: i32, slot: usize, value: u16) -> io::Result<()> {
    // SAFETY: no pointers are passed. SETVAL takes an int, which is passed as a register-wide integer, like the union
    // `semun`.
    checked(unsafe { libc::semctl(id, small(slot), libc::SETVAL, c_ulong::from(value)) }).map(drop)
}

/// `IPC_SET` of owner and mode. The group does not change.
pub(super) fn set_owner(id: i32, uid: u32, mode: u32) -> io::Result<()> {
    // SAFETY: `semid_ds` has only integer fields, so all zeros is a valid value.
    let mut settings: libc::semid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: IPC_STAT writes one `semid_ds`, and `settings` is a local variable of this type.
    checked(unsafe { libc::semctl(id, 0, libc::IPC_STAT, &raw mut settings) })?;
    settings.sem_perm.uid = uid;
    settings.sem_perm.mode = mode.try_into().expect("permission bits");
    // SAFETY: IPC_SET reads one `semid_ds`, and `settings` is a local variable of this type.
    checked(unsafe { libc::semctl(id, 0, libc::IPC_SET, &raw mut settings) }).map(drop)
}

/// `IPC_RMID`.
pub(super) fn remove(id: i32) -> io::Result<()> {
    // SAFETY: IPC_RMID takes no fourth argument, and no pointers are passed.
    checked(unsafe { libc::semctl(id, 0, libc::IPC_RMID) }).map(drop)
}

/// `semop` with `SEM_UNDO` of up to four operations. Each operation is a slot and the number to add.
pub(super) fn operate(id: i32, changes: &[(u16, i16)]) -> io::Result<()> {
    semop(id, changes, libc::SEM_UNDO)
}

/// `semop` that waits until a slot is zero.
pub(super) fn wait_for_zero(id: i32, slot: u16) -> io::Result<()> {
    semop(id, &[(slot, 0)], 0)
}

fn semop(id: i32, changes: &[(u16, i16)], flags: c_int) -> io::Result<()> {
    let mut ops = [libc::sembuf {
        sem_num: 0,
        sem_op: 0,
        sem_flg: flags as libc::c_short,
    }; 4];
    assert!(changes.len() <= ops.len());
    for (op, &(slot, delta)) in ops.iter_mut().zip(changes) {
        op.sem_num = slot;
        op.sem_op = delta;
    }
    // SAFETY: the array has at least this number of initialized elements, and `semop` only reads them.
    checked(unsafe { libc::semop(id, ops.as_mut_ptr(), changes.len()) }).map(drop)
}
