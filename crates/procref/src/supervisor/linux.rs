//! The fork, and what the child does.

#![expect(unsafe_code, reason = "fork, and giving back the parent's memory")]

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read as _};
use std::iter;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;
use std::{ptr, slice};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::maps::{PAGE, Range, dispensable};
use super::{Hands, watch};
use crate::error::{Error, Result};
use crate::kernel::Instance;
use crate::kernel::bare::Set;
use crate::name::ServiceKey;
use crate::process::{BareProcess, Identity, KILL_TIMEOUT};
use crate::record;

/// How long a supervisor may take to be in place.
const IN_PLACE: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

const STACK: usize = 64 << 10;

/// Room for mappings that come into being between two looks.
const SPARE_RANGES: usize = 64;

/// Room for aligning what is put into the arena.
const ALIGNMENTS: usize = 256;

/// How far from `errno` the rest of a thread's own data may lie, which the libc's functions use.
const THREAD_DATA: usize = 128 << 10;

/// Arguments of system calls, as wide as registers.
const NONE: libc::c_long = 0;
const ALL: libc::c_long = libc::c_int::MAX as libc::c_long;

/// What the child works with. Everything it points to lives in memory that the child keeps: the
/// parent's heap is gone by then.
#[derive(Clone, Copy)]
#[repr(C)]
struct Plan {
    set: Set,
    grace: Duration,
    /// Where the child tells that it is in place.
    ready: libc::c_int,
    /// The memory of the command line, which `ps` shows.
    arguments: Range,
    /// What `ps` is to show.
    title: Text,
    record: Text,
    draft: Text,
    /// The directory of the record, as it was: another one in its place is not ours to clean.
    dir: Text,
    dir_identity: (u64, u64),
    dispensable: *const Range,
    dispensable_count: usize,
}

/// A NUL-terminated text in the arena.
#[derive(Clone, Copy)]
#[repr(C)]
struct Text(*const libc::c_char);

pub(super) fn start(set: Set, key: &ServiceKey, grace: Duration) -> Result<()> {
    let failed = |operation| {
        move |source| Error::Supervisor {
            service: key.name().to_owned(),
            operation,
            source,
        }
    };
    let title = title_of(key.name());
    let (record, draft) = record::paths(key);
    let texts = [
        c_string(title.as_bytes()),
        c_string(record.as_os_str().as_bytes()),
        c_string(draft.as_os_str().as_bytes()),
        c_string(key.namespace.dir().as_os_str().as_bytes()),
    ];
    let maps = || read_text("/proc/self/maps").map_err(failed("read /proc/self/maps"));
    let arguments = arguments();
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| failed("make a pipe")(error.into()))?;

    let ranges_size = (maps()?.lines().count() + SPARE_RANGES) * size_of::<Range>();
    let texts_size: usize = texts
        .iter()
        .map(|text| text.as_bytes_with_nul().len())
        .sum();
    let size = STACK + size_of::<Plan>() + ranges_size + texts_size + ALIGNMENTS;
    let mut arena = Arena::new(size).map_err(failed("map memory"))?;
    let keep = [
        arena.range(),
        Range::around(errno_address(), 0, THREAD_DATA),
        Range::around(arguments.start, arguments.length(), 0),
    ];
    // Read again now that the arena is there: other threads map and unmap memory all the time, and the
    // arena may lie where something else lay a moment ago. What they do from here on can only take
    // memory from the list that the child does not need, and put some there that it does not need.
    let mut ranges = dispensable(&maps()?, &keep);
    ranges.truncate(ranges_size / size_of::<Range>());
    let plan = Plan {
        set,
        grace,
        ready: writer.as_raw_fd(),
        arguments,
        title: arena.text(&texts[0]),
        record: arena.text(&texts[1]),
        draft: arena.text(&texts[2]),
        dir: arena.text(&texts[3]),
        dir_identity: key.namespace.identity(),
        dispensable: arena.put(&ranges),
        dispensable_count: ranges.len(),
    };
    let plan = arena.put(&[plan]);
    fork(&arena, plan).map_err(failed("fork"))?;
    drop(writer);
    wait_in_place(reader).map_err(failed("wait for it to be in place"))
}

fn wait_in_place(reader: OwnedFd) -> io::Result<()> {
    let mut fds = [PollFd::new(&reader, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&IN_PLACE)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Nothing to read: it ended before it was in place.
    fs::File::from(reader).read_exact(&mut [0])
}

/// What `ps` shows: `procref: NAME`, on one line.
fn title_of(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("procref: {name}")
}

/// Names of files and of the process need not be UTF-8, and are of no interest here.
fn read_text(path: &str) -> io::Result<String> {
    let bytes = fs::read(path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn c_string(bytes: &[u8]) -> CString {
    // Neither names nor paths have a NUL.
    CString::new(bytes).unwrap_or_default()
}

/// Where this process's command line is, as the kernel tells; empty if it does not.
fn arguments() -> Range {
    let range = || {
        let stat = read_text("/proc/self/stat").ok()?;
        // Fields 48 and 49; the first after the last `)` is field 3.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(45);
        Some(Range {
            start: fields.next()?.parse().ok()?,
            end: fields.next()?.parse().ok()?,
        })
    };
    range().unwrap_or(Range { start: 0, end: 0 })
}

/// In the memory of the calling thread, which the libc's functions use in the child, too.
fn errno_address() -> usize {
    // SAFETY: it takes nothing and returns an address that is valid as long as the thread is.
    let address = unsafe { libc::__errno_location() };
    address as usize
}

/// One mapping with the child's stack and everything the child reads. The parent's copy goes when
/// the child runs.
struct Arena {
    base: *mut libc::c_void,
    size: usize,
    /// Where the next thing goes. The stack is the first part, and grows down.
    next: usize,
}

impl Arena {
    fn new(size: usize) -> io::Result<Self> {
        // To the last page: the rest of one cannot be given back for itself.
        let size = size.next_multiple_of(PAGE);
        // SAFETY: no address is asked for, so no existing mapping is replaced; the new one is
        // anonymous and private.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        Ok(Self {
            base,
            size,
            next: STACK,
        })
    }

    fn range(&self) -> Range {
        let start = self.base as usize;
        Range {
            start,
            end: start + self.size,
        }
    }

    fn stack_top(&self) -> *mut libc::c_void {
        // SAFETY: the mapping is larger than the stack.
        unsafe { self.base.byte_add(STACK) }
    }

    fn put<T: Copy>(&mut self, items: &[T]) -> *const T {
        let at = self.next.next_multiple_of(align_of::<T>());
        let end = at + size_of_val(items);
        assert!(end <= self.size, "the arena is made for what is put in");
        self.next = end;
        // SAFETY: `at` is within the mapping, by the assertion.
        let place = unsafe { self.base.byte_add(at) }.cast::<T>();
        // SAFETY: `place` is aligned and has room for the items, by the assertion; nothing else is
        // there, because `next` only grows; the items are outside of it.
        unsafe { place.copy_from_nonoverlapping(items.as_ptr(), items.len()) };
        place
    }

    fn text(&mut self, text: &CString) -> Text {
        Text(self.put(text.as_bytes_with_nul()).cast())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`; the child has a copy of its own, and in this
        // process nothing refers to it any more.
        let _ = unsafe { munmap(self.base, self.size) };
    }
}

/// Forks twice, so that the supervisor is nobody's child here.
fn fork(arena: &Arena, plan: *const Plan) -> io::Result<()> {
    // No exit signal: the child in between must not reach a SIGCHLD handler of the program's, nor be
    // reaped by a `wait` for any child of its.
    let flags = 0;
    let mask = block_signals();
    // SAFETY: without CLONE_VM the child has a copy of this process's memory; its stack is the arena's,
    // which ends at `stack_top` and is used by nothing else. `first_child` makes only system calls and
    // never returns.
    let child = unsafe {
        libc::clone(
            first_child,
            arena.stack_top(),
            flags,
            plan.cast_mut().cast(),
        )
    };
    let error = io::Error::last_os_error();
    // SAFETY: `mask` is what the thread's mask was.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, ptr::null_mut()) };
    if child == -1 {
        return Err(error);
    }
    loop {
        // SAFETY: no status is asked for; `__WALL` finds a child that sends no signal.
        let reaped = unsafe { libc::waitpid(child, ptr::null_mut(), libc::__WALL) };
        if reaped != -1 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            // Somebody who waits for all children of any kind was faster.
            _ if error.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
            _ => return Err(error),
        }
    }
}

/// Leaves the session, forks the supervisor, and ends.
extern "C" fn first_child(plan: *mut libc::c_void) -> libc::c_int {
    let _ = rustix::process::setsid();
    // SAFETY: a plain fork, as in `fork(2)`, that runs none of the libc's handlers; the child goes on
    // on its copy of this stack.
    let child = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(libc::SIGCHLD),
            NONE,
            NONE,
            NONE,
            NONE,
        )
    };
    if child == 0 {
        // SAFETY: `plan` points to a `Plan` in the arena, of which this process has a copy.
        supervise(unsafe { &*plan.cast::<Plan>() });
    }
    exit()
}

fn exit() -> ! {
    // SAFETY: `_exit` runs nothing of this process's.
    unsafe { libc::_exit(0) }
}

fn supervise(plan: &Plan) -> ! {
    if plan.set.supervise().is_err() {
        exit();
    }
    let _ = rustix::process::chdir(c"/");
    name_process(plan);
    drop_memory(plan);
    // SAFETY: the descriptor is the pipe's, inherited from the parent, and the buffer one byte.
    let told = unsafe { libc::write(plan.ready, c"".as_ptr().cast(), 1) };
    close_all();
    if told == 1 {
        watch(plan.set, plan);
    }
    exit()
}

/// Blocks every signal for this thread, and tells what was blocked before. Done before the fork, for
/// the child: nothing but SIGKILL may ever reach it, because the handlers are its starter's, whose data
/// may be gone. Blocked by the child itself, a Ctrl-C right after the fork would still get through.
fn block_signals() -> libc::sigset_t {
    // SAFETY: all zeros is a value of `sigset_t`.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    let mut before = all;
    // SAFETY: `all` is a `sigset_t`.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both are sets of signals, and the first is initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    before
}

fn name_process(plan: &Plan) {
    // SAFETY: a NUL-terminated text in the arena; the kernel reads up to 16 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, plan.title.0) };
    let (start, length) = (plan.arguments.start, plan.arguments.length());
    if start == 0 || length == 0 {
        return;
    }
    // SAFETY: the kernel told that this process's command line is here, in writable memory at the bottom
    // of the first thread's stack, which this process keeps. No reference to it exists, and nobody else
    // runs in this process.
    let place = unsafe { slice::from_raw_parts_mut(start as *mut u8, length) };
    let title = plan.title.as_c_str().to_bytes();
    // What is longer is cut off, and one NUL stays: without it the kernel would show what follows, too.
    let room = place.len() - 1;
    let title = title.get(..room).unwrap_or(title);
    let shown = place
        .iter_mut()
        .zip(title.iter().copied().chain(iter::repeat(0)));
    shown.for_each(|(place, byte)| *place = byte);
}

/// The parent may rewrite all its memory: whatever this process still has of it would then be kept
/// for this process alone.
fn drop_memory(plan: &Plan) {
    // SAFETY: the array of that many ranges is in the arena, and nobody changes it.
    let ranges = unsafe { slice::from_raw_parts(plan.dispensable, plan.dispensable_count) };
    for range in ranges {
        // SAFETY: the range was private memory of the parent without a file behind it, that holds
        // neither this stack and plan (the arena), nor the libc's data of this thread. The code that
        // runs from here on uses nothing else: no heap, no other thread's stack.
        let _ = unsafe { munmap(range.start as *mut libc::c_void, range.end - range.start) };
    }
}

fn close_all() {
    // SAFETY: closes descriptors of this process alone, which uses none of them from here on.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, NONE, ALL, NONE) };
    if closed == 0 {
        return;
    }
    // Before Linux 5.9.
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a `rlimit` that the call fills.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    for fd in 0..limit.rlim_cur as libc::c_int {
        // SAFETY: as for the call above.
        unsafe { libc::close(fd) };
    }
}

impl Text {
    fn as_c_str(&self) -> &CStr {
        // SAFETY: made by `Arena::text` from a `CString`, in memory that the child keeps.
        unsafe { CStr::from_ptr(self.0) }
    }
}

impl Hands for Plan {
    fn end(&self, instance: &Instance) -> bool {
        let Identity { pid, .. } = instance.identity;
        if pid == 0 {
            return true;
        }
        match BareProcess::find(instance.identity) {
            Ok(Some(process)) => process.end(self.grace, KILL_TIMEOUT),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    fn remove_record(&self) {
        let same_dir = rustix::fs::lstat(self.dir.as_c_str())
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.dir_identity);
        if same_dir {
            let _ = rustix::fs::unlink(self.record.as_c_str());
            let _ = rustix::fs::unlink(self.draft.as_c_str());
        }
    }
}
