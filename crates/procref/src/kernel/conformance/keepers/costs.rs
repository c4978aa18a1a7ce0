//! The costs of keepers, beside the least that the operating system needs for the same.
//!
//! ```sh
//! cargo test --release -p procref --lib -- --ignored --nocapture keepers::costs
//! ```
//!
//! The figures of one run compare with each other. Those of two runs, of a debug build, or of a busy machine do not, so
//! the tests print the goals and do not fail if a figure exceeds one.

#![expect(clippy::print_stdout, reason = "the tests print figures")]

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;

use super::*;
use crate::kernel::counted::RemoteArray;
use crate::kernel::counted::wire::{ANSWER_LENGTH, REQUEST_LENGTH};
use crate::kernel::semset::SemArray;
use crate::kernel::semset::steps::TAKE_REFERENCE;
use crate::kernel::sysv::{SystemV, test_undo};

/// The number of clients that share one service.
const CROWD: usize = 1000;

/// The goals for the ratios, and for the private memory in KiB.
const STEP_GOAL: f64 = 1.5;
const START_GOAL: f64 = 3.0;
const MEMORY_GOAL: u64 = 400;

/// Returns the time of one call in microseconds.
fn time(calls: u32, mut call: impl FnMut()) -> f64 {
    let begun = Instant::now();
    (0..calls).for_each(|_| call());
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Takes and releases a reference in this object: two steps.
fn up_and_down(array: &impl SemArray) {
    let down = Op {
        delta: -1,
        nowait: true,
        ..TAKE_REFERENCE
    };
    for op in [TAKE_REFERENCE, down] {
        let done = pollster::block_on(array.operate("measure a step", &[op], Wait::No));
        assert!(matches!(done, Ok(true)));
    }
}

/// Another process that returns the bytes that it receives.
struct Echo {
    child: Child,
    socket: UnixStream,
}

impl Echo {
    fn start() -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        let input = std::os::fd::OwnedFd::from(theirs.try_clone().unwrap());
        let child = Command::new("cat")
            .stdin(input)
            .stdout(std::os::fd::OwnedFd::from(theirs))
            .spawn()
            .unwrap();
        Self { child, socket }
    }

    fn round_trip(&mut self) {
        use std::io::Read as _;

        let mut bytes = [0; REQUEST_LENGTH];
        self.socket.write_all(&bytes).unwrap();
        self.socket.read_exact(&mut bytes).unwrap();
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "measures, and needs a release build"]
fn step_is_measured_beside_a_round_trip() {
    const ROUNDS: usize = 101;

    let home = Home::new("step-costs");
    let object = home.object();
    let semaphores = SystemV;
    let set = pollster::block_on(semaphores.open(&home.key, Missing::Create));
    let set = set.unwrap().unwrap();
    let mut echo = Echo::start();
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        let bare = time(200, || echo.round_trip());
        let keeper = time(100, || up_and_down(object.array())) / 2.0;
        let semop = time(100, || up_and_down(set.array())) / 2.0;
        figures.push([bare, keeper, semop, keeper / bare]);
    }
    pollster::block_on(set.remove()).unwrap();
    let [bare, keeper, semop, ratio] =
        std::array::from_fn(|index| median(figures.iter().map(|it| it[index]).collect()));
    println!(
        "a step: {keeper:.1} us in a keeper, {semop:.1} us in a semaphore set; a round trip of {REQUEST_LENGTH} bytes \
         over a Unix socket: {bare:.1} us; ratio {ratio:.2} (goal: {STEP_GOAL}); an answer has {ANSWER_LENGTH} bytes"
    );
}

#[test]
#[ignore = "measures, and needs a release build"]
fn first_open_is_measured_beside_a_spawn() {
    const ROUNDS: usize = 51;

    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        let spawn = time(1, || {
            assert!(Command::new("true").status().unwrap().success());
        });
        let home = Home::new("start-costs");
        let mut object = None;
        let first = time(1, || object = Some(home.object()));
        let second = time(1, || drop(home.object()));
        let probe = time(1, || assert!(test_undo()));
        figures.push([spawn, first, second, probe, first / spawn]);
    }
    let [spawn, first, second, probe, ratio] =
        std::array::from_fn(|index| median(figures.iter().map(|it| it[index]).collect()));
    println!(
        "a first open with the start of a keeper: {first:.0} us; a later open: {second:.0} us; `true`, until it has \
         exited: {spawn:.0} us; ratio {ratio:.2} (goal: {START_GOAL}); the test of SEM_UNDO: {probe:.0} us"
    );
}

/// Returns the memory that only this process has, in bytes.
fn private_memory(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    let kilobytes = private.map(|line| line.split_ascii_whitespace().nth(1).unwrap());
    kilobytes.map(|it| it.parse::<u64>().unwrap() << 10).sum()
}

/// Returns the number of times that the threads of a process went to sleep.
fn sleeps(pid: u32) -> BTreeMap<String, String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = threads.map(|it| it.unwrap().path().join("status"));
    let count = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        let line = lines.find(|it| it.starts_with("voluntary_ctxt_switches"));
        (path.display().to_string(), line.unwrap().to_owned())
    };
    status.map(count).collect()
}

#[test]
#[ignore = "measures, and needs a release build"]
fn idle_keeper_does_not_wake_up() {
    let keepers = Keepers::new("idle-costs");
    let (one, service) = supervised(&keepers, "run 0");
    let keeper = keeper_of(&keepers.home.place).unwrap().pid();
    // The supervisor begins to wait after the client's step.
    std::thread::sleep(Duration::from_secs(1));
    let (memory, before) = (private_memory(keeper), sleeps(keeper));
    std::thread::sleep(Duration::from_secs(5));
    let after = sleeps(keeper);
    println!(
        "private memory of a keeper with a supervisor: {} KiB (goal: {MEMORY_GOAL} KiB); times that its {} threads woke up in 5 \
         s: {}",
        memory >> 10,
        before.len(),
        usize::from(before != after)
    );
    one.kill();
    assert!(service.wait(EXIT_LIMIT).unwrap());
    assert_eq!(before, after);
}

/// Forks clients that take a reference each, and returns their pids and the time.
#[expect(unsafe_code, reason = "a fork without exec")]
pub(super) fn fork_crowd(object: &CountedObject, count: usize) -> String {
    use std::io::Read as _;

    let (mut ready, theirs) = UnixStream::pair().unwrap();
    let begun = Instant::now();
    let pids = (0..count).map(|_| {
        // SAFETY: no other thread of this process holds a lock that the child needs, because all of them wait.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // A test that fails must leave no client.
            let signal = rustix::process::Signal::KILL;
            let _ = rustix::process::set_parent_process_death_signal(Some(signal));
            let joined = join(object.array());
            let _ = (&theirs).write_all(&[u8::from(joined)]);
            loop {
                std::thread::park();
            }
        }
        pid.to_string()
    });
    let pids: Vec<_> = pids.collect();
    let mut joined = vec![0; count];
    ready.read_exact(&mut joined).unwrap();
    assert!(joined.iter().all(|&it| it == 1));
    format!("{} {}", begun.elapsed().as_millis(), pids.join(" "))
}

fn join(array: &Arc<RemoteArray>) -> bool {
    let joined = pollster::block_on(array.operate("join", &[TAKE_REFERENCE], Wait::No));
    matches!(joined, Ok(true))
}

#[test]
#[ignore = "measures, and needs a release build"]
fn thousand_clients_share_one_keeper() {
    let keepers = Keepers::new("crowd-costs");
    let (mut host, mut observer) = (started(&keepers), keepers.process());
    let answer = host.ask(&format!("crowd {CROWD}"));
    let mut words = answer.split(' ');
    let joining = words.next().unwrap().to_owned();
    let clients: Vec<Process> = words
        .map(|pid| Process::open(pid.parse().unwrap()).unwrap())
        .collect();
    assert_state(&mut observer, CROWD as u32 + 1, false);
    let keeper = keeper_of(&keepers.home.place).unwrap();
    let memory = private_memory(keeper.pid());
    let descriptors = fs::read_dir(format!("/proc/{}/fd", keeper.pid()));
    let descriptors = descriptors.unwrap().count();
    // The successor recovers all of them.
    let begun = Instant::now();
    assert!(kill_keeper(&keepers.home.place));
    assert_state(&mut observer, CROWD as u32 + 1, false);
    let takeover = begun.elapsed().as_millis();
    let begun = Instant::now();
    clients.iter().for_each(|client| client.kill().unwrap());
    while !observer.ask("snapshot").starts_with("clients 1,") {}
    println!(
        "{CROWD} clients: {joining} ms to fork and join; the keeper has {descriptors} descriptors and {} KiB of private \
         memory; {takeover} ms until a successor has recovered them; {} ms from their deaths until none is counted",
        memory >> 10,
        begun.elapsed().as_millis()
    );
    assert_eq!(observer.ask("remove"), "done");
}
