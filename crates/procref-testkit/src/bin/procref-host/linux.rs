//! The modes of the host program.

#![expect(
    unsafe_code,
    reason = "forks, seccomp filters, limits and signal dispositions need raw system calls"
)]

use std::ffi::CString;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use procref::{
    PlatformRefCounter, Ready, RefCounter as _, Result, ServiceCommand, ServiceHandle, ServiceInfo,
    SharedService, SharedServiceBuilder,
};
use procref_testkit::observe::{Identity, supervisors_of};

mod endless {
    //! Sets every time limit of the library to its maximum.

    use procref::process::{self, Process};

    use super::*;

    fn endless(builder: SharedServiceBuilder) -> SharedService {
        let builder = builder
            .start_timeout(Duration::MAX)
            .wait_timeout(Duration::MAX);
        let service = builder.stop_timeout(Duration::MAX).build();
        service.expect("a valid service")
    }

    pub(super) fn run(host: &Host) {
        for (kind, builder) in [
            ("command", host.by_command()),
            ("callback", host.by_callback()),
        ] {
            let service = endless(builder);
            let handle = service.acquire_blocking().expect("a handle");
            let ready = service.wait_ready_blocking(Duration::MAX);
            let pid = handle.pid();
            let process = Process::open(pid).expect("the service's process");
            print_fact(&format!(
                "{kind} ready {}",
                ready.is_ok_and(|info| info.is_some())
            ));
            print_fact(&format!(
                "{kind} stopped {}",
                process.stop(Duration::MAX).is_ok()
            ));
            print_fact(&format!(
                "{kind} gone {}",
                process.wait(Duration::MAX).unwrap_or(false)
            ));
            process::stop(pid, u64::MAX);
            let dead = handle.wait_dead_blocking(Duration::MAX).unwrap_or(false);
            print_fact(&format!("{kind} dead {dead}"));
            report(kind, Ok(handle), Instant::now());
            let stopped = service.wait_stopped_blocking(Duration::MAX);
            print_fact(&format!("{kind} over {}", stopped.unwrap_or(false)));
        }
        let failing = ServiceCommand::new("false").ready(Ready::log("never"));
        let service = endless(host.builder("failing").command(failing));
        report("failing", service.acquire_blocking(), Instant::now());
        let linger = host.by_command().linger(Duration::MAX).build();
        print_fact(&format!("linger refused {}", linger.is_err()));
    }
}

mod panicking {
    //! A `tracing` subscriber that panics.

    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static PANICS: AtomicBool = AtomicBool::new(false);
    static COUNT: AtomicU32 = AtomicU32::new(0);

    struct Panicking;

    impl io::Write for Panicking {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(!PANICS.load(Ordering::SeqCst), "the subscriber panics");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Runs an operation while the subscriber panics. Prints whether the operation panicked, and the number of panics.
    fn provoke(label: &str, operation: impl FnOnce()) {
        let before = COUNT.load(Ordering::SeqCst);
        PANICS.store(true, Ordering::SeqCst);
        let panicked = catch_unwind(AssertUnwindSafe(operation)).is_err();
        PANICS.store(false, Ordering::SeqCst);
        let panics = COUNT.load(Ordering::SeqCst) - before;
        print_fact(&format!("{label} panicked={panicked} panics={panics}"));
    }

    pub(super) fn run(host: &Host) {
        std::panic::set_hook(Box::new(|_| {
            COUNT.fetch_add(1, Ordering::SeqCst);
        }));
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(|| Panicking)
            .init();
        for kind in ["command", "callback"] {
            let builder = || match kind {
                "command" => host.by_command(),
                _ => host.by_callback(),
            };
            let service = builder().build().expect("a valid service");
            let acquire = || service.acquire_blocking().expect("a handle");
            let handle = acquire();
            provoke(&format!("{kind} release"), || {
                drop(handle.release_blocking())
            });
            let handle = acquire();
            provoke(&format!("{kind} drop"), || drop(handle));
            let handle = acquire();
            provoke(&format!("{kind} unwind"), || {
                let _handle = handle;
                panic!("the host panics");
            });
            provoke(&format!("{kind} start"), || {
                drop(service.acquire_blocking())
            });
            let begun = Instant::now();
            report(kind, service.acquire_blocking(), begun);
            let stopped = service.wait_stopped_blocking(Duration::from_secs(20));
            print_fact(&format!("{kind} stopped {}", stopped.unwrap_or(false)));
        }
    }
}

/// The runtime directory and the service names of a mode.
pub(crate) struct Host {
    dir: PathBuf,
    name: String,
}

pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mode, dir, name) = (arguments.next(), arguments.next(), arguments.next());
    let (Some(mode), Some(dir), Some(name)) = (mode, dir, name) else {
        return ExitCode::from(2);
    };
    let host = Host {
        dir: dir.into(),
        name,
    };
    match mode.as_str() {
        "start" => host.start(),
        "forking" => host.while_forking(|| host.fail_to_start()),
        "forking-start" => host.while_forking(|| host.start()),
        "forking-never-ready" => host.while_forking(|| host.never_ready()),
        "ignoring-children" => {
            set_child_action(libc::SIG_IGN, 0);
            host.start_with_readiness_command();
        }
        "not-waiting-for-children" => {
            set_child_action(libc::SIG_DFL, libc::SA_NOCLDWAIT);
            host.start_with_readiness_command();
        }
        "reaping-in-a-handler" => {
            let handler: extern "C" fn(libc::c_int) = reap_all;
            set_child_action(handler as libc::sighandler_t, libc::SA_RESTART);
            host.start_with_readiness_command();
        }
        "reaping-in-a-thread" => {
            thread::spawn(|| {
                loop {
                    reap_all(0);
                    thread::sleep(Duration::from_micros(100));
                }
            });
            host.start_with_readiness_command();
        }
        "refused-first-step" => {
            install_filter(&refuse_long_arrays());
            for builder in [host.by_command(), host.by_callback()] {
                let service = builder.build().expect("a valid service");
                print_fact(&format!("key {}", service.kernel_object()));
                report("service", service.acquire_blocking(), Instant::now());
            }
            let counter = PlatformRefCounter::in_dir(&format!("{}-counter", host.name), &host.dir);
            let counter = counter.expect("a counter");
            print_fact(&format!("counter failed {}", counter.acquire().is_err()));
            print_fact(&format!("lock failed {}", counter.try_lock().is_err()));
            drop(counter);
        }
        "counting-threads" => host.count_threads(),
        "foreign-memory" => host.measure_supervisors(),
        "interrupted" => host.interrupt_starts(),
        "endless" => endless::run(&host),
        "panicking-subscriber" => panicking::run(&host),
        "refused-close-range" => {
            raise_descriptor_limit();
            install_filter(&refuse_close_range());
            host.start();
        }
        "killed-at-birth" => {
            install_filter(&kill_at(libc::SYS_chdir));
            host.start();
        }
        "closed-descriptors" => {
            close_all_but_output();
            host.start();
            close_all_but_output();
            host.start();
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// Prints a fact and flushes the output.
pub(crate) fn print_fact(fact: &str) {
    let mut out = io::stdout().lock();
    // An error means that the test no longer reads, so it has failed already.
    let _ = writeln!(out, "{fact}").and_then(|()| out.flush());
}

impl Host {
    pub(crate) fn builder(&self, kind: &str) -> SharedServiceBuilder {
        SharedService::builder(&format!("{}-{kind}", self.name))
            .base_dir(&self.dir)
            .start_timeout(Duration::from_secs(20))
            .stop_timeout(Duration::from_secs(2))
    }

    pub(crate) fn by_command(&self) -> SharedServiceBuilder {
        let sleep = ServiceCommand::new("sleep").arg("600");
        self.builder("command")
            .command(sleep.ready(Ready::at_once()))
    }

    pub(crate) fn by_callback(&self) -> SharedServiceBuilder {
        self.builder("callback").on_first_acquire(|| async {
            let child = Command::new("sleep").arg("600").spawn()?;
            Ok(ServiceInfo::with_pid(child.id()))
        })
    }

    /// Starts a service whose readiness command succeeds at the second attempt, and one whose command never succeeds.
    fn start_with_readiness_command(&self) {
        let marker = self.dir.join("asked");
        // The shell also waits for its own child. This fails if the shell inherits the host's action for SIGCHLD.
        let script = format!(
            "sh -c 'exit 4' & wait $!; [ $? = 4 ] || exit 9; rm {0} 2>&1 || {{ : >{0}; exit 3; }}",
            marker.display()
        );
        let begun = Instant::now();
        let ready = Ready::command("sh", ["-c", &script]);
        let sleep = ServiceCommand::new("sleep").arg("600");
        let service = self
            .builder("command")
            .command(sleep.clone().ready(ready))
            .build();
        report(
            "command",
            service.and_then(|service| service.acquire_blocking()),
            begun,
        );
        let begun = Instant::now();
        let never = sleep.ready(Ready::command("sh", ["-c", "exit 7"]));
        let service = self
            .builder("never")
            .command(never)
            .start_timeout(Duration::from_secs(1));
        report(
            "never",
            service
                .build()
                .and_then(|service| service.acquire_blocking()),
            begun,
        );
        let begun = Instant::now();
        let service = self.by_callback().build();
        report(
            "callback",
            service.and_then(|service| service.acquire_blocking()),
            begun,
        );
    }

    /// Tries to start a service whose program exits at once, and whose stop timeout is 2 s.
    fn fail_to_start(&self) {
        let failing = ServiceCommand::new("false").ready(Ready::log("never"));
        for _ in 0..2 {
            let begun = Instant::now();
            let service = self.builder("command").command(failing.clone()).build();
            report(
                "command",
                service.and_then(|service| service.acquire_blocking()),
                begun,
            );
        }
    }

    /// Tries to start a service that does not become ready.
    fn never_ready(&self) {
        let sleep = ServiceCommand::new("sleep").arg("600");
        let service = self
            .builder("command")
            .command(sleep.ready(Ready::log("never")));
        let begun = Instant::now();
        report(
            "command",
            service
                .build()
                .and_then(|service| service.acquire_blocking()),
            begun,
        );
    }

    /// Runs `run` while another thread forks processes. The processes execute no program, and live until the end.
    fn while_forking(&self, run: impl FnOnce()) {
        static DONE: AtomicBool = AtomicBool::new(false);
        let host = std::process::id();
        let forks = thread::spawn(move || {
            let mut workers = Vec::new();
            while !DONE.load(Ordering::Relaxed) && workers.len() < 4000 {
                // SAFETY: no pointers are passed. The child makes only system calls and exits.
                match unsafe { libc::fork() } {
                    0 => run_forked(host),
                    -1 => {}
                    pid => workers.push(pid),
                }
                thread::sleep(Duration::from_millis(2));
            }
            for pid in workers {
                // SAFETY: no pointers are passed. The pid is that of a child that was not reaped.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                // SAFETY: the status pointer may be null.
                unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            }
        });
        run();
        DONE.store(true, Ordering::Relaxed);
        forks.join().expect("the thread that forks");
    }

    /// Starts services in several ways. Prints the number of threads right after each start.
    fn count_threads(&self) {
        let threads = || fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        let sleep = || {
            ServiceCommand::new("sleep")
                .arg("600")
                .ready(Ready::at_once())
        };
        let pause = |_| async {
            thread::sleep(Duration::from_millis(1));
            // The start waits for its next poll beside the exit of the service.
            yield_once().await;
            Ok(())
        };
        let health = || Ready::command("true", [] as [&str; 0]);
        let builders: [(&str, SharedServiceBuilder); 4] = [
            ("command", self.by_command()),
            ("callback", self.by_callback()),
            (
                "on-ready",
                self.builder("on-ready").command(sleep()).on_ready(pause),
            ),
            (
                "healthy",
                self.builder("healthy").command(sleep().health(health())),
            ),
        ];
        for (kind, builder) in builders {
            let service = builder.build().expect("a valid service");
            for form in ["blocking", "polled"] {
                let handle = match form {
                    "blocking" => service.acquire_blocking(),
                    _ => pollster::block_on(service.acquire()),
                };
                let count = threads();
                print_fact(&format!("{kind} {form} threads {count}"));
                report(kind, handle, Instant::now());
                let stopped = service.wait_stopped_blocking(Duration::from_secs(20));
                print_fact(&format!(
                    "{kind} {form} stopped {}",
                    stopped.unwrap_or(false)
                ));
            }
        }
    }

    /// Interrupts starts that wait for readiness, as the documentation of `acquire_blocking` shows. Prints how long that
    /// takes.
    fn interrupt_starts(&self) {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let never = ServiceCommand::new("sleep")
            .arg("600")
            .ready(Ready::log("never"));
        let pending = || async { std::future::pending::<Result<ServiceInfo>>().await };
        for (kind, builder) in [
            ("command", self.builder("command").command(never)),
            (
                "callback",
                self.builder("callback").on_first_acquire(pending),
            ),
        ] {
            let service = builder.build().expect("a valid service");
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            let mut acquire = Box::pin(service.acquire());
            let supervisors = || supervisors_of(service.name());
            let is_started = || match supervisors().first() {
                Some(supervisor) => kind == "callback" || !supervisor.children().is_empty(),
                None => false,
            };
            while !is_started() {
                let poll = acquire.as_mut().poll(&mut Context::from_waker(&waker));
                assert!(poll.is_pending(), "the start cannot end");
                thread::park_timeout(Duration::from_millis(5));
            }
            let interrupted = Instant::now();
            drop(acquire);
            print_fact(&format!(
                "{kind} interrupted ms={}",
                interrupted.elapsed().as_millis()
            ));
            let stopped = service.wait_stopped_blocking(Duration::from_secs(20));
            print_fact(&format!("{kind} stopped {}", stopped.unwrap_or(false)));
        }
    }

    /// Starts services. Prints the private memory of each supervisor, in KiB.
    ///
    /// If `HOST_LIBRARY` names a library, the host loads it first.
    fn measure_supervisors(&self) {
        if let Some(library) = std::env::var_os("HOST_LIBRARY") {
            let path = CString::new(library.into_encoded_bytes()).expect("a path");
            // SAFETY: the path is a NUL-terminated text. The library's constructor only writes to its own data.
            let loaded = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
            print_fact(&format!("library loaded={}", !loaded.is_null()));
        }
        let own = Identity::own().private_memory();
        print_fact(&format!("host private={own}"));
        for (kind, builder) in [
            ("command", self.by_command()),
            ("callback", self.by_callback()),
        ] {
            let begun = Instant::now();
            let service = builder.build().expect("a valid service");
            let result = service.acquire_blocking();
            for supervisor in supervisors_of(service.name()) {
                let private = supervisor.private_memory();
                print_fact(&format!("{kind} supervisor private={private}"));
            }
            report(kind, result, begun);
        }
    }

    /// Starts a service by a command and one by a callback, and releases both.
    pub(crate) fn start(&self) {
        for (kind, builder) in [
            ("command", self.by_command()),
            ("callback", self.by_callback()),
        ] {
            let begun = Instant::now();
            let result = builder
                .build()
                .and_then(|service| service.acquire_blocking());
            report(kind, result, begun);
        }
    }
}

/// Returns `Pending` once.
async fn yield_once() {
    let mut polled = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Prints the result of an acquire, and releases the handle.
pub(crate) fn report(kind: &str, result: Result<ServiceHandle>, begun: Instant) {
    let time = begun.elapsed().as_millis();
    match result {
        Ok(handle) => {
            let alive = handle.info().is_alive();
            print_fact(&format!("{kind} started alive={alive} ms={time}"));
            let released = handle.release_blocking();
            print_fact(&format!("{kind} released {}", released.is_ok()));
        }
        Err(error) => print_fact(&format!("{kind} failed ms={time} {error}")),
    }
}

extern "C" fn reap_all(_: libc::c_int) {
    // SAFETY: the status pointer may be null.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

fn set_child_action(action: libc::sighandler_t, flags: libc::c_int) {
    // SAFETY: `sigaction` has only integer fields, so all zeros is a valid value.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = action;
    new.sa_flags = flags;
    // SAFETY: the action is initialized, and the handlers make only system calls.
    unsafe { libc::sigaction(libc::SIGCHLD, &raw const new, std::ptr::null_mut()) };
}

/// Runs a forked process. It closes the test's pipes, and exits with its parent, which is `host`.
fn run_forked(host: u32) -> ! {
    for fd in [1, 2] {
        // SAFETY: no pointers are passed.
        unsafe { libc::close(fd) };
    }
    // SAFETY: no pointers are passed.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // The host may have died before the call above, and then no signal comes. A child that asked for its parent here,
    // instead of getting `host`, would treat the process that adopted it as the host, and stay.
    // SAFETY: no pointers are passed.
    while unsafe { libc::getppid() }.unsigned_abs() == host {
        // SAFETY: no pointers are passed.
        unsafe { libc::pause() };
    }
    // SAFETY: no pointers are passed, and the call does not return.
    unsafe { libc::_exit(0) }
}

/// Closes every descriptor except the standard output, like a program that becomes a daemon.
fn close_all_but_output() {
    // SAFETY: no pointers are passed.
    unsafe { libc::close(0) };
    for fd in 2..1024 {
        // SAFETY: no pointers are passed. This also closes descriptors of the library, which must cope with it.
        unsafe { libc::close(fd) };
    }
}

/// A descriptor number below every limit, and above the open descriptors.
const MANY: u32 = 3000;

/// Raises the limit of open descriptors to the maximum.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer refers to a local variable of the right type, which the call writes.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer refers to an initialized local variable.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    let raised = result == 0 && limit.rlim_cur > MANY.into();
    print_fact(&format!("limit raised={raised}"));
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The offset of the number of the system call in `seccomp_data`.
const NUMBER: u32 = 0;
/// The offset of the lower half of the first argument in `seccomp_data`.
const ARGUMENT: u32 = if cfg!(target_endian = "little") {
    16
} else {
    20
};

fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Refuses `close_range`, and kills a process that closes one descriptor after the other.
fn refuse_close_range() -> [libc::sock_filter; 8] {
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    [
        step(LOAD, 0, 0, NUMBER),
        step(EQUAL, 4, 0, libc::SYS_close_range as u32),
        step(EQUAL, 0, 2, libc::SYS_close as u32),
        step(LOAD, 0, 0, ARGUMENT),
        step(AT_LEAST, 2, 0, MANY),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, refuse),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ]
}

/// Refuses arrays of semaphore operations with `ENOMEM` if they are longer than those that lock or unlock.
fn refuse_long_arrays() -> [libc::sock_filter; 7] {
    /// The offset of the lower half of the third argument in `seccomp_data`.
    const LENGTH: u32 = ARGUMENT + 16;

    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOMEM as u32;
    [
        step(LOAD, 0, 0, NUMBER),
        step(EQUAL, 1, 0, libc::SYS_semtimedop as u32),
        step(EQUAL, 0, 2, libc::SYS_semop as u32),
        step(LOAD, 0, 0, LENGTH),
        step(AT_LEAST, 1, 0, 4),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, refuse),
    ]
}

/// Kills a process that makes this system call.
fn kill_at(call: libc::c_long) -> [libc::sock_filter; 4] {
    [
        step(LOAD, 0, 0, NUMBER),
        step(EQUAL, 0, 1, call as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Installs a seccomp filter for this process and its descendants.
fn install_filter(steps: &[libc::sock_filter]) {
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_ptr().cast_mut(),
    };
    // SAFETY: no pointers are passed.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program and its steps live until the call returns, and the kernel only reads them.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    print_fact(&format!("filter installed={}", result == 0));
}
