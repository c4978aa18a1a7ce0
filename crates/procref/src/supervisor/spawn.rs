//! Prepares the data of a supervisor and forks the supervisor. This code runs before the fork, so it may
//! allocate.

#![expect(unsafe_code, reason = "fork, and the addresses of this thread's data")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;
use std::time::{Duration, Instant};

use procref_supervisor::calls::block_signals;
use procref_supervisor::channel::Message;
use procref_supervisor::forked::entry::first_child;
use procref_supervisor::prepared::{Range, ServiceSpec, SupervisorSpec};
use procref_supervisor::raw_calls::RawCalls;
use procref_supervisor::semset::signal_safe::SignalSafeSet;
use procref_supervisor::spec::{LaunchSpec, StopSpec};

use super::arena::Arena;
use super::failed;
use super::maps::dispensable;
use super::objects::needed;
use super::receive::not_registered;
use crate::command::Prepared;
use crate::crash::{self, Point};
use crate::descriptor::pipe;
use crate::error::Result;
use crate::file::read_proc;
use crate::key::ServiceKey;
use crate::process::supervisor_title;
use crate::record;

mod attendant;
mod prepare;

pub(crate) use attendant::Attendant;

/// Time for a supervisor to register.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of ranges that an arena has room for at first. A process has about ten: one between any two mappings that its
/// supervisor keeps.
const RANGES: usize = 256;

/// Size of a thread's own data before and after the two known addresses of it.
const THREAD_DATA_MARGIN: usize = 128 << 10;

/// A service that a supervisor launches, and the descriptors for it.
pub(crate) struct ServiceLaunch<'a> {
    pub(crate) spec: LaunchSpec,
    pub(crate) program: &'a Prepared,
    /// The read end of the gate.
    pub(crate) gate: BorrowedFd<'a>,
    /// The write end of the pipe that a successful `execve` closes.
    pub(crate) exec_status: BorrowedFd<'a>,
    /// The pipe on which the starter confirms: the read end, and the starter's end.
    pub(crate) confirm: [BorrowedFd<'a>; 2],
    /// The starter's pidfd. `None` if this kernel has no pidfds.
    pub(crate) starter: Option<BorrowedFd<'a>>,
}

/// Starts a supervisor for a service. Returns when it is registered.
///
/// Blocks for about a millisecond, and longer if this process has much memory, because of the fork.
pub(crate) fn start(set: SignalSafeSet<RawCalls>, key: &ServiceKey, stop: StopSpec) -> Result<()> {
    let (reader, writer) = pipe().map_err(failed(key, "make a pipe"))?;
    let attendant = fork_supervisor(set, key, stop, &writer, None)?;
    drop(writer);
    match attendant.receive(&reader, Instant::now().checked_add(REGISTRATION_TIMEOUT)) {
        Ok(Message::Registered(_)) => Ok(()),
        Ok(message) => Err(failed(key, "wait until it is registered")(not_registered(
            message,
        ))),
        Err(error) => Err(failed(key, "wait until it is registered")(error)),
    }
}

/// Prepares the data of a supervisor and forks it.
pub(crate) fn fork_supervisor(
    set: SignalSafeSet<RawCalls>,
    key: &ServiceKey,
    stop: StopSpec,
    ready: &OwnedFd,
    launch: Option<&ServiceLaunch>,
) -> Result<Attendant> {
    let title = c_string(supervisor_title(key.name()).as_bytes());
    let dir = c_string(key.namespace.dir().as_os_str().as_bytes());
    let files = record::files(key).map(|path| c_string(path.as_os_str().as_bytes()));
    let failure_note = c_string(record::failures::path(key).as_os_str().as_bytes());
    let arguments = arguments();

    let texts = files.iter().chain([&title, &dir, &failure_note]);
    let texts_size: usize = texts.map(|text| text.as_bytes_with_nul().len()).sum();
    let program_size = launch.map_or(0, |launch| {
        prepare::program_size(launch.program) + prepare::log_size(&launch.program.supervised_log)
    });
    let size = size_of::<SupervisorSpec>() + texts_size + program_size;
    let (mut arena, ranges) = map_arena(key, size, arguments)?;
    let service = launch.map(|launch| ServiceSpec {
        launch: launch.spec,
        program: prepare::program(&mut arena, launch),
        port: launch.program.port,
        log: prepare::log(&mut arena, &launch.program.supervised_log),
        log_file: launch.program.log.file.as_raw_fd(),
        confirm: launch.confirm.map(|fd| fd.as_raw_fd()),
        starter: launch.starter.map_or(-1, |fd| fd.as_raw_fd()),
    });
    let spec = SupervisorSpec {
        set,
        stop,
        starter: rustix::process::getpid().as_raw_nonzero().get(),
        ready: ready.as_raw_fd(),
        arguments,
        title: arena.text(&title),
        files: files.each_ref().map(|path| arena.text(path)),
        failure_note: arena.text(&failure_note),
        dir: arena.text(&dir),
        dir_identity: key.namespace.identity(),
        dispensable: arena.put(&ranges),
        dispensable_count: ranges.len(),
        service,
    };
    let spec = arena.put(&[spec]);
    let attendant = fork(&arena, spec).map_err(failed(key, "fork"))?;
    crash::point(Point::SupervisorForked);
    Ok(attendant)
}

/// Maps an arena with room for `size` bytes and for the list of the memory that the child unmaps. Returns both.
fn map_arena(key: &ServiceKey, size: usize, arguments: Range) -> Result<(Arena, Vec<Range>)> {
    let needed = needed();
    let mut room = RANGES;
    loop {
        let ranges_size = room * size_of::<Range>();
        let arena = Arena::new(size + ranges_size).map_err(failed(key, "map memory"))?;
        let keep = [
            arena.range(),
            thread_data(),
            shadow_stack(),
            Range::around(arguments.start, arguments.length(), 0),
        ];
        // Read the list after the arena is mapped, because the arena may be at the address of an earlier mapping. Later
        // changes by other threads are harmless, because the child needs neither the memory that they unmap nor the
        // memory that they map.
        let maps = read_text("/proc/self/maps").map_err(failed(key, "read /proc/self/maps"))?;
        let ranges = dispensable(&maps, &keep, needed.as_ref());
        if ranges.len() <= room {
            return Ok((arena, ranges));
        }
        // Other threads may map more memory before the list is read again.
        room = ranges.len() + RANGES;
    }
}

/// Reads a file of `/proc`. It may contain names that are not UTF-8, which are not used.
fn read_text(path: &str) -> io::Result<String> {
    let bytes = read_proc(path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn c_string(bytes: &[u8]) -> CString {
    // Names and paths contain no NUL.
    CString::new(bytes).unwrap_or_default()
}

/// Returns the memory of this process's command line, or an empty range if the kernel does not show it.
fn arguments() -> Range {
    let range = || {
        let stat = read_text("/proc/self/stat").ok()?;
        // Fields 48 and 49. The first field after the last `)` is field 3.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(45);
        Some(Range {
            start: fields.next()?.parse().ok()?,
            end: fields.next()?.parse().ok()?,
        })
    };
    range().unwrap_or(Range { start: 0, end: 0 })
}

/// Returns the data of the calling thread that libc functions use, including those in the child: `errno`, the
/// stack protector's value and the thread descriptor.
///
/// The thread-local data of programs and libraries (`#[thread_local]`, `__thread`) lies between `errno` and the
/// descriptor, and may have any size. So everything between the two is kept.
fn thread_data() -> Range {
    // SAFETY: no pointers are passed, and only the address of the result is used.
    let errno = unsafe { libc::__errno_location() } as usize;
    // SAFETY: no pointers are passed. In glibc and musl the result is the address of the thread descriptor, which is at
    // the thread pointer or next to it.
    let descriptor = unsafe { libc::pthread_self() } as usize;
    let start = errno.min(descriptor);
    Range::around(start, errno.max(descriptor) - start, THREAD_DATA_MARGIN)
}

/// Returns the part of this thread's shadow stack that the child uses, or an empty range if there is none. The child
/// runs on a copy of the shadow stack. Older kernels do not name it in `/proc/self/maps`.
#[cfg(target_arch = "x86_64")]
fn shadow_stack() -> Range {
    let pointer: usize;
    // SAFETY: the bytes are the instruction RDSSPQ, which not every assembler knows. It writes RAX, which is an output,
    // or does nothing if there is no shadow stack. It accesses no memory and no flags.
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

/// On other processors, `/proc/self/maps` names the shadow stacks.
#[cfg(not(target_arch = "x86_64"))]
fn shadow_stack() -> Range {
    Range { start: 0, end: 0 }
}

/// Forks twice, so that the supervisor is not a child of this process after its [`Attendant`] has exited.
fn fork(arena: &Arena, spec: *const SupervisorSpec) -> io::Result<Attendant> {
    // Without an exit signal, the exit of the attendant does not run a SIGCHLD handler of the host program. A
    // `wait` for any child does not reap the attendant, and neither does the kernel in a program that ignores
    // SIGCHLD.
    let flags = 0;
    let mask = block_signals();
    // SAFETY: without CLONE_VM the child has a copy of this process's memory, so it cannot change the memory of this
    // process. Its stack is the first part of the arena, below `stack_top`, which nothing else uses. `spec` points to
    // an initialized `SupervisorSpec` in the arena. `first_child` is async-signal-safe and never returns.
    let child = unsafe {
        libc::clone(
            first_child,
            arena.stack_top(),
            flags,
            spec.cast_mut().cast(),
        )
    };
    let error = io::Error::last_os_error();
    // SAFETY: `mask` is the previous mask of this thread, which `block_signals` has initialized.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, ptr::null_mut()) };
    if child == -1 {
        return Err(error);
    }
    Ok(Attendant::new(child))
}
