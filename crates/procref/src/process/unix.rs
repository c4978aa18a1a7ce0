//! Linux: pidfds where there are some, `/proc/PID/stat` for start times and as the fallback.

use std::ffi::CStr;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::Identity;
use pidfd::{Pidfd, has_exited, poll_exit, to_pid};

pub(crate) mod forked;
mod pidfd;
mod view;

pub(crate) use view::view;

pub(crate) use rustix::process::Signal;

pub(super) const TERMINATE: Signal = Signal::TERM;
pub(super) const KILL: Signal = Signal::KILL;
pub(super) const CONTINUE: Signal = Signal::CONT;

/// How often a process is looked at where the kernel gives no pidfd to wait on.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A process's pidfd, opened when it is first needed: opening one costs ten times as much as asking
/// it, and who looks at a process once need not.
#[derive(Debug, Default)]
pub(super) struct Handle(OnceLock<Opened>);

#[derive(Debug)]
enum Opened {
    Pidfd(Pidfd),
    /// The process is gone: somebody else, or nobody, has its pid.
    Gone,
    /// The kernel or a sandbox refuses a pidfd: `/proc` is asked each time.
    Refused,
}

impl Handle {
    fn open(&self, identity: Identity) -> &Opened {
        self.0.get_or_init(|| match Pidfd::open(identity.pid) {
            // First the pidfd, then the start time: if that is right, the pidfd is of this process,
            // or of nobody (it died in between, and says so). The other way round, the pid could have
            // changed hands between the two.
            Ok(Some(fd)) => match Stat::read(identity.pid) {
                Ok(Some(stat)) if stat.start == identity.start => Opened::Pidfd(fd),
                Ok(_) => Opened::Gone,
                Err(_) => Opened::Refused,
            },
            Err(Errno::SRCH) => Opened::Gone,
            // Out of descriptors, say.
            Ok(None) | Err(_) => Opened::Refused,
        })
    }

    /// As [`open`](Self::open), or what `fresh` finds, if the pidfd is not known to be this process's any more.
    fn open_own<'a>(&'a self, identity: Identity, fresh: &'a Self) -> &'a Opened {
        match self.open(identity) {
            Opened::Pidfd(pidfd) if pidfd.is_own() != Some(true) => fresh.open(identity),
            opened => opened,
        }
    }
}

/// The start time of the process that has `pid` now. `None`: nobody has it, or a zombie.
pub(super) fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let stat = Stat::read(pid)?;
    if let Some(stat) = &stat {
        if stat.is_alive() {
            return Ok(Some(stat.start));
        }
    }
    // Nobody; or somebody whom this user is not shown; or a zombie; or a process whose first thread
    // has ended and whose others have not, which looks like one. The pidfd knows.
    let alive = match pidfd::open(pid) {
        Ok(Some(fd)) => !has_exited(&fd),
        Ok(None) | Err(Errno::SRCH) => false,
        Err(error) => return Err(error.into()),
    };
    match stat {
        Some(stat) => Ok(alive.then_some(stat.start)),
        None if alive => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is alive but /proc does not show it; is /proc mounted, with hidepid?",
        )),
        None => Ok(None),
    }
}

pub(super) fn is_alive(identity: Identity, handle: &Handle) -> bool {
    match handle.open(identity) {
        Opened::Pidfd(fd) => match fd.wait_exit(Duration::ZERO) {
            Ok(Some(exited)) => !exited,
            Ok(None) => is_found_alive(identity),
            // That says nothing about the process: alive until shown otherwise.
            Err(_) => true,
        },
        Opened::Gone => false,
        Opened::Refused => is_listed_alive(identity).unwrap_or(true),
    }
}

/// Whether a new look-up finds the process alive.
fn is_found_alive(identity: Identity) -> bool {
    match Handle::default().open(identity) {
        Opened::Pidfd(fd) => match fd.wait_exit(Duration::ZERO) {
            Ok(Some(exited)) => !exited,
            Ok(None) => is_listed_alive(identity).unwrap_or(true),
            Err(_) => true,
        },
        Opened::Gone => false,
        Opened::Refused => is_listed_alive(identity).unwrap_or(true),
    }
}

/// An error says nothing about the process. It is alive until shown otherwise, because the other mistake would
/// start a second one beside it, and it is not signalled.
fn is_listed_alive(identity: Identity) -> io::Result<bool> {
    let stat = Stat::read(identity.pid)?;
    Ok(stat.is_some_and(|it| it.start == identity.start && it.is_alive()))
}

pub(super) fn is_pid_alive(pid: u32) -> bool {
    match pidfd::open(pid) {
        Ok(Some(fd)) => !has_exited(&fd),
        Ok(None) => Stat::read(pid).is_ok_and(|stat| stat.is_some_and(|stat| stat.is_alive())),
        Err(Errno::SRCH | Errno::INVAL) => false,
        // Out of descriptors, say. A zombie counts as alive here: better to take a dead process
        // for a live one than to start a second one beside a live one.
        Err(_) => to_pid(pid).is_some_and(|pid| {
            matches!(
                rustix::process::test_kill_process(pid),
                Ok(()) | Err(Errno::PERM)
            )
        }),
    }
}

/// True: there always is a way to tell a process.
pub(super) fn signal(identity: Identity, handle: &Handle, signal: Signal) -> io::Result<bool> {
    let fresh = Handle::default();
    let sent = match handle.open_own(identity, &fresh) {
        Opened::Pidfd(fd) => fd.send(signal),
        Opened::Gone => Ok(()),
        // Without a pidfd a moment remains in which the process can end and its pid be given to
        // another one: kernels hand pids out in a circle, so that takes a whole round.
        Opened::Refused => match to_pid(identity.pid) {
            Some(pid) if is_listed_alive(identity)? => rustix::process::kill_process(pid, signal),
            _ => Ok(()),
        },
    };
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Whether the process is gone, at the latest after `timeout`.
pub(super) fn wait(identity: Identity, handle: &Handle, timeout: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        let fresh = Handle::default();
        match handle.open_own(identity, &fresh) {
            Opened::Gone => return Ok(true),
            Opened::Pidfd(fd) => match fd.wait_exit(left) {
                Ok(Some(true)) => return Ok(true),
                Ok(None) if !is_found_alive(identity) => return Ok(true),
                // Closed while this thread waited.
                Ok(None) => thread::sleep(LOOK_AGAIN.min(left)),
                Ok(Some(false)) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            Opened::Refused if !is_listed_alive(identity).unwrap_or(true) => return Ok(true),
            Opened::Refused => thread::sleep(LOOK_AGAIN.min(left)),
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

/// A handle as it is where there are no pidfds.
#[cfg(test)]
pub(super) fn without_pidfd() -> Handle {
    Handle(OnceLock::from(Opened::Refused))
}

/// Handles whose descriptor has become another file: one as it is on this kernel, and one as it is where all
/// pidfds have the same inode.
#[cfg(test)]
pub(super) fn with_file(identity: Identity, file: &OwnedFd) -> [Handle; 2] {
    let opened = || {
        let pidfd = Pidfd::open(identity.pid).ok().flatten();
        pidfd.expect("this kernel has pidfds")
    };
    let copy = || file.try_clone().expect("a descriptor");
    [opened(), opened().without_inode()]
        .map(|pidfd| Handle(OnceLock::from(Opened::Pidfd(pidfd.with_file(copy())))))
}

/// Whether it executes a program, and not what its parent did when it was forked. What `/proc` does not tell is
/// taken for yes.
pub(crate) fn has_executed(identity: Identity) -> bool {
    match Stat::read(identity.pid) {
        Ok(Some(stat)) => stat.start != identity.start || stat.executed,
        Ok(None) | Err(_) => true,
    }
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: u8,
    pub(super) start: u64,
    pub(super) executed: bool,
    /// The lowest 31 signals that the first thread blocks, a bit each.
    pub(super) blocked: u32,
}

/// How the names of all supervisors begin.
pub(crate) const SUPERVISOR_TITLE: &str = "procref: ";

/// All of the lowest 31 signals that can be blocked, except SIGCHLD and SIGIO, which some supervisors handle.
const ALL_BLOCKED: u32 =
    0x7fff_ffff & !(1 << 8) & !(1 << 18) & !(1 << 16) & !(1 << (libc::SIGIO - 1));

/// Of a process that was forked and has executed nothing since: `include/linux/sched.h`, told by proc_pid_stat(5).
const PF_FORKNOEXEC: u32 = 0x40;

impl Stat {
    fn read(pid: u32) -> io::Result<Option<Self>> {
        check_proc()?;
        let mut buffer = [0; 1024];
        let read =
            fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut f| f.read(&mut buffer));
        match read {
            Ok(length) => Self::parse(&buffer[..length]).map(Some).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("/proc/{pid}/stat has no start time in field 22"),
                )
            }),
            // ESRCH: it ended between open and read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `PID (COMMAND) STATE …`: the command may hold spaces and parentheses itself, so what
    /// counts is the last `)`. State is field 3, flags field 9, start time field 22, blocked signals field 32.
    pub(super) fn parse(stat: &[u8]) -> Option<Self> {
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let mut fields = stat[end + 1..].split(|&byte| byte == b' ').skip(1);
        let state = *fields.next()?.first()?;
        let mut number = |skipped| std::str::from_utf8(fields.nth(skipped)?).ok();
        let flags: u32 = number(5)?.parse().ok()?;
        let start = number(12)?.trim_end().parse().ok()?;
        let blocked = number(9).and_then(|text| text.trim_end().parse().ok());
        Some(Self {
            state,
            start,
            executed: flags & PF_FORKNOEXEC == 0,
            blocked: blocked.unwrap_or(0),
        })
    }

    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    fn is_suspended(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// Whether this process has the number in `/proc` that it calls itself by. If not, `/proc` shows the processes of
/// another pid namespace. Makes only system calls.
///
/// This is the quick look before each identity: [`view`] has looked closer when the service was built.
fn is_proc_own() -> Result<bool, Errno> {
    let mut room = [MaybeUninit::uninit(); 16];
    let (pid, _) = rustix::fs::readlinkat_raw(CWD, c"/proc/self", &mut room)?;
    let pid = std::str::from_utf8(pid)
        .ok()
        .and_then(|pid| pid.parse().ok());
    Ok(pid == Some(rustix::process::getpid().as_raw_nonzero().get()))
}

fn check_proc() -> io::Result<()> {
    if is_proc_own()? {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "/proc shows the processes of another pid namespace (mount one for this one)",
    ))
}

/// A number that changes when a process forks: equal numbers mean the very same process.
///
/// Comparing pids would cost a system call a time and could be fooled by a pid that comes round
/// again in a descendant; `pthread_atfork` misses a raw `clone`. So the kernel tells: it wipes one
/// page to zero in every child (`MADV_WIPEONFORK`, Linux 4.14), and a child that finds zero
/// there takes the next number. A child that shares the parent's memory (`vfork`) sees no change,
/// and may do nothing but `exec` anyway.
pub(crate) fn fork_epoch() -> u64 {
    static PAGE: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(1);

    let Some(page) = PAGE.get_or_init(wiped_on_fork) else {
        return std::process::id().into();
    };
    let epoch = page.load(Ordering::Relaxed);
    if epoch != 0 {
        return epoch;
    }
    // NEXT is copied by fork with everything below it already taken by the ancestors.
    let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
    match page.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => fresh,
        Err(another_thread) => another_thread,
    }
}

#[expect(unsafe_code, reason = "a page that the kernel wipes on fork")]
fn wiped_on_fork() -> Option<&'static AtomicU64> {
    const LENGTH: usize = size_of::<AtomicU64>();
    // SAFETY: no address is asked for, so no existing mapping is replaced; the new one is
    // anonymous and private.
    let page = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            LENGTH,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }
    .ok()?;
    // SAFETY: the range is the mapping made above, which nothing else refers to yet; the advice
    // changes only what children find in it. On failure the page stays mapped, unused.
    unsafe { rustix::mm::madvise(page, LENGTH, Advice::LinuxWipeOnFork) }.ok()?;
    // SAFETY: the mapping is page-aligned, holds at least 8 zeroed bytes, is never unmapped, and
    // is only ever accessed through this atomic.
    Some(unsafe { AtomicU64::from_ptr(page.cast()) })
}

/// Dies as by the OOM killer. Makes only system calls.
#[cfg(feature = "crash-points")]
pub(crate) fn kill_myself() -> ! {
    loop {
        let _ = rustix::process::kill_process(rustix::process::getpid(), KILL);
    }
}

/// Until somebody continues it. Makes only system calls.
///
/// The signal goes to this thread, which takes it before it does anything else. One to the process may be
/// taken by another thread, and this one would go on for a while.
#[cfg(feature = "crash-points")]
#[expect(unsafe_code, reason = "a signal to one thread")]
pub(crate) fn suspend_myself() {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    let [process, thread, signal] = [process, thread, libc::SIGSTOP].map(libc::c_long::from);
    // SAFETY: takes three numbers. The libc's own call for it would use what it remembers of the thread,
    // which in a supervisor is its starter's.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
}

/// A process for somebody who may do nothing but bare system calls: neither allocate nor lock.
pub(crate) struct SignalSafeProcess(OwnedFd);

impl SignalSafeProcess {
    /// `Ok(None)`: it is gone.
    ///
    /// # Errors
    ///
    /// This process cannot tell: there are no pidfds, or `/proc` cannot be read.
    pub(crate) fn find(identity: Identity) -> Result<Option<Self>, Errno> {
        let fd = match pidfd::open(identity.pid) {
            Ok(Some(fd)) => fd,
            Ok(None) => return Err(Errno::NOSYS),
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        let start = match Self::start_of(identity.pid) {
            Ok(start) => start,
            Err(_) if has_exited(&fd) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((start == identity.start && !has_exited(&fd)).then_some(Self(fd)))
    }

    pub(crate) fn into_pidfd(self) -> OwnedFd {
        self.0
    }

    /// When the process that has this pid now was started.
    pub(crate) fn start_of(pid: u32) -> Result<u64, Errno> {
        let mut buffer = [0; 1024];
        let stat = Stat::parse(read_stat(pid, &mut buffer)?);
        Ok(stat.ok_or(Errno::INVAL)?.start)
    }

    /// Returns `true` if the process that has this pid now is a supervisor.
    ///
    /// The name alone does not tell: a process gives itself any name. A supervisor has also executed nothing
    /// since its fork, and blocks every signal, both from its first instruction to its last. A program that was
    /// executed, whatever it calls itself, is no supervisor. A process that wants to look like one can.
    pub(crate) fn is_supervisor(pid: u32) -> bool {
        let mut buffer = [0; 1024];
        let Ok(text) = read_stat(pid, &mut buffer) else {
            return false;
        };
        let name = text.splitn(2, |byte| *byte == b'(').nth(1);
        let named = name.is_some_and(|name| name.starts_with(SUPERVISOR_TITLE.as_bytes()));
        let blocks = |stat: Stat| !stat.executed && stat.blocked & ALL_BLOCKED == ALL_BLOCKED;
        named && Stat::parse(text).is_some_and(blocks)
    }

    /// Asks it to end by `signal`, kills it after `grace`, and waits until it is gone. False if it is not.
    pub(crate) fn end(&self, signal: Signal, grace: Duration, kill: Duration) -> bool {
        let _ = rustix::process::pidfd_send_signal(&self.0, signal);
        let _ = rustix::process::pidfd_send_signal(&self.0, CONTINUE);
        if poll_exit(&self.0, grace) == Ok(true) {
            return true;
        }
        let _ = rustix::process::pidfd_send_signal(&self.0, KILL);
        poll_exit(&self.0, kill) == Ok(true)
    }
}

/// Returns `true` if the process that has this pid now is suspended: by a signal, or by a debugger.
pub(crate) fn is_suspended(pid: u32) -> bool {
    matches!(Stat::read(pid), Ok(Some(stat)) if stat.is_suspended())
}

/// The beginning of `/proc/PID/stat`.
fn read_stat(pid: u32, buffer: &mut [u8]) -> Result<&[u8], Errno> {
    if !is_proc_own()? {
        return Err(Errno::NXIO);
    }
    let mut path = [0; 32];
    let path = stat_path(pid, &mut path);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let stat = rustix::fs::open(path, flags, Mode::empty())?;
    let length = rustix::io::read(&stat, &mut *buffer)?;
    buffer.get(..length).ok_or(Errno::INVAL)
}

/// `/proc/PID/stat`, made without allocating.
fn stat_path(pid: u32, room: &mut [u8; 32]) -> &CStr {
    let mut cursor = io::Cursor::new(&mut room[..31]);
    // A pid has at most ten digits, so it fits.
    let _ = write!(cursor, "/proc/{pid}/stat");
    CStr::from_bytes_until_nul(room).unwrap_or(c"")
}
