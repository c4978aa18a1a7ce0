use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use procref_supervisor::process::Stat;

use super::sys::{is_alive as sys_is_alive, signal, wait, with_file, without_pidfd};
use super::*;

/// A child that exits on request, or when its `Reaped` is dropped.
struct Reaped(Child);

impl Reaped {
    fn start(shell: &str) -> Self {
        let child = Command::new("sh")
            .args(["-c", shell])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Returns once the child has printed a line.
    fn ready(mut self) -> Self {
        let mut byte = [0];
        io::Read::read_exact(self.0.stdout.as_mut().unwrap(), &mut byte).unwrap();
        self
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn g5_pids_that_name_no_single_process_are_refused() {
    for pid in [0, 1, std::process::id(), i32::MAX as u32 + 1, u32::MAX] {
        assert!(protected(pid).is_some(), "{pid}");
    }
    assert!(protected(2).is_none());
    for pid in [0, i32::MAX as u32 + 1, u32::MAX] {
        assert!(!is_alive(pid));
        assert!(Process::open(pid).is_err());
    }
    assert!(is_alive(1), "another user's process is alive");
    let own = Process::open(std::process::id()).unwrap();
    for refused in [own.terminate(), own.kill(), own.stop(Duration::ZERO)] {
        assert!(refused.unwrap_err().to_string().contains("calling process"));
    }
}

#[test]
fn stop_returns_as_soon_as_the_process_has_exited() {
    let child = Reaped::start("echo up; exec sleep 1000").ready();
    let process = Process::open(child.0.id()).unwrap();
    let started = Instant::now();
    process.stop(Duration::from_secs(1000)).unwrap();
    assert!(started.elapsed() < Duration::from_secs(100));
    assert!(!process.is_alive(), "a zombie is dead");
    assert!(!is_alive(child.0.id()));
    assert!(
        Process::open(child.0.id()).is_err(),
        "a zombie cannot be opened"
    );
}

#[test]
fn stop_continues_and_kills_a_suspended_process() {
    let child = Reaped::start("trap '' TERM; echo up; while :; do read line; done").ready();
    let process = Process::open(child.0.id()).unwrap();
    process.stop(Duration::from_millis(50)).unwrap();
    assert!(!process.is_alive());

    let child = Reaped::start("echo up; exec sleep 1000").ready();
    let process = Process::open(child.0.id()).unwrap();
    process.signal("suspend", sys::Signal::STOP).unwrap();
    let started = Instant::now();
    process.stop(Duration::from_secs(1000)).unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(100),
        "the process was not continued"
    );
}

#[test]
fn g5_pid_with_another_start_time_is_another_process() {
    let child = Reaped::start("echo up; exec sleep 1000").ready();
    let process = Process::open(child.0.id()).unwrap();
    let before = Identity {
        start: process.identity.start - 1,
        ..process.identity
    };
    assert!(is_identity_alive(process.identity));
    assert!(!is_identity_alive(before));
    // The result is the same without a pidfd.
    assert!(sys_is_alive(process.identity, &without_pidfd()));
    assert!(!sys_is_alive(before, &without_pidfd()));
    signal(before, &without_pidfd(), sys::KILL).unwrap();
    assert!(process.is_alive(), "another process's signal reached it");
    assert!(
        !wait(
            process.identity,
            &without_pidfd(),
            Duration::from_millis(20)
        )
        .unwrap()
    );
    signal(process.identity, &without_pidfd(), sys::KILL).unwrap();
    assert!(wait(process.identity, &without_pidfd(), Duration::from_secs(100)).unwrap());
    assert!(process.wait(Duration::from_secs(100)).unwrap());
}

/// Returns files that may get the number of a closed descriptor: one that is always readable, one that is
/// never readable, and the pidfds of a living and of an exited process.
fn other_files(live: u32) -> Vec<OwnedFd> {
    let pidfd = |pid: u32| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
    };
    let dead = Reaped::start("exit");
    let dead_pidfd = pidfd(dead.0.id());
    drop(dead);
    let (silent, writer) = rustix::pipe::pipe().unwrap();
    // If it were closed, the pipe would be readable, at its EOF.
    std::mem::forget(writer);
    vec![
        std::fs::File::open("/dev/null").unwrap().into(),
        silent,
        pidfd(live),
        dead_pidfd,
    ]
}

#[test]
fn g5_closed_pidfd_says_nothing_about_its_process() {
    let bystander = Reaped::start("echo up; exec sleep 1000").ready();
    let short = Duration::from_millis(20);
    for file in other_files(bystander.0.id()) {
        let child = Reaped::start("echo up; exec sleep 1000").ready();
        let identity = Process::open(child.0.id()).unwrap().identity;
        for handle in with_file(identity, &file) {
            assert!(sys_is_alive(identity, &handle), "{file:?}");
            assert!(!wait(identity, &handle, short).unwrap(), "{file:?}");
        }
        let [known, unknown] = with_file(identity, &file);
        signal(identity, &unknown, sys::KILL).unwrap();
        assert!(wait(identity, &known, Duration::from_secs(100)).unwrap());
        assert!(wait(identity, &unknown, Duration::from_secs(100)).unwrap());
        assert!(!sys_is_alive(identity, &known), "{file:?}");
        // The process has exited, and this handle must not send a signal through the other file.
        signal(identity, &known, sys::KILL).unwrap();
        signal(identity, &unknown, sys::KILL).unwrap();
        assert!(is_alive(bystander.0.id()), "{file:?}");
    }
}

/// Runs this test program again in a pid namespace that has the `/proc` of another one, as unshare(1) does without
/// `--mount-proc`.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn g5_no_process_is_signaled_when_proc_is_foreign() {
    const INSIDE: &str = "PROCREF_TEST_FOREIGN_PROC";
    const SKIP: &str = "PROCREF_TESTKIT_SKIP_NAMESPACES";
    if std::env::var_os(INSIDE).is_some() {
        return assert_foreign_proc_is_refused();
    }
    if std::env::var_os(SKIP).is_some() {
        eprintln!("SKIPPED: {SKIP} is set");
        return;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--fork", "--kill-child", "--pid"]);
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let own = std::env::current_exe().unwrap();
    let name = "process::tests::g5_no_process_is_signaled_when_proc_is_foreign";
    let output = unshare
        .arg(own)
        .args(["--exact", name])
        .env(INSIDE, "1")
        .output();
    let output = output.expect("unshare(1) of util-linux is installed");
    let printed = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && printed.contains("1 passed");
    assert!(passed, "{printed}\n{output:?}");
}

fn assert_foreign_proc_is_refused() {
    let child = Reaped::start("echo up; exec sleep 1000").ready();
    let pid = child.0.id();
    let error = Process::open(pid).unwrap_err().to_string();
    assert!(error.contains("/proc"), "{error}");
    let identity = Identity { pid, start: 1 };
    let error = signal(identity, &without_pidfd(), sys::KILL).unwrap_err();
    assert!(error.to_string().contains("/proc"), "{error}");
    signal(identity, &sys::Handle::default(), sys::KILL).unwrap_err();
    stop(pid, 0);
    kill(pid);
    assert!(is_alive(pid), "the process was signaled by its pid alone");
    let error = view().unwrap_err();
    assert!(matches!(&error, Error::Proc { .. }), "{error}");
    assert!(error.to_string().contains("mount -t proc"), "{error}");
}

#[test]
fn start_time_is_not_forged_by_a_command_name() {
    let line =
        b"7 (x) S 1 2) R (y)) Z 1 2 3 4 5 4194560 7 8 9 10 11 12 13 14 15 16 17 18 4711 20\n";
    let stat = Stat::parse(line).unwrap();
    assert_eq!(
        format!("{stat:?}"),
        format!(
            "Stat {{ state: {}, start: 4711, executed: true, exiting: false, blocked: 0 }}",
            b'Z'
        )
    );
    let line =
        b"7 (x) Z 1 2 3 4 5 64 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 1 2 3 4 5 6 7 8 42 9 10\n";
    let stat = Stat::parse(line).unwrap();
    assert_eq!((stat.start, stat.executed, stat.blocked), (4711, false, 42));
    for broken in [
        &b""[..],
        b"7 (x)",
        b"7 (x) S",
        b"7 (x) S 1 2",
        b")",
        b"7 x S 1",
    ] {
        assert_eq!(Stat::parse(broken), None);
    }
}
