//! Before the fork: everything that the supervisor needs, and the fork.

#![expect(unsafe_code, reason = "fork, and where this thread has its data")]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;
use std::time::{Duration, Instant};

use super::arena::Arena;
use super::maps::dispensable;
use super::receive::not_registered;
use crate::command::Prepared;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::kernel::NativeSet;
use crate::key::ServiceKey;
use crate::process::SUPERVISOR_TITLE;
use crate::record;
use procref_supervisor::calls::block_signals;
use procref_supervisor::channel::Message;
use procref_supervisor::forked::entry::first_child;
use procref_supervisor::prepared::{Range, ServiceSpec, SupervisorSpec};
use procref_supervisor::spec::{LaunchSpec, StopSpec};

mod attendant;
mod prepare;

pub(crate) use attendant::Attendant;

/// How long a supervisor may take to be in place.
const IN_PLACE: Duration = Duration::from_secs(30);

/// Room for mappings that come into being between two looks.
const SPARE_RANGES: usize = 64;

/// How far a thread's own data may reach beyond the two addresses of it that are known.
const THREAD_DATA_MARGIN: usize = 128 << 10;

/// A service that a supervisor launches, and the descriptors that the two use for it.
pub(crate) struct ServiceLaunch<'a> {
    pub(crate) spec: LaunchSpec,
    pub(crate) program: &'a Prepared,
    /// The end of the gate to read from.
    pub(crate) gate: BorrowedFd<'a>,
    /// The end to write to.
    pub(crate) exec_status: BorrowedFd<'a>,
    /// The end to read from, and the starter's.
    pub(crate) confirm: [BorrowedFd<'a>; 2],
    /// The starter's pidfd.
    pub(crate) starter: Option<BorrowedFd<'a>>,
}

/// Starts a supervisor for a service, and returns when it is in place.
///
/// Blocks: a fork takes a millisecond, and more where the caller's memory is large.
pub(crate) fn start(set: NativeSet, key: &ServiceKey, stop: StopSpec) -> Result<()> {
    let (reader, writer) = pipe().map_err(failed(key, "make a pipe"))?;
    let attendant = fork_supervisor(set, key, stop, &writer, None)?;
    drop(writer);
    match attendant.receive(&reader, Instant::now().checked_add(IN_PLACE)) {
        Ok(Message::Registered(_)) => Ok(()),
        Ok(message) => Err(failed(key, "wait for it to be in place")(not_registered(
            message,
        ))),
        Err(error) => Err(failed(key, "wait for it to be in place")(error)),
    }
}

pub(crate) fn failed(key: &ServiceKey, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    let service = key.name().to_owned();
    move |source| Error::Supervisor {
        service,
        operation,
        source,
    }
}

pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Makes everything that the child needs, and forks it.
pub(crate) fn fork_supervisor(
    set: NativeSet,
    key: &ServiceKey,
    stop: StopSpec,
    ready: &OwnedFd,
    launch: Option<&ServiceLaunch>,
) -> Result<Attendant> {
    let title = c_string(title_of(key.name()).as_bytes());
    let dir = c_string(key.namespace.dir().as_os_str().as_bytes());
    let files = record::files(key).map(|path| c_string(path.as_os_str().as_bytes()));
    let maps = || read_text("/proc/self/maps").map_err(failed(key, "read /proc/self/maps"));
    let arguments = arguments();

    let ranges_size = (maps()?.lines().count() + SPARE_RANGES) * size_of::<Range>();
    let texts = files.iter().chain([&title, &dir]);
    let texts_size: usize = texts.map(|text| text.as_bytes_with_nul().len()).sum();
    let program_size = launch.map_or(0, |launch| {
        prepare::program_size(launch.program) + prepare::log_size(&launch.program.supervised_log)
    });
    let size = size_of::<SupervisorSpec>() + ranges_size + texts_size + program_size;
    let mut arena = Arena::new(size).map_err(failed(key, "map memory"))?;
    let keep = [
        arena.range(),
        thread_data(),
        shadow_stack(),
        Range::around(arguments.start, arguments.length(), 0),
    ];
    // Read again now that the arena is there: other threads map and unmap memory all the time, and the
    // arena may lie where something else lay a moment ago. What they do from here on can only take
    // memory from the list that the child does not need, and put some there that it does not need.
    let mut ranges = dispensable(&maps()?, &keep);
    ranges.truncate(ranges_size / size_of::<Range>());
    let service = launch.map(|launch| ServiceSpec {
        launch: launch.spec,
        program: prepare::program(&mut arena, launch),
        port: launch.program.port,
        log: prepare::log(&mut arena, &launch.program.supervised_log),
        log_file: launch.program.log.file.as_raw_fd(),
        confirm: launch.confirm.map(|fd| fd.as_raw_fd()),
        starter: launch.starter.map_or(-1, |fd| fd.as_raw_fd()),
    });
    let plan = SupervisorSpec {
        set,
        stop,
        starter: rustix::process::getpid().as_raw_nonzero().get(),
        ready: ready.as_raw_fd(),
        arguments,
        title: arena.text(&title),
        files: files.each_ref().map(|path| arena.text(path)),
        dir: arena.text(&dir),
        dir_identity: key.namespace.identity(),
        dispensable: arena.put(&ranges),
        dispensable_count: ranges.len(),
        service,
    };
    let plan = arena.put(&[plan]);
    let attendant = fork(&arena, plan).map_err(failed(key, "fork"))?;
    crash::point(Point::SupervisorForked);
    Ok(attendant)
}

/// What `ps` shows: `procref: NAME`, on one line.
fn title_of(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("{SUPERVISOR_TITLE}{name}")
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

/// The calling thread's own data that the libc's functions use, in the child as well: `errno`, the stack protector's
/// value, the thread's descriptor.
///
/// The data of programs and libraries (`#[thread_local]`, `__thread`) lies between `errno` and the descriptor, and may be
/// of any size. So everything between the two is kept.
fn thread_data() -> Range {
    // SAFETY: no pointers are passed; the result points into the calling thread's data.
    let errno = unsafe { libc::__errno_location() } as usize;
    // SAFETY: no pointers are passed. In glibc and musl the result is the address of the thread's descriptor, next to
    // which the thread pointer points.
    let descriptor = unsafe { libc::pthread_self() } as usize;
    let start = errno.min(descriptor);
    Range::around(start, errno.max(descriptor) - start, THREAD_DATA_MARGIN)
}

/// The part of this thread's shadow stack that returns read and calls write; empty if there is none. The child runs on a
/// copy of it. Older kernels do not name it in `/proc/self/maps`.
#[cfg(target_arch = "x86_64")]
fn shadow_stack() -> Range {
    let pointer: usize;
    // SAFETY: RDSSPQ, as bytes because assemblers do not know it everywhere, writes RAX, or does nothing if there is no
    // shadow stack.
    unsafe {
        std::arch::asm!(
            ".byte 0xf3, 0x48, 0x0f, 0x1e, 0xc8",
            inout("rax") 0_usize => pointer,
            options(nomem, nostack, preserves_flags)
        );
    }
    match pointer {
        0 => Range { start: 0, end: 0 },
        _ => Range::around(pointer, 0, THREAD_DATA_MARGIN),
    }
}

/// Other processors' shadow stacks have a name in `/proc/self/maps`.
#[cfg(not(target_arch = "x86_64"))]
fn shadow_stack() -> Range {
    Range { start: 0, end: 0 }
}

/// Forks twice, so that the supervisor is nobody's child here once its [`Attendant`] has ended.
fn fork(arena: &Arena, plan: *const SupervisorSpec) -> io::Result<Attendant> {
    // No exit signal: the child in between must not reach a SIGCHLD handler of the program's, nor be
    // reaped by a `wait` for any child of its, nor by the kernel where the program ignores SIGCHLD.
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
    Ok(Attendant::new(child))
}
