//! Processes on macOS: proc_pidinfo, and kqueue for exits.

#![expect(
    unsafe_code,
    reason = "proc_pidinfo and sysctl have no safe wrapper, and signals go to a pid"
)]

use core::mem;
use core::time::Duration;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::Signal;

use super::{Arguments, poll_exit, to_pid};
use crate::calls::last_errno;
use crate::kqueue::{self, Source};
use crate::state::Identity;

/// A process, for code that must be async-signal-safe.
pub struct SignalSafeProcess {
    identity: Identity,
    /// A queue that reports the exit.
    exit: OwnedFd,
}

impl SignalSafeProcess {
    /// Returns the process, or `None` if it has exited.
    pub fn find(identity: Identity) -> Result<Option<Self>, Errno> {
        // The exit is watched before the start time is read. If the start time is right, the queue reports the exit of
        // this process.
        let exit = match exit_fd(identity.pid) {
            Err(Errno::SRCH) => return Ok(None),
            exit => exit?,
        };
        match Self::start_of(identity.pid) {
            Err(Errno::SRCH) => Ok(None),
            start => Ok((start? == identity.start).then_some(Self { identity, exit })),
        }
    }

    /// Returns a descriptor that is readable when the process has exited.
    pub fn into_exit_fd(self) -> OwnedFd {
        self.exit
    }

    /// Returns the start time of the process that has this pid now.
    pub fn start_of(pid: u32) -> Result<u64, Errno> {
        Ok(ProcessInfo::of(pid)?.start)
    }

    /// Returns `true` if the process that has this pid now has begun to exit, or if there is none.
    pub fn is_exiting(pid: u32) -> bool {
        ProcessInfo::of(pid).is_err_and(|error| error == Errno::SRCH)
    }

    /// Asks the process to exit with `signal`, kills it after `grace`, and waits until it has exited. Returns `false`
    /// if it is still alive after `kill`.
    pub fn end(&self, signal: Signal, grace: Duration, kill: Duration) -> bool {
        self.send(signal);
        self.send(Signal::CONT);
        if poll_exit(&self.exit, grace) == Ok(true) {
            return true;
        }
        self.send(Signal::KILL);
        poll_exit(&self.exit, kill) == Ok(true)
    }

    /// Sends a signal if the pid is still that of the process. Between the check and the signal, the pid could only be
    /// reused after all other pids.
    fn send(&self, signal: Signal) {
        let pid = to_pid(self.identity.pid);
        if let (Some(pid), Ok(true)) = (pid, is_alive(self.identity)) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Returns a descriptor that is readable when the process that has this pid now has exited. The error is `ESRCH` if no
/// process has this pid.
pub fn exit_fd(pid: u32) -> Result<OwnedFd, Errno> {
    let queue = kqueue::new()?;
    kqueue::add(&queue, Source::Exit(pid), 0)?;
    Ok(queue)
}

/// Returns `true` if the process with this identity is alive.
pub fn is_alive(identity: Identity) -> Result<bool, Errno> {
    match ProcessInfo::of(identity.pid) {
        Ok(info) => Ok(info.start == identity.start),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Facts about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Time of the fork, in microseconds since the Unix epoch. The kernel stores it, so a later change of the clock has
    /// no effect, and neither has `execve`.
    pub start: u64,
    pub is_suspended: bool,
    /// `true` if the process has executed a program since its fork.
    pub has_executed: bool,
    /// Its process group.
    pub group: u32,
}

impl ProcessInfo {
    /// Returns the facts about the process that has this pid now. The error is `ESRCH` if there is none, if it is a
    /// zombie, or if it has begun to exit.
    pub fn of(pid: u32) -> Result<Self, Errno> {
        match Self::of_own_user(pid) {
            Err(Errno::PERM) => Self::of_any_user(pid),
            info => info,
        }
    }

    fn of_own_user(pid: u32) -> Result<Self, Errno> {
        const SIZE: libc::c_int = mem::size_of::<libc::proc_bsdinfo>() as libc::c_int;

        let pid = libc::c_int::try_from(pid).map_err(|_| Errno::SRCH)?;
        // SAFETY: all fields are integers, for which zeros are valid values.
        let mut info: libc::proc_bsdinfo = unsafe { mem::zeroed() };
        // SAFETY: the call writes at most `SIZE` bytes to `info`, which is borrowed by nothing else.
        let written = unsafe {
            libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 0, (&raw mut info).cast(), SIZE)
        };
        if written <= 0 {
            return Err(Errno::from_raw_os_error(last_errno()));
        }
        if written != SIZE || info.pbi_flags & FLAG_IN_EXIT != 0 || info.pbi_status == libc::SZOMB {
            return Err(Errno::SRCH);
        }
        Ok(Self {
            start: microseconds(info.pbi_start_tvsec, info.pbi_start_tvusec),
            is_suspended: info.pbi_status == libc::SSTOP,
            has_executed: info.pbi_flags & FLAG_EXECUTED != 0,
            group: info.pbi_pgid,
        })
    }

    /// The first call refuses the processes of other users. This one shows them.
    fn of_any_user(pid: u32) -> Result<Self, Errno> {
        let pid = libc::c_int::try_from(pid).map_err(|_| Errno::SRCH)?;
        let mut name = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, pid];
        let mut info = [0_u8; kinfo::SIZE];
        let length = sysctl(&mut name, &mut info)?;
        let status = u32::from(info[kinfo::STATUS]);
        let flags = u32::from_ne_bytes(kinfo::field(&info, kinfo::FLAGS));
        // No process has the pid if the kernel has written nothing.
        if length < kinfo::SIZE || status == libc::SZOMB || flags & kinfo::FLAG_EXITING != 0 {
            return Err(Errno::SRCH);
        }
        let seconds = u64::from_ne_bytes(kinfo::field(&info, kinfo::START_SECONDS));
        let fraction = u32::from_ne_bytes(kinfo::field(&info, kinfo::START_MICROSECONDS));
        Ok(Self {
            start: microseconds(seconds, fraction.into()),
            is_suspended: status == libc::SSTOP,
            has_executed: flags & FLAG_EXECUTED != 0,
            group: u32::from_ne_bytes(kinfo::field(&info, kinfo::GROUP)),
        })
    }
}

/// The size of the largest answer of [`arguments`]: the limit of arguments and environment together.
pub const ARGUMENTS_ROOM: usize = 1 << 20;

/// Returns the arguments and the environment of the process that has this pid now. Returns `None` if it has exited, if
/// the system hides them from this user, or if `room` is too small.
pub fn arguments(pid: u32, room: &mut [u8]) -> Option<Arguments<'_>> {
    let pid = libc::c_int::try_from(pid).ok()?;
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid];
    let length = sysctl(&mut name, room).ok()?;
    Arguments::parse(room.get(..length)?)
}

/// Reads a value of the kernel, and returns the number of bytes.
fn sysctl(name: &mut [libc::c_int], value: &mut [u8]) -> Result<usize, Errno> {
    let mut length = value.len();
    // SAFETY: the call reads the elements of `name`, writes at most `length` bytes to `value`, and writes the number of
    // bytes to `length`. Nothing else borrows them. It sets no new value.
    let result = unsafe {
        libc::sysctl(
            name.as_mut_ptr(),
            name.len() as libc::c_uint,
            value.as_mut_ptr().cast(),
            &raw mut length,
            core::ptr::null_mut(),
            0,
        )
    };
    match result {
        -1 => Err(Errno::from_raw_os_error(last_errno())),
        _ => Ok(length),
    }
}

fn microseconds(seconds: u64, fraction: u64) -> u64 {
    seconds.saturating_mul(1_000_000).saturating_add(fraction)
}

/// `PROC_FLAG_INEXIT` of `sys/proc_info.h`.
const FLAG_IN_EXIT: u32 = 4;
/// `PROC_FLAG_EXEC` of `sys/proc_info.h`, and `P_EXEC` of `sys/proc.h`.
const FLAG_EXECUTED: u32 = 0x4000;

/// The layout of `struct kinfo_proc` of `sys/sysctl.h`, which the libc crate does not declare.
mod kinfo {
    pub(super) const SIZE: usize = 648;
    pub(super) const START_SECONDS: usize = 0;
    pub(super) const START_MICROSECONDS: usize = 8;
    pub(super) const FLAGS: usize = 32;
    pub(super) const STATUS: usize = 36;
    pub(super) const GROUP: usize = 564;
    /// `P_WEXIT` of `sys/proc.h`.
    pub(super) const FLAG_EXITING: u32 = 0x2000;

    /// Returns the bytes of a field.
    pub(super) fn field<const N: usize>(info: &[u8; SIZE], offset: usize) -> [u8; N] {
        let mut field = [0; N];
        field
            .iter_mut()
            .zip(&info[offset..])
            .for_each(|(to, from)| *to = *from);
        field
    }
}

// The numbers in Apple's headers: see `scripts/macos/abi.c`.
const _: () = {
    assert!(mem::size_of::<libc::proc_bsdinfo>() == 136);
    assert!(mem::offset_of!(libc::proc_bsdinfo, pbi_start_tvsec) == 120);
    assert!(mem::offset_of!(libc::proc_bsdinfo, pbi_start_tvusec) == 128);
    assert!(mem::offset_of!(libc::proc_bsdinfo, pbi_status) == 4);
    assert!(mem::offset_of!(libc::proc_bsdinfo, pbi_pgid) == 100);
    assert!(mem::size_of::<libc::proc_fdinfo>() == 8);
    assert!(libc::PROC_PIDTBSDINFO == 3 && libc::PROC_PIDLISTFDS == 1);
    assert!(libc::SSTOP == 4 && libc::SZOMB == 5);
    assert!(libc::CTL_KERN == 1 && libc::KERN_PROC == 14 && libc::KERN_PROC_PID == 1);
    assert!(libc::KERN_PROCARGS2 == 49);
};
