//! G8: services can be started from host programs that change process-wide state, such as signal
//! handlers and descriptors.

#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use procref_testkit::observe::{processes_with_argument, supervisors_of};
use procref_testkit::{Scene, deadline, scene};

const HOST: &str = env!("CARGO_BIN_EXE_procref-host");
const THREAD_DATA_HOST: &str = env!("CARGO_BIN_EXE_procref-host-thread-data");

/// One run of a host program, and its output.
struct Run {
    /// Prefix of the names of its services.
    name: String,
    output: Output,
}

impl Run {
    fn new(scene: &Scene, program: &str, mode: &str) -> Self {
        Self::with(scene, program, mode, |_| {})
    }

    fn with(scene: &Scene, program: &str, mode: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let name = format!("host-{}-{mode}", std::process::id());
        let mut command = Command::new(program);
        command.arg(mode).arg(scene.runtime_dir()).arg(&name);
        prepare(&mut command);
        let output = command.output().expect("run the host");
        Self { name, output }
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.output.stdout);
        text.lines().map(str::to_owned).collect()
    }

    /// Returns the only line that starts with `prefix`.
    #[track_caller]
    fn line(&self, prefix: &str) -> String {
        let lines = self.lines();
        let mut found = lines.iter().filter(|line| line.starts_with(prefix));
        match (found.next(), found.next()) {
            (Some(line), None) => line.clone(),
            _ => panic!("expected one line with {prefix:?}: {:?}", self.output),
        }
    }

    /// Asserts that both services were started and released, and that nothing is left of them.
    #[track_caller]
    fn assert_started(&self) {
        for kind in ["command", "callback"] {
            self.line(&format!("{kind} started alive=true"));
            self.line(&format!("{kind} released true"));
        }
        self.assert_nothing_left();
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        assert!(self.output.status.success(), "{:?}", self.output);
        for kind in ["command", "callback"] {
            let name = format!("{}-{kind}", self.name);
            deadline::until_true("the supervisor ends", || supervisors_of(&name).is_empty());
        }
        self.wait_forked_exit();
    }

    /// Waits until the processes that the host forked have exited. They have the command line of the host.
    #[track_caller]
    fn wait_forked_exit(&self) {
        deadline::until_true("the forked processes of the host exit", || {
            processes_with_argument(&self.name).is_empty()
        });
    }
}

/// Lists the records that are left in the scene's runtime directory.
fn records(scene: &Scene) -> Vec<String> {
    let entries = fs::read_dir(scene.runtime_dir()).expect("list the runtime directory");
    let names = entries.flatten().map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".json")).collect()
}

#[test]
fn g8_ordinary_host_starts_services() {
    let scene = scene!();
    Run::new(&scene, HOST, "start").assert_started();
    assert_eq!(records(&scene), Vec::<String>::new());
}

#[test]
fn g8_host_with_large_thread_local_data_starts_services() {
    let scene = scene!();
    Run::new(&scene, THREAD_DATA_HOST, "start").assert_started();
}

/// Parses the time in milliseconds from a line.
fn milliseconds(line: &str) -> u64 {
    let time = line.split("ms=").nth(1).expect("the line has a time");
    let digits = time.split(' ').next().unwrap_or_default();
    digits.parse().expect("parse the time")
}

#[test]
fn g8_failed_start_returns_in_a_host_that_forks_workers() {
    let scene = scene!();
    let run = Run::new(&scene, HOST, "forking");
    let failed = run.lines();
    assert_eq!(failed.len(), 2, "{:?}", run.output);
    for line in failed {
        assert!(line.contains("exited with status 1"), "{line}");
        // The grace is 2 s, but the service exits at once.
        assert!(milliseconds(&line) < 4000, "{line}");
    }
    run.assert_nothing_left();
}

#[test]
fn g8_host_that_forks_workers_starts_services() {
    let scene = scene!();
    Run::new(&scene, HOST, "forking-start").assert_started();
}

#[test]
fn g8_killed_supervisor_is_noticed_in_a_host_that_forks_workers() {
    let scene = scene!();
    let run = thread::scope(|scope| {
        let host = scope.spawn(|| Run::new(&scene, HOST, "forking-never-ready"));
        let name = format!("host-{}-forking-never-ready-command", std::process::id());
        // When the program has been executed, the start waits only for its readiness.
        let executed = || {
            let children = supervisors_of(&name).first().map(|it| it.children());
            children.is_some_and(|them| {
                them.iter()
                    .any(|it| it.command_line().starts_with(b"sleep"))
            })
        };
        deadline::until_true("the program is executed", executed);
        supervisors_of(&name)[0].kill();
        host.join().expect("run the host")
    });
    let line = run.line("command failed");
    assert!(
        line.contains("it was killed while the service started"),
        "{line}"
    );
    // The start timeout is 20 s.
    assert!(milliseconds(&line) < 15_000, "{line}");
    run.assert_nothing_left();
}

#[test]
fn g8_service_at_its_gate_ends_with_a_starter_that_forks_workers() {
    let scene = scene!();
    let run = Run::with(&scene, HOST, "forking-start", |command| {
        command.env("PROCREF_CRASH_POINT", "Launched");
    });
    assert_eq!(run.output.status.signal(), Some(9), "{:?}", run.output);
    let name = format!("{}-command", run.name);
    deadline::until_true("the supervisor ends", || supervisors_of(&name).is_empty());
    run.wait_forked_exit();
}

/// A program that forks while it has threads gets a warning from some runtimes.
#[test]
fn g8_host_has_no_threads_of_procref_after_a_start() {
    let scene = scene!();
    let run = Run::new(&scene, HOST, "counting-threads");
    for kind in ["command", "callback", "on-ready", "healthy"] {
        for form in ["blocking", "polled"] {
            run.line(&format!("{kind} {form} threads 1"));
            run.line(&format!("{kind} {form} stopped true"));
        }
        let name = format!("{}-{kind}", run.name);
        deadline::until_true("the supervisor ends", || supervisors_of(&name).is_empty());
    }
    assert!(run.output.status.success(), "{:?}", run.output);
}

/// An interpreter must raise the exception for Ctrl-C at once, whatever the service does.
#[test]
fn g9_interrupted_start_returns_at_once_and_leaves_nothing() {
    let scene = scene!();
    let run = Run::new(&scene, HOST, "interrupted");
    for kind in ["command", "callback"] {
        let line = run.line(&format!("{kind} interrupted"));
        // The grace of the service is 2 s, and its start timeout 20 s.
        assert!(milliseconds(&line) < 1000, "{line}");
        run.line(&format!("{kind} stopped true"));
    }
    run.assert_nothing_left();
    assert_eq!(records(&scene), Vec::<String>::new());
}

/// Compiles a library with a C compiler, which every machine with Rust has.
fn library(scene: &Scene, source: &str) -> PathBuf {
    let (code, library) = (
        scene.root().join("library.c"),
        scene.root().join("library.so"),
    );
    fs::write(&code, source).expect("write the source");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&code);
    assert!(compiler.status().expect("run the compiler").success());
    library
}

/// A number of KiB in a line.
fn kibibytes(line: &str) -> u64 {
    let number = line.split("private=").nth(1).expect("the line has a size");
    number.parse().expect("parse the size")
}

/// An interpreter and the libraries that it has loaded have megabytes of data.
#[test]
fn g8_supervisor_keeps_no_memory_of_foreign_libraries() {
    const LARGE: &str = "
        static char data[4 << 20] = {1};
        static char zeroed[4 << 20];
        __attribute__((constructor)) static void touch(void) {
            for (unsigned at = 0; at < sizeof data; at += 1024) {
                ((volatile char *)data)[at] += 1;
                ((volatile char *)zeroed)[at] += 1;
            }
        }";
    let scene = scene!();
    let library = library(&scene, LARGE);
    let run = Run::with(&scene, HOST, "foreign-memory", |command| {
        command.env("HOST_LIBRARY", library);
    });
    run.line("library loaded=true");
    assert!(kibibytes(&run.line("host private=")) > 8 << 10);
    for kind in ["command", "callback"] {
        let line = run.line(&format!("{kind} supervisor private="));
        assert!(kibibytes(&line) <= 512, "{line}");
    }
    run.assert_started();
}

/// The supervisor calls the functions of such a library, which calls others of its own.
#[test]
fn g8_host_with_a_preloaded_library_starts_services() {
    const PRELOADED: &str = "
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <sys/types.h>
        static int calls[1 << 16] = {1};
        static ssize_t (*next)(int, const void *, size_t);
        __attribute__((constructor)) static void find(void) { next = dlsym(RTLD_NEXT, \"write\"); }
        ssize_t write(int fd, const void *bytes, size_t length) {
            calls[length & 0xffff] += 1;
            return next(fd, bytes, length);
        }";
    let scene = scene!();
    let library = library(&scene, PRELOADED);
    let run = Run::with(&scene, HOST, "foreign-memory", |command| {
        command.env("LD_PRELOAD", library);
    });
    run.assert_started();
}

#[test]
fn g8_host_that_closes_descriptors_starts_services() {
    let scene = scene!();
    let run = Run::new(&scene, HOST, "closed-descriptors");
    let started = |line: &&String| line.contains(" started alive=true");
    assert_eq!(
        run.lines().iter().filter(started).count(),
        4,
        "{:?}",
        run.output
    );
    run.assert_nothing_left();
}

#[test]
fn g8_refused_close_range_costs_no_call_per_descriptor() {
    let scene = scene!();
    let run = Run::new(&scene, HOST, "refused-close-range");
    run.line("filter installed=true");
    run.line("limit raised=true");
    run.assert_started();
}

#[test]
fn g3_supervisor_killed_after_fork_is_reported_with_its_signal() {
    let scene = scene!();
    let run = Run::new(&scene, HOST, "killed-at-birth");
    run.line("filter installed=true");
    for kind in ["command", "callback"] {
        let line = run.line(&format!("{kind} failed"));
        assert!(line.contains("SIGSYS"), "{line}");
    }
    run.assert_nothing_left();
}

#[test]
fn g4_readiness_command_works_however_the_host_reaps_children() {
    for mode in [
        "ignoring-children",
        "not-waiting-for-children",
        "reaping-in-a-handler",
        "reaping-in-a-thread",
    ] {
        let scene = scene!();
        let run = Run::new(&scene, HOST, mode);
        run.assert_started();
        let never = run.line("never failed");
        assert!(never.contains("it exited with status 7"), "{mode}: {never}");
    }
}

#[test]
fn g8_panicking_subscriber_causes_one_panic_and_leaves_nothing() {
    let scene = scene!();
    let run = Run::new(&scene, HOST, "panicking-subscriber");
    for kind in ["command", "callback"] {
        // The supervisor stops a command, and then the client may have nothing to log.
        let release = run.line(&format!("{kind} release "));
        assert!(
            release.ends_with("panicked=true panics=1")
                || release.ends_with("panicked=false panics=0"),
            "{release}"
        );
        let dropped = run.line(&format!("{kind} drop "));
        assert!(dropped.contains("panicked=false"), "{dropped}");
        let unwound = run.line(&format!("{kind} unwind "));
        // The host itself causes the first panic. The subscriber adds at most one.
        assert!(unwound.contains("panicked=true"), "{unwound}");
        assert!(!unwound.ends_with("panics=3"), "{unwound}");
        let start = run.line(&format!("{kind} start "));
        assert!(start.ends_with("panicked=true panics=1"), "{start}");
        run.line(&format!("{kind} stopped true"));
    }
    run.assert_started();
}

/// Lists the keys of all semaphore sets.
fn sets() -> Vec<i32> {
    let list = fs::read_to_string("/proc/sysvipc/sem").expect("read the list of semaphore sets");
    let lines = list.lines().skip(1);
    let keys = lines.filter_map(|line| line.split_whitespace().next()?.parse().ok());
    keys.collect()
}

#[test]
fn g6_refused_first_step_leaves_no_semaphore_set() {
    let scene = scene!();
    let run = Run::new(&scene, HOST, "refused-first-step");
    run.line("filter installed=true");
    run.line("counter failed true");
    run.line("lock failed true");
    let lines = run.lines();
    let failed = lines
        .iter()
        .filter(|line| line.starts_with("service failed"));
    assert_eq!(failed.count(), 2, "{:?}", run.output);
    let keys = lines.iter().filter_map(|line| line.strip_prefix("key 0x"));
    for key in keys {
        let key = u32::from_str_radix(key, 16)
            .expect("parse the key")
            .cast_signed();
        assert!(!sets().contains(&key), "{key:#x} is left");
    }
    run.assert_nothing_left();
}

#[test]
fn g4_time_limits_may_be_as_long_as_duration_max() {
    let scene = scene!();
    let run = Run::new(&scene, HOST, "endless");
    for kind in ["command", "callback"] {
        for fact in ["ready", "stopped", "gone", "dead", "released", "over"] {
            run.line(&format!("{kind} {fact} true"));
        }
    }
    assert!(run.line("failing failed").contains("exited with status 1"));
    run.line("linger refused true");
    run.assert_nothing_left();
}
