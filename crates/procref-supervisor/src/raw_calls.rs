//! The system calls on a semaphore set. They allocate nothing and take no lock, so a supervisor can use them.

#![expect(unsafe_code, reason = "semop and semctl have no safe wrapper")]

use core::cell::UnsafeCell;
use core::mem::ManuallyDrop;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::time::Duration;

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::semset::layout::{Values, slot};
use crate::semset::signal_safe::{Refused, SetCalls, SetResult, SignalSafeSet};
use crate::semset::steps::{LONGEST, Op, Wait};

/// The number of a set, as `semget` returns it. It identifies the set as long as the set exists.
#[derive(Clone, Copy, Debug)]
pub struct SetId(libc::c_int);

impl SetId {
    pub fn new(number: libc::c_int) -> Self {
        Self(number)
    }

    pub fn number(self) -> libc::c_int {
        self.0
    }
}

unsafe extern "C" {
    // The libc crate does not declare this function. glibc has it since 2.3.3, and musl has it.
    fn semtimedop(
        id: libc::c_int,
        ops: *mut libc::sembuf,
        count: libc::size_t,
        limit: *const libc::timespec,
    ) -> libc::c_int;
}

fn check(result: libc::c_int) -> Result<libc::c_int, Errno> {
    match result {
        -1 => Err(Errno::from_raw_os_error(crate::calls::last_errno())),
        _ => Ok(result),
    }
}

/// Performs an array of operations. With [`Wait::Yes`] it sleeps until that is possible.
pub fn operate(id: SetId, ops: &[Op], wait: Wait) -> Result<(), Errno> {
    call(id, ops, wait, ptr::null())
}

/// Performs an array. Sleeps until that is possible, for at most `limit`. `EAGAIN` means that the limit has
/// passed.
pub fn operate_within(id: SetId, ops: &[Op], limit: Duration) -> Result<(), Errno> {
    let limit = timespec(limit);
    call(id, ops, Wait::Yes, &raw const limit)
}

/// A time limit that a signal handler can end.
///
/// A signal wakes a process that sleeps in `semtimedop` (`EINTR`). A signal does not end a sleep that begins
/// after the handler has run. So the handler sets the limit that the call will read to zero. The sleep then
/// ends, whether the handler runs before the call or during it.
pub struct Limit(UnsafeCell<libc::timespec>);

// SAFETY: a limit is used by one thread and by the signal handlers that interrupt this thread. Each access is a
// volatile write of the whole value, or the kernel's copy of it, and no reference to the value exists. If a handler
// interrupts a write, at most the fraction of a second of the old limit remains. A sleep then ends later by less than a
// second, and `life::sleep` checks for exited children before each sleep.
unsafe impl Sync for Limit {}

impl Default for Limit {
    fn default() -> Self {
        Self::new()
    }
}

impl Limit {
    pub const fn new() -> Self {
        Self(UnsafeCell::new(libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }))
    }

    /// Sets the limit. `None` means that only a signal handler ends it.
    pub fn set(&self, limit: Option<Duration>) {
        // 68 years do not overflow in any kernel.
        let limit = limit.map_or(Duration::from_secs(i32::MAX as u64), |limit| limit);
        self.write(timespec(limit));
    }

    /// Ends the limit. This is async-signal-safe.
    pub fn expire(&self) {
        self.write(timespec(Duration::ZERO));
    }

    fn write(&self, limit: libc::timespec) {
        let place = self.0.get();
        // SAFETY: `place` points to a timespec that lives as long as `self`, and no reference to it exists. The write
        // is volatile, because a handler may write to it at any moment, and the kernel reads it.
        unsafe { place.write_volatile(limit) };
    }
}

/// Performs an array. Sleeps until that is possible, or until the limit ends. `EINTR` and `EAGAIN` mean that
/// the limit has ended.
pub fn operate_until(id: SetId, ops: &[Op], limit: &Limit) -> Result<(), Errno> {
    call(id, ops, Wait::Yes, limit.0.get())
}

fn timespec(limit: Duration) -> libc::timespec {
    libc::timespec {
        // At most 68 years. libc has no common name for the type of the field.
        tv_sec: limit.as_secs().try_into().unwrap_or(i32::MAX.into()),
        tv_nsec: limit.subsec_nanos() as _,
    }
}

/// An array of operations in the form in which the kernel reads it.
pub struct RawArray {
    ops: [libc::sembuf; LONGEST],
    length: usize,
}

impl RawArray {
    /// Returns `E2BIG` if there are more than [`LONGEST`] operations.
    pub fn new(ops: &[Op], wait: Wait) -> Result<Self, Errno> {
        let mut array = [libc::sembuf {
            sem_num: 0,
            sem_op: 0,
            sem_flg: 0,
        }; LONGEST];
        let length = ops.len();
        let used = array.get_mut(..length).ok_or(Errno::TOOBIG)?;
        for (raw, op) in used.iter_mut().zip(ops) {
            let undo = if op.undo { libc::SEM_UNDO } else { 0 };
            let no_wait = if wait == Wait::No || op.nowait {
                libc::IPC_NOWAIT
            } else {
                0
            };
            *raw = libc::sembuf {
                sem_num: op.slot,
                sem_op: op.delta,
                sem_flg: (no_wait | undo) as libc::c_short,
            };
        }
        Ok(Self { ops: array, length })
    }

    /// Performs the array.
    pub fn perform(&self, id: SetId) -> Result<(), Errno> {
        self.call(id, ptr::null())
    }

    fn call(&self, id: SetId, limit: *const libc::timespec) -> Result<(), Errno> {
        let ops = self.ops.as_ptr().cast_mut();
        // SAFETY: `ops` has `length` initialized elements (checked in `new`), which `semtimedop` only reads. `limit` is
        // null, or points to a timespec that outlives the call: a local variable of `operate_within`, or a `Limit` that
        // `operate_until` borrows. The kernel copies it once.
        check(unsafe { semtimedop(id.number(), ops, self.length, limit) }).map(drop)
    }
}

fn call(id: SetId, ops: &[Op], wait: Wait, limit: *const libc::timespec) -> Result<(), Errno> {
    RawArray::new(ops, wait)?.call(id, limit)
}

/// The pages of the buffer that a supervisor keeps. Null in every other process.
static KEPT: AtomicPtr<libc::c_void> = AtomicPtr::new(ptr::null_mut());

/// Makes this process keep one buffer for all reads. Call this only in a process with one thread.
///
/// A supervisor reads the set several times between the death of the last client and the stop signal. A new buffer for
/// each read would cost three more system calls and a page fault.
pub fn keep_room() {
    if let Ok(room) = Guarded::new() {
        room.blank();
        KEPT.store(ManuallyDrop::new(room).pages, Ordering::Relaxed);
    }
}

fn values_in_room(id: SetId) -> Result<Values, Errno> {
    let pages = KEPT.load(Ordering::Relaxed);
    match pages.is_null() {
        true => values_in_new_room(id),
        false => ManuallyDrop::new(Guarded { pages }).read(id),
    }
}

/// Reads all slots into a new buffer, for a process without thread-local values. `EFAULT` means that the set has more
/// slots than COUNT.
pub fn values_in_new_room(id: SetId) -> Result<Values, Errno> {
    Guarded::new()?.read(id)
}

/// A buffer for the values of one set, right before memory that cannot be accessed.
///
/// `GETALL` takes no length: it writes as many values as the set has. `semget` also finds sets that are
/// larger than requested. And the kernel reuses the id of a removed set after some millions of other sets. So
/// a remembered id may be that of another user's set with thousands of semaphores. Reading the size first
/// would be a race. With the guard, the kernel returns `EFAULT`.
pub struct Guarded {
    pages: *mut libc::c_void,
}

impl Guarded {
    /// Size of the accessible and of the inaccessible half: a multiple of every page size that Linux has. Only the one
    /// page that is written to uses memory.
    const HALF: usize = 64 << 10;

    pub fn new() -> Result<Self, Errno> {
        // SAFETY: no address is requested, so no existing mapping is replaced. The new mapping is anonymous and
        // private.
        let pages = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                2 * Self::HALF,
                ProtFlags::empty(),
                MapFlags::PRIVATE,
            )
        }?;
        let guarded = Self { pages };
        // SAFETY: the range is the first half of the mapping made above, to which no reference exists yet.
        unsafe {
            mprotect(
                pages,
                Self::HALF,
                MprotectFlags::READ | MprotectFlags::WRITE,
            )
        }?;
        Ok(guarded)
    }

    /// Zeroes the buffer and returns its address.
    pub fn blank(&self) -> *mut Values {
        let room = Self::HALF - size_of::<Values>();
        // SAFETY: `room` is less than the size of the mapping, so the result is inside of it.
        let values = unsafe { self.pages.byte_add(room) }.cast::<Values>();
        // SAFETY: `values` is the end of the writable half. It has room for one `Values` and is aligned, because HALF
        // and the size of `Values` are even. A `Guarded` is not `Sync`, so no other thread uses it.
        unsafe { values.write([0; slot::COUNT as usize]) };
        values
    }

    pub fn read(&self, id: SetId) -> Result<Values, Errno> {
        // Zero the buffer, because a smaller set leaves the rest of it unchanged, with the values of the last
        // set.
        let values = self.blank();
        // SAFETY: GETALL writes one `unsigned short` per semaphore, from `values` on. There is room for COUNT of them.
        // If the set has more, the kernel reaches the guard and the call fails.
        check(unsafe { libc::semctl(id.number(), 0, libc::GETALL, values) })?;
        // SAFETY: `blank` has initialized the values, and the kernel has only written integers over them. The pointer
        // is valid as long as `self`.
        Ok(unsafe { values.read() })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, and no reference to it exists any more. If the call fails, the
        // memory stays mapped, which is harmless.
        let _ = unsafe { munmap(self.pages, 2 * Self::HALF) };
    }
}

pub fn remove(id: SetId) -> Result<(), Errno> {
    // SAFETY: IPC_RMID takes no fourth argument, so no pointers are passed.
    check(unsafe { libc::semctl(id.number(), 0, libc::IPC_RMID) }).map(drop)
}

/// A set of the kernel, for a supervisor.
pub type NativeSet = SignalSafeSet<RawCalls>;

/// The system calls on one set.
#[derive(Clone, Copy, Debug)]
pub struct RawCalls(SetId);

impl RawCalls {
    pub fn new(id: SetId) -> Self {
        Self(id)
    }

    fn repeat<T>(self, call: impl Fn(SetId) -> Result<T, Errno>) -> SetResult<T> {
        loop {
            match call(self.0) {
                Ok(output) => return Ok(output),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Refused::NotNow),
                Err(_) => return Err(Refused::Gone),
            }
        }
    }
}

impl SetCalls for RawCalls {
    type Limit = Limit;

    async fn operate(self, ops: &[Op]) -> SetResult<()> {
        self.repeat(|id| operate(id, ops, Wait::No))
    }

    async fn operate_within(self, ops: &[Op], limit: Duration) -> SetResult<()> {
        self.repeat(|id| operate_within(id, ops, limit))
    }

    async fn sleep(self, ops: &[Op], limit: &Limit) -> SetResult<()> {
        operate_until(self.0, ops, limit).map_err(|error| match error {
            Errno::AGAIN | Errno::INTR => Refused::NotNow,
            _ => Refused::Gone,
        })
    }

    async fn values(self) -> SetResult<Values> {
        self.repeat(values_in_room)
    }

    async fn remove(self) -> SetResult<()> {
        self.repeat(remove)
    }
}
