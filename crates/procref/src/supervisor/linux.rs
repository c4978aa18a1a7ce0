//! The fork, and what the child does.

#![expect(unsafe_code, reason = "fork, and giving back the parent's memory")]

use std::ffi::CString;
use std::fs;
use std::future::Future;
use std::io;
use std::iter;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{ptr, slice};

use rustix::mm::munmap;

use super::maps::{Range, dispensable};
use super::{Hands, Order, watch};
use crate::command::StopPolicy;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::kernel::Instance;
use crate::kernel::signal_safe::{BareCalls, Limit, Set};
use crate::name::ServiceKey;
use crate::process::forked::{block_signals, close_from, fork_here};
use crate::process::{BareProcess, Identity, KILL_TIMEOUT, SUPERVISOR_TITLE, Signal};
use crate::record;
use crate::runtime::poll_once;

mod arena;
mod attendant;
mod child;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod launched;
mod log;
mod parent;

use arena::{Arena, Text};
use attendant::Attendant;
use child::Program;
pub(crate) use launched::{Launched, Refusal, Stage};
use launched::{Message, Pipes};
use log::LogPlan;

/// How long a supervisor may take to be in place.
const IN_PLACE: Duration = Duration::from_secs(30);

/// Room for mappings that come into being between two looks.
const SPARE_RANGES: usize = 64;

/// How far a thread's own data may reach beyond the two addresses of it that are known.
const THREAD_DATA_MARGIN: usize = 128 << 10;

/// What the child works with. Everything it points to lives in memory that the child keeps: the
/// parent's heap is gone by then.
#[derive(Clone, Copy)]
struct Plan {
    set: Set,
    stop: StopPolicy,
    /// The process that forks.
    starter: libc::pid_t,
    /// Where the child tells that it is in place.
    ready: RawFd,
    /// The memory of the command line, which `ps` shows.
    arguments: Range,
    /// What `ps` is to show.
    title: Text,
    /// What is removed with the instance.
    files: [Text; record::FILES],
    /// The directory of these, as it was: another one in its place is not ours to clean.
    dir: Text,
    dir_identity: (u64, u64),
    dispensable: *const Range,
    dispensable_count: usize,
    charge: Option<Charge>,
}

/// The service that the child is to be the parent of.
#[derive(Clone, Copy)]
struct Charge {
    program: Program,
    /// What is known of its log, and this process's copy of the descriptor.
    log: LogPlan,
    log_file: RawFd,
    instance: Instance,
    generation: u16,
    patience: Duration,
    /// Where the starter answers: the end to read from, and this process's copy of the starter's.
    word: [RawFd; 2],
    /// The starter's pidfd, or below 0.
    starter: RawFd,
}

pub(super) fn start(set: Set, key: &ServiceKey, stop: StopPolicy) -> Result<()> {
    let (reader, writer) = pipe().map_err(failed(key, "make a pipe"))?;
    let attendant = raise(set, key, stop, &writer, None)?;
    drop(writer);
    match attendant.receive(&reader, Instant::now().checked_add(IN_PLACE)) {
        Ok(Message::Counted(_)) => Ok(()),
        Ok(message) => Err(failed(key, "wait for it to be in place")(
            message.ended_early(),
        )),
        Err(error) => Err(failed(key, "wait for it to be in place")(error)),
    }
}

pub(super) fn launch(
    set: Set,
    key: &ServiceKey,
    stop: StopPolicy,
    order: &Order,
) -> Result<Launched> {
    let pipes = Pipes::new().map_err(failed(key, "make a pipe"))?;
    let attendant = raise(set, key, stop, &pipes.report.1, Some((order, &pipes)))?;
    pipes.wait_in_place(key, &attendant, order.patience)
}

fn failed(key: &ServiceKey, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    let service = key.name().to_owned();
    move |source| Error::Supervisor {
        service,
        operation,
        source,
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Makes everything that the child needs, and forks it.
fn raise(
    set: Set,
    key: &ServiceKey,
    stop: StopPolicy,
    ready: &OwnedFd,
    order: Option<(&Order, &Pipes)>,
) -> Result<Attendant> {
    let title = c_string(title_of(key.name()).as_bytes());
    let dir = c_string(key.namespace.dir().as_os_str().as_bytes());
    let files = record::files(key).map(|path| c_string(path.as_os_str().as_bytes()));
    let maps = || read_text("/proc/self/maps").map_err(failed(key, "read /proc/self/maps"));
    let arguments = arguments();

    let ranges_size = (maps()?.lines().count() + SPARE_RANGES) * size_of::<Range>();
    let texts = files.iter().chain([&title, &dir]);
    let texts_size: usize = texts.map(|text| text.as_bytes_with_nul().len()).sum();
    let program_size = order.map_or(0, |(order, _)| {
        Program::size(order.program) + LogPlan::size(&order.program.supervised_log)
    });
    let size = size_of::<Plan>() + ranges_size + texts_size + program_size;
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
    let charge = order.map(|(order, pipes)| Charge {
        program: Program::new(&mut arena, order.program, pipes),
        log: LogPlan::new(&mut arena, &order.program.supervised_log),
        log_file: order.program.log.file.as_raw_fd(),
        instance: order.instance,
        generation: order.generation,
        patience: order.patience,
        word: [pipes.word.0.as_raw_fd(), pipes.word.1.as_raw_fd()],
        starter: pipes.starter.as_ref().map_or(-1, |fd| fd.as_raw_fd()),
    });
    let plan = Plan {
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
        charge,
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
fn fork(arena: &Arena, plan: *const Plan) -> io::Result<Attendant> {
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

/// Leaves the session, forks the supervisor, and attends it.
extern "C" fn first_child(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `plan` points to a `Plan` in the arena, of which this process has a copy.
    let plan = unsafe { &*plan.cast::<Plan>() };
    let _ = rustix::process::setsid();
    // Here, so that the supervisor has its name from its first instruction: a process that waits for all its
    // children tells supervisors by it, and would wait for a supervisor that it has taken for another process.
    name_process(plan);
    crash::point(Point::SupervisorsParentBegun);
    match fork_here() {
        0 => supervise(plan),
        child => attendant::attend(plan, child),
    }
}

fn exit() -> ! {
    // SAFETY: `_exit` runs nothing of this process's.
    unsafe { libc::_exit(0) }
}

fn supervise(plan: &Plan) -> ! {
    let _ = rustix::process::chdir(c"/");
    write_title(plan);
    crash::point(Point::SupervisorBegun);
    if let Some(charge) = &plan.charge {
        parent::supervise(plan, charge);
        exit();
    }
    if at_once(plan.set.supervise()).is_err() {
        exit();
    }
    crash::point(Point::SupervisorInPlace);
    drop_memory(plan);
    let told = write(plan.ready, &Message::Counted(own_identity()).encode());
    crash::point(Point::SupervisorReported);
    close_from(0);
    if told {
        at_once(watch(plan.set, plan));
    }
    exit()
}

/// Runs what is written as `async` for the model's sake. Here each of its steps blocks and is never pending,
/// so one poll is all; the future is on this stack.
fn at_once<F: Future>(future: F) -> F::Output {
    match poll_once(future) {
        Poll::Ready(output) => output,
        Poll::Pending => exit(),
    }
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// This process. Without `/proc` its start time is 0.
fn own_identity() -> Identity {
    let pid = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    let start = BareProcess::start_of(pid).unwrap_or(0);
    Identity { pid, start }
}

/// Whether all of it was written.
fn write(fd: RawFd, bytes: &[u8]) -> bool {
    // SAFETY: the buffer is valid for its length, and nothing but a number is the descriptor's.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written) == Ok(bytes.len())
}

/// What tells a supervisor from other processes, and what `top` shows.
fn name_process(plan: &Plan) {
    // SAFETY: a NUL-terminated text in the arena; the kernel reads up to 16 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, plan.title.as_ptr()) };
}

/// What `ps` shows.
fn write_title(plan: &Plan) {
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

impl Plan {
    fn end_by_identity(&self, instance: &Instance) -> bool {
        let Identity { pid, .. } = instance.identity;
        if pid == 0 {
            return true;
        }
        let signal = Signal::from_named_raw(self.stop.signal.number()).unwrap_or(Signal::TERM);
        match BareProcess::find(instance.identity) {
            Ok(Some(process)) => process.end(signal, self.stop.grace, KILL_TIMEOUT),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    fn unlink_files(&self) {
        let same_dir = rustix::fs::lstat(self.dir.as_c_str())
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.dir_identity);
        if same_dir {
            for file in &self.files {
                let _ = rustix::fs::unlink(file.as_c_str());
            }
        }
    }
}

impl Hands for Plan {
    type Calls = BareCalls;

    fn limit(&self) -> &Limit {
        // Its signals are all blocked, so nothing ends it early.
        static LIMIT: Limit = Limit::new();
        &LIMIT
    }

    fn set_limit(&self, left: Option<Duration>) {
        self.limit().set(left);
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn end_limit(&self) -> Duration {
        self.stop.limit()
    }

    async fn end(&self, instance: &Instance) -> bool {
        self.end_by_identity(instance)
    }

    async fn remove_files(&self) {
        self.unlink_files();
    }

    fn is_parent(&self) -> bool {
        false
    }

    fn has_ended(&self) -> bool {
        false
    }
}
