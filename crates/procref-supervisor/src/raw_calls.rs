//! The calls on a semaphore set, by system calls alone: no allocation, no lock, no thread-local value.

#![expect(unsafe_code, reason = "semop and semctl have no safe wrapper")]

use core::cell::UnsafeCell;
use core::ptr;
use core::time::Duration;

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::semset::layout::{Values, slot};
use crate::semset::signal_safe::{Refused, SetCalls, SetResult, SignalSafeSet};
use crate::semset::steps::{MAX_OPS, Op, Wait};

/// The number that `semget` returned for a set. It names that set for as long as the set exists.
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
    // Not in the libc crate; glibc 2.3.3 and musl have it.
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

pub fn operate(id: SetId, ops: &[Op], wait: Wait) -> Result<(), Errno> {
    call(id, ops, wait, ptr::null())
}

/// `EAGAIN`: not within `limit`.
pub fn operate_within(id: SetId, ops: &[Op], limit: Duration) -> Result<(), Errno> {
    let limit = timespec(limit);
    call(id, ops, Wait::Yes, &raw const limit)
}

/// A time limit that a signal handler can bring to its end.
///
/// A process that sleeps in semtimedop is woken by a signal (`EINTR`). One that is just about to sleep is
/// not: the handler has run by then, and nothing is left of the signal. So the handler zeroes the very
/// limit that the call will read: whether it runs before the call or in it, the sleep ends.
pub struct Limit(UnsafeCell<libc::timespec>);

// SAFETY: nobody but one thread and the signal handlers that interrupt it use it, and each access is one
// volatile read or write of an integer. Of a limit that a handler zeroes while it is being set at most
// the part of a second remains; `semset::signal_safe` says how its user sees that.
unsafe impl Sync for Limit {}

impl Limit {
    pub const fn new() -> Self {
        Self(UnsafeCell::new(libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }))
    }

    /// `None`: for ever.
    pub fn set(&self, limit: Option<Duration>) {
        // Sixty-eight years are for ever, and no kernel overflows at them.
        let limit = limit.map_or(Duration::from_secs(i32::MAX as u64), |limit| limit);
        self.write(timespec(limit));
    }

    /// What a signal handler calls.
    pub fn expire(&self) {
        self.write(timespec(Duration::ZERO));
    }

    fn write(&self, limit: libc::timespec) {
        let place = self.0.get();
        // SAFETY: `place` points to a timespec that lives as long as `self`, and no reference to it
        // exists; volatile, because a handler reads and writes it at any moment.
        unsafe { place.write_volatile(limit) };
    }
}

/// As [`operate_within`], until the limit was brought to its end. `EINTR`, `EAGAIN`: it was, or time is up.
pub fn operate_until(id: SetId, ops: &[Op], limit: &Limit) -> Result<(), Errno> {
    call(id, ops, Wait::Yes, limit.0.get())
}

fn timespec(limit: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos() as _,
    }
}

fn call(id: SetId, ops: &[Op], wait: Wait, limit: *const libc::timespec) -> Result<(), Errno> {
    let mut array = [libc::sembuf {
        sem_num: 0,
        sem_op: 0,
        sem_flg: 0,
    }; MAX_OPS];
    for (raw, op) in array.iter_mut().zip(ops) {
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
    let count = ops.len();
    if count > MAX_OPS {
        return Err(Errno::TOOBIG);
    }
    // SAFETY: `array` is an array of at least `count` initialised `sembuf`s (checked above), which
    // semtimedop only reads; `limit` is null or points to a timespec that outlives the call, in all three
    // callers, and that the kernel copies once.
    check(unsafe { semtimedop(id.number(), array.as_mut_ptr(), count, limit) }).map(drop)
}

/// As [`values`], for a process that has lost its thread's own room.
pub fn values_in_new_room(id: SetId) -> Result<Values, Errno> {
    Guarded::new()?.read(id)
}

/// Room for the values of one set, right before memory that nobody may touch.
///
/// `GETALL` takes no length: it writes as many values as the set has. `semget` finds sets that are
/// larger than was asked for, and the id of a removed set comes round again after some millions of
/// others: then another user can have a set of thousands of semaphores under an id that this process
/// still remembers. Asking for the size first would leave a moment in between. Here the kernel itself
/// runs into the guard and answers `EFAULT`.
pub struct Guarded {
    pages: *mut libc::c_void,
}

impl Guarded {
    /// What may be touched, and what may not: each a multiple of every page size that Linux has. Only
    /// the one page that is written to takes memory.
    const HALF: usize = 64 << 10;

    pub fn new() -> Result<Self, Errno> {
        // SAFETY: no address is asked for, so no existing mapping is replaced; the new one is
        // anonymous and private.
        let pages = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                2 * Self::HALF,
                ProtFlags::empty(),
                MapFlags::PRIVATE,
            )
        }?;
        let guarded = Self { pages };
        // SAFETY: the range is the first half of the mapping made above, which nothing else uses.
        unsafe {
            mprotect(
                pages,
                Self::HALF,
                MprotectFlags::READ | MprotectFlags::WRITE,
            )
        }?;
        Ok(guarded)
    }

    /// Where the values go, all zero.
    pub fn blank(&self) -> *mut Values {
        let room = Self::HALF - size_of::<Values>();
        // SAFETY: `room` is less than the size of the mapping.
        let values = unsafe { self.pages.byte_add(room) }.cast::<Values>();
        // SAFETY: `values` is the end of the half that is writable, which only this thread uses, and
        // aligned, because HALF and the size of `Values` are even.
        unsafe { values.write([0; slot::COUNT as usize]) };
        values
    }

    pub fn read(&self, id: SetId) -> Result<Values, Errno> {
        // A smaller set leaves the rest as it was: blank, and not as the last set left it.
        let values = self.blank();
        // SAFETY: GETALL writes one `unsigned short` per semaphore, from `values` on. There is room for
        // COUNT; a further one hits the guard, and the call fails.
        check(unsafe { libc::semctl(id.number(), 0, libc::GETALL, values) })?;
        // SAFETY: `blank` returns a pointer to initialised values, and whatever the kernel wrote over
        // them are integers, too.
        Ok(unsafe { values.read() })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, to which no reference exists any more. A
        // failure would leave it mapped, which harms nobody.
        let _ = unsafe { munmap(self.pages, 2 * Self::HALF) };
    }
}

pub fn remove(id: SetId) -> Result<(), Errno> {
    // SAFETY: IPC_RMID takes no fourth argument and touches no memory of this process.
    check(unsafe { libc::semctl(id.number(), 0, libc::IPC_RMID) }).map(drop)
}

/// A set that is open already.
pub type NativeSet = SignalSafeSet<RawCalls>;

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
        self.repeat(values_in_new_room)
    }

    async fn remove(self) -> SetResult<()> {
        self.repeat(remove)
    }
}
