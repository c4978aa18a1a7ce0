//! The system calls, one function each. Return codes become [`io::Error`] here and nowhere else.

#![expect(unsafe_code, reason = "semget, semop and semctl have no safe wrapper")]

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::kernel::semset::{MAX_OPS, Op, Values, Wait, slot};

/// What `semget` returned: names one set for as long as it exists.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetId(libc::c_int);

impl SetId {
    /// One that the kernel's own list of sets shows.
    pub(super) fn listed(id: libc::c_int) -> Self {
        Self(id)
    }
}

/// Who owns a set, and who may use it.
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) creator: u32,
    pub(super) mode: u32,
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

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

pub(super) fn get(key: i32, slots: u16, create: bool) -> io::Result<SetId> {
    let flags = if create { libc::IPC_CREAT | 0o600 } else { 0 };
    // SAFETY: semget takes three integers and touches no memory of this process.
    let result = unsafe { libc::semget(key, slots.into(), flags) };
    check(result).map(SetId)
}

/// Whether this machine allows so many operations in one array; `E2BIG` if not.
pub(super) fn check_length(count: usize) -> io::Result<()> {
    // The length is checked before the set is looked for. There is none of this id; and if there were,
    // asking whether a slot is zero would change nothing.
    let nothing = Op {
        slot: 0,
        delta: 0,
        undo: false,
        nowait: false,
    };
    match operate(SetId(libc::c_int::MAX), &vec![nothing; count], Wait::No) {
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn operate(id: SetId, ops: &[Op], wait: Wait) -> io::Result<()> {
    call(id, ops, wait, ptr::null())
}

/// `EAGAIN`: not within `limit`.
pub(super) fn operate_within(id: SetId, ops: &[Op], limit: Duration) -> io::Result<()> {
    let limit = timespec(limit);
    call(id, ops, Wait::Yes, &raw const limit)
}

/// A time limit that a signal handler can bring to its end.
///
/// A process that sleeps in semtimedop is woken by a signal (`EINTR`). One that is just about to sleep is
/// not: the handler has run by then, and nothing is left of the signal. So the handler zeroes the very
/// limit that the call will read: whether it runs before the call or in it, the sleep ends.
pub(crate) struct Limit(UnsafeCell<libc::timespec>);

// SAFETY: nobody but one thread and the signal handlers that interrupt it use it, and each access is one
// volatile read or write of an integer. Of a limit that a handler zeroes while it is being set at most
// the part of a second remains; `semset::signal_safe` says how its user sees that.
unsafe impl Sync for Limit {}

impl Limit {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }))
    }

    /// `None`: for ever.
    pub(crate) fn set(&self, limit: Option<Duration>) {
        // Sixty-eight years are for ever, and no kernel overflows at them.
        let limit = limit.map_or(Duration::from_secs(i32::MAX as u64), |limit| limit);
        self.write(timespec(limit));
    }

    /// What a signal handler calls.
    pub(crate) fn expire(&self) {
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
pub(super) fn operate_until(id: SetId, ops: &[Op], limit: &Limit) -> io::Result<()> {
    call(id, ops, Wait::Yes, limit.0.get())
}

fn timespec(limit: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos() as _,
    }
}

fn call(id: SetId, ops: &[Op], wait: Wait, limit: *const libc::timespec) -> io::Result<()> {
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
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    // SAFETY: `array` is an array of at least `count` initialised `sembuf`s (checked above), which
    // semtimedop only reads; `limit` is null or points to a timespec that outlives the call, in all three
    // callers, and that the kernel copies once.
    check(unsafe { semtimedop(id.0, array.as_mut_ptr(), count, limit) }).map(drop)
}

/// As [`values`], for a process that has lost its thread's own room.
pub(super) fn values_in_new_room(id: SetId) -> io::Result<Values> {
    Guarded::new()?.read(id)
}

thread_local! {
    static BUFFER: io::Result<Guarded> = Guarded::new();
}

/// Makes this thread's room for values, before anybody waits for them.
pub(super) fn prepare() {
    // A thread that is ending makes room when it needs it.
    let _ = BUFFER.try_with(|buffer| buffer.as_ref().map(Guarded::blank).is_ok());
}

/// All slots. `EFAULT`: the set has more than COUNT.
pub(super) fn values(id: SetId) -> io::Result<Values> {
    let read = BUFFER.try_with(|buffer| buffer.as_ref().ok().map(|buffer| buffer.read(id)));
    match read {
        Ok(Some(values)) => values,
        // A thread that is ending has lost its own, or there was no memory for it.
        Ok(None) | Err(_) => Guarded::new()?.read(id),
    }
}

/// Room for the values of one set, right before memory that nobody may touch.
///
/// `GETALL` takes no length: it writes as many values as the set has. `semget` finds sets that are
/// larger than was asked for, and the id of a removed set comes round again after some millions of
/// others: then another user can have a set of thousands of semaphores under an id that this process
/// still remembers. Asking for the size first would leave a moment in between. Here the kernel itself
/// runs into the guard and answers `EFAULT`.
struct Guarded {
    pages: *mut libc::c_void,
}

impl Guarded {
    /// What may be touched, and what may not: each a multiple of every page size that Linux has. Only
    /// the one page that is written to takes memory.
    const HALF: usize = 64 << 10;

    fn new() -> io::Result<Self> {
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
    fn blank(&self) -> *mut Values {
        let room = Self::HALF - size_of::<Values>();
        // SAFETY: `room` is less than the size of the mapping.
        let values = unsafe { self.pages.byte_add(room) }.cast::<Values>();
        // SAFETY: `values` is the end of the half that is writable, which only this thread uses, and
        // aligned, because HALF and the size of `Values` are even.
        unsafe { values.write([0; slot::COUNT as usize]) };
        values
    }

    fn read(&self, id: SetId) -> io::Result<Values> {
        // A smaller set leaves the rest as it was: blank, and not as the last set left it.
        let values = self.blank();
        // SAFETY: GETALL writes one `unsigned short` per semaphore, from `values` on. There is room for
        // COUNT; a further one hits the guard, and the call fails.
        check(unsafe { libc::semctl(id.0, 0, libc::GETALL, values) })?;
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

pub(super) fn owner(id: SetId) -> io::Result<Owner> {
    let perm = stat(id)?.sem_perm;
    Ok(Owner {
        uid: perm.uid,
        creator: perm.cuid,
        mode: u32::from(perm.mode),
    })
}

/// The key that the set was made with.
pub(super) fn key(id: SetId) -> io::Result<i32> {
    let stat = stat(id)?;
    // SAFETY: the key is the first field of `ipc_perm`, which is the first one of `semid_ds`, in the kernel and in
    // every libc. Its name differs between them.
    Ok(unsafe { (&raw const stat).cast::<libc::key_t>().read() })
}

/// When an array was performed last, or an undo: seconds since the Unix epoch, 0 for never.
pub(super) fn changed_at(id: SetId) -> io::Result<u64> {
    // What the kernel writes is never before the epoch.
    Ok(u64::try_from(stat(id)?.sem_otime).unwrap_or(0))
}

fn stat(id: SetId) -> io::Result<libc::semid_ds> {
    let mut stat = MaybeUninit::<libc::semid_ds>::zeroed();
    // SAFETY: IPC_STAT writes one `semid_ds`, for which `stat` has room and alignment.
    check(unsafe { libc::semctl(id.0, 0, libc::IPC_STAT, stat.as_mut_ptr()) })?;
    // SAFETY: it was zeroed, and all zeros are valid for these integers.
    Ok(unsafe { stat.assume_init() })
}

pub(super) fn last_pid(id: SetId, slot: u16) -> io::Result<Option<u32>> {
    // SAFETY: GETPID takes no fourth argument and touches no memory of this process.
    let pid = check(unsafe { libc::semctl(id.0, slot.into(), libc::GETPID) })?;
    // 0: nobody yet, or a process of another pid namespace.
    Ok(u32::try_from(pid).ok().filter(|&pid| pid != 0))
}

/// How many processes sleep until this slot is 0.
pub(super) fn sleepers(id: SetId, slot: u16) -> io::Result<u32> {
    // SAFETY: GETZCNT takes no fourth argument and touches no memory of this process.
    let count = check(unsafe { libc::semctl(id.0, slot.into(), libc::GETZCNT) })?;
    Ok(u32::try_from(count).unwrap_or(0))
}

pub(super) fn remove(id: SetId) -> io::Result<()> {
    // SAFETY: IPC_RMID takes no fourth argument and touches no memory of this process.
    check(unsafe { libc::semctl(id.0, 0, libc::IPC_RMID) }).map(drop)
}
