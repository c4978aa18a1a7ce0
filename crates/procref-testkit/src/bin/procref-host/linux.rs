//! The modes.

#![expect(
    unsafe_code,
    reason = "forks, seccomp filters, limits and signal dispositions"
)]

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use procref::{
    PlatformRefCounter, Ready, RefCounter as _, Result, ServiceCommand, ServiceHandle, ServiceInfo,
    SharedService, SharedServiceBuilder,
};

mod endless {
    //! Every time limit that the library takes, as long as it can be.

    use procref::process::{self, Process};

    use super::*;

    fn endless(builder: SharedServiceBuilder) -> SharedService {
        let builder = builder
            .start_timeout(Duration::MAX)
            .wait_timeout(Duration::MAX);
        let service = builder.stop_timeout(Duration::MAX).build();
        service.expect("the service is described well")
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
            tell(&format!(
                "{kind} ready {}",
                ready.is_ok_and(|info| info.is_some())
            ));
            tell(&format!(
                "{kind} stopped {}",
                process.stop(Duration::MAX).is_ok()
            ));
            tell(&format!(
                "{kind} gone {}",
                process.wait(Duration::MAX).unwrap_or(false)
            ));
            process::stop(pid, u64::MAX);
            let dead = handle.wait_dead_blocking(Duration::MAX).unwrap_or(false);
            tell(&format!("{kind} dead {dead}"));
            report(kind, Ok(handle), Instant::now());
            let over = service.wait_stopped_blocking(Duration::MAX);
            tell(&format!("{kind} over {}", over.unwrap_or(false)));
        }
        let failing = ServiceCommand::new("false").ready(Ready::log("never"));
        let service = endless(host.builder("failing").command(failing));
        report("failing", service.acquire_blocking(), Instant::now());
        let linger = host.by_command().linger(Duration::MAX).build();
        tell(&format!("linger refused {}", linger.is_err()));
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
            assert!(!PANICS.load(Ordering::SeqCst), "the subscriber of a test");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Does something while the subscriber panics. Tells whether that came out, and how many panics there were.
    fn provoke(what: &str, provoked: impl FnOnce()) {
        let before = COUNT.load(Ordering::SeqCst);
        PANICS.store(true, Ordering::SeqCst);
        let panicked = catch_unwind(AssertUnwindSafe(provoked)).is_err();
        PANICS.store(false, Ordering::SeqCst);
        let panics = COUNT.load(Ordering::SeqCst) - before;
        tell(&format!("{what} panicked={panicked} panics={panics}"));
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
            let service = builder().build().expect("the service is described well");
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
                panic!("the host's own");
            });
            provoke(&format!("{kind} start"), || {
                drop(service.acquire_blocking())
            });
            let begun = Instant::now();
            report(kind, service.acquire_blocking(), begun);
            let stopped = service.wait_stopped_blocking(Duration::from_secs(20));
            tell(&format!("{kind} stopped {}", stopped.unwrap_or(false)));
        }
    }
}

/// What a mode works with.
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
            host.start_asking_a_program();
        }
        "not-waiting-for-children" => {
            set_child_action(libc::SIG_DFL, libc::SA_NOCLDWAIT);
            host.start_asking_a_program();
        }
        "reaping-in-a-handler" => {
            let handler: extern "C" fn(libc::c_int) = reap_all;
            set_child_action(handler as libc::sighandler_t, libc::SA_RESTART);
            host.start_asking_a_program();
        }
        "reaping-in-a-thread" => {
            thread::spawn(|| {
                loop {
                    reap_all(0);
                    thread::sleep(Duration::from_micros(100));
                }
            });
            host.start_asking_a_program();
        }
        "refused-first-step" => {
            filter(&refuse_long_arrays());
            for builder in [host.by_command(), host.by_callback()] {
                let service = builder.build().expect("the service is described well");
                tell(&format!("key {}", service.kernel_object()));
                report("service", service.acquire_blocking(), Instant::now());
            }
            let counter = PlatformRefCounter::in_dir(&format!("{}-counter", host.name), &host.dir);
            let counter = counter.expect("a counter");
            tell(&format!("counter failed {}", counter.acquire().is_err()));
            tell(&format!("lock failed {}", counter.try_lock().is_err()));
            drop(counter);
        }
        "endless" => endless::run(&host),
        "panicking-subscriber" => panicking::run(&host),
        "refused-close-range" => {
            raise_descriptor_limit();
            filter(&refused_close_range());
            host.start();
        }
        "killed-at-birth" => {
            filter(&kill_at(libc::SYS_chdir));
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

/// Prints a fact at once.
pub(crate) fn tell(fact: &str) {
    let mut out = io::stdout().lock();
    // A test that does not read any more has failed already.
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

    /// A service that a program finds ready when it is asked the second time, and one that it never finds ready.
    fn start_asking_a_program(&self) {
        let asked = self.dir.join("asked");
        // The shell waits for a child of its own, too, which it cannot if it inherits the host's action.
        let script = format!(
            "sh -c 'exit 4' & wait $!; [ $? = 4 ] || exit 9; rm {0} 2>&1 || {{ : >{0}; exit 3; }}",
            asked.display()
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
            service.and_then(|it| it.acquire_blocking()),
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
            service.build().and_then(|it| it.acquire_blocking()),
            begun,
        );
        let begun = Instant::now();
        let service = self.by_callback().build();
        report(
            "callback",
            service.and_then(|it| it.acquire_blocking()),
            begun,
        );
    }

    /// A service whose start fails at once, and which may take 2 s to stop.
    fn fail_to_start(&self) {
        let failing = ServiceCommand::new("false").ready(Ready::log("never"));
        for _ in 0..2 {
            let begun = Instant::now();
            let service = self.builder("command").command(failing.clone()).build();
            report(
                "command",
                service.and_then(|it| it.acquire_blocking()),
                begun,
            );
        }
    }

    /// A service that does not become ready.
    fn never_ready(&self) {
        let sleep = ServiceCommand::new("sleep").arg("600");
        let service = self
            .builder("command")
            .command(sleep.ready(Ready::log("never")));
        let begun = Instant::now();
        report(
            "command",
            service.build().and_then(|it| it.acquire_blocking()),
            begun,
        );
    }

    /// Another thread forks processes that execute nothing, all the time, and keeps them.
    fn while_forking(&self, run: impl FnOnce()) {
        static OVER: AtomicBool = AtomicBool::new(false);
        let forks = thread::spawn(|| {
            let mut workers = Vec::new();
            while !OVER.load(Ordering::Relaxed) && workers.len() < 4000 {
                // SAFETY: the child makes system calls and ends.
                match unsafe { libc::fork() } {
                    0 => work(),
                    -1 => {}
                    pid => workers.push(pid),
                }
                thread::sleep(Duration::from_millis(2));
            }
            for pid in workers {
                // SAFETY: a child of this process that has not been waited for.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                // SAFETY: no status is asked for.
                unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            }
        });
        run();
        OVER.store(true, Ordering::Relaxed);
        forks.join().expect("the thread that forks");
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

/// Tells what an acquire has come to, and releases the handle.
pub(crate) fn report(kind: &str, result: Result<ServiceHandle>, begun: Instant) {
    let time = begun.elapsed().as_millis();
    match result {
        Ok(handle) => {
            let alive = handle.info().is_alive();
            tell(&format!("{kind} started alive={alive} ms={time}"));
            let released = handle.release_blocking();
            tell(&format!("{kind} released {}", released.is_ok()));
        }
        Err(error) => tell(&format!("{kind} failed ms={time} {error}")),
    }
}

extern "C" fn reap_all(_: libc::c_int) {
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

fn set_child_action(action: libc::sighandler_t, flags: libc::c_int) {
    // SAFETY: all zeros is a value of `sigaction`.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = action;
    new.sa_flags = flags;
    // SAFETY: the action is initialised; a handler makes only system calls.
    unsafe { libc::sigaction(libc::SIGCHLD, &raw const new, std::ptr::null_mut()) };
}

/// A forked worker: ends with its parent, without the test's pipes.
fn work() -> ! {
    for fd in [1, 2] {
        // SAFETY: no pointers are passed.
        unsafe { libc::close(fd) };
    }
    // SAFETY: no pointers are passed.
    let parent = unsafe { libc::getppid() };
    // So long that a test which waited for it would fail.
    for _ in 0..600 {
        // SAFETY: no pointers are passed.
        unsafe { libc::sleep(1) };
        // SAFETY: no pointers are passed.
        if unsafe { libc::getppid() } != parent {
            break;
        }
    }
    // SAFETY: ends this child.
    unsafe { libc::_exit(0) }
}

/// Closes every descriptor that the host does not know, as a program does that makes itself a daemon.
fn close_all_but_output() {
    // SAFETY: no pointers are passed.
    unsafe { libc::close(0) };
    for fd in 2..1024 {
        // SAFETY: no pointers are passed. The library's descriptors are among them, which is the point.
        unsafe { libc::close(fd) };
    }
}

/// Lower than any limit, and higher than the descriptors that are open here.
const MANY: u32 = 3000;

/// Lets this process have as many descriptors as it may.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a `rlimit` that the call fills.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is initialised.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    let raised = set == 0 && limit.rlim_cur > MANY.into();
    tell(&format!("limit raised={raised}"));
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Where `seccomp_data` has the number, and the lower half of the first argument.
const NUMBER: u32 = 0;
const ARGUMENT: u32 = if cfg!(target_endian = "little") {
    16
} else {
    20
};

fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Refuses `close_range`, and kills a process that closes one descriptor after the other.
fn refused_close_range() -> [libc::sock_filter; 8] {
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

/// Refuses arrays of semaphore operations that are longer than taking or releasing the lock, as for want of memory.
fn refuse_long_arrays() -> [libc::sock_filter; 7] {
    /// Where `seccomp_data` has the lower half of the third argument.
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

/// Kills the process that makes this call.
fn kill_at(call: libc::c_long) -> [libc::sock_filter; 4] {
    [
        step(LOAD, 0, 0, NUMBER),
        step(EQUAL, 0, 1, call as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Installs a filter for this process, and all that come from it.
fn filter(steps: &[libc::sock_filter]) {
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_ptr().cast_mut(),
    };
    // SAFETY: no pointers are passed.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program and its steps live until the call returns, and the kernel only reads them.
    let set = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    tell(&format!("filter installed={}", set == 0));
}
