//! The contract on the kernel with keepers, and the faults that only this kernel can have.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use procref_supervisor::spec::StopSpec;

use super::*;
use crate::kernel::counted::place::Place;
use crate::kernel::counted::{Counted, helper, state};
use crate::process::Process;

mod bad_input;
#[cfg(target_os = "linux")]
mod costs;
mod unused;

const COUNTED: &str = "counted";

type CountedObject = <Counted as Kernel>::Object;

/// The time within which a keeper exits after its last client.
const EXIT_LIMIT: Duration = Duration::from_secs(20);

fn dir_of(name: &str, pid: u32) -> PathBuf {
    std::env::temp_dir().join(format!("procref-counted-{pid}-{name}"))
}

/// Returns the key of a service with its own runtime directory.
pub(super) fn key_of(name: &str, pid: u32) -> ServiceKey {
    let view = process::view().expect("this process can share services");
    let namespace = Namespace::new(dir_of(name, pid), (0, 0), view);
    ServiceKey::new(namespace, Name::new(name).unwrap())
}

/// Returns the keepers of this service.
#[cfg(target_os = "macos")]
fn keepers_of(place: &Place) -> Vec<u32> {
    use crate::process::macos::{list, state_file};

    let mut pids = list::own_user().unwrap();
    pids.retain(|&pid| state_file(pid).as_ref() == Some(&place.state));
    pids
}

/// Returns the keepers of this service.
#[cfg(target_os = "linux")]
fn keepers_of(place: &Place) -> Vec<u32> {
    let variable = format!("{}={}", helper::STATE, place.state.display());
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let variables = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut variables = variables.split(|&byte| byte == 0);
        variables.any(|it| it == variable.as_bytes()).then_some(pid)
    });
    pids.collect()
}

/// Returns the keeper that the state file names, if it is alive.
fn keeper_of(place: &Place) -> Option<Process> {
    let (pid, start) = state::keeper(&fs::read(&place.state).ok()?);
    let found = Process::find(pid).ok()??;
    (found.identity().start == start).then_some(found)
}

/// Kills the keeper that the state file names, and waits until it has exited. Returns `false` if there is none.
fn kill_keeper(place: &Place) -> bool {
    let Some(keeper) = keeper_of(place) else {
        return false;
    };
    keeper.kill().is_ok() && keeper.wait(EXIT_LIMIT).unwrap()
}

/// A runtime directory, and a service in it.
struct Home {
    key: ServiceKey,
    place: Place,
}

impl Home {
    fn new(name: &str) -> Self {
        let key = key_of(name, std::process::id());
        fs::create_dir_all(key.namespace.dir()).unwrap();
        let place = Place::of(&key).unwrap();
        Self { key, place }
    }

    fn open(&self) -> crate::Result<Option<CountedObject>> {
        pollster::block_on(Counted.open(&self.key, Missing::Create))
    }

    fn object(&self) -> CountedObject {
        self.open().unwrap().unwrap()
    }
}

/// Checks that keepers leave neither a process nor a file.
impl Drop for Home {
    fn drop(&mut self) {
        let begun = Instant::now();
        let dir = self.key.namespace.dir().to_owned();
        if std::thread::panicking() {
            kill_keeper(&self.place);
            let _ = fs::remove_dir_all(dir);
            return;
        }
        let files = || fs::read_dir(&dir).unwrap().map(|it| it.unwrap().path());
        loop {
            let left = (keepers_of(&self.place), files().collect::<Vec<_>>());
            if left.0.is_empty() && left.1.is_empty() {
                break;
            }
            assert!(begun.elapsed() < EXIT_LIMIT, "left behind: {left:?}");
            // No process reports the exit of a keeper that this process did not start.
            std::thread::sleep(Duration::from_millis(1));
        }
        fs::remove_dir(dir).unwrap();
    }
}

/// Creates processes that use keepers.
pub(super) struct Keepers {
    name: String,
    uses_pidfds: bool,
    // The killer stops before the home checks what is left.
    killer: Option<Killer>,
    home: Home,
}

impl Keepers {
    fn with(name: String, uses_pidfds: bool) -> Self {
        Self {
            home: Home::new(&name),
            name,
            uses_pidfds,
            killer: None,
        }
    }

    pub(super) fn new(name: &'static str) -> Self {
        Self::with(name.to_owned(), true)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn without_pidfds(name: &'static str) -> Self {
        Self::with(format!("{name}-without-pidfds"), false)
    }

    pub(super) fn killed(name: &'static str) -> Self {
        let mut keepers = Self::with(format!("{name}-killed"), true);
        keepers.killer = Some(Killer::start(keepers.home.place.clone()));
        keepers
    }
}

impl Harness for Keepers {
    type Process = Helper;

    fn process(&self) -> Helper {
        let mut command = Command::new(std::env::current_exe().unwrap());
        if !self.uses_pidfds {
            command.env(helper::tests::NO_PIDFD, "1");
        }
        Helper::start(&mut command, COUNTED, &self.name)
    }
}

/// A thread that kills keepers at random moments.
struct Killer {
    stops: Arc<AtomicBool>,
    kills: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Killer {
    fn start(place: Place) -> Self {
        let (stops, kills) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let thread = {
            let (stops, kills) = (Arc::clone(&stops), Arc::clone(&kills));
            std::thread::spawn(move || {
                while !stops.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_micros(fastrand::u64(100..8000)));
                    kills.fetch_add(kill_keeper(&place).into(), Ordering::Relaxed);
                }
            })
        };
        Self {
            stops,
            kills,
            thread: Some(thread),
        }
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Performs the steps that only this kernel knows, or that end this process.
#[expect(
    clippy::zombie_processes,
    reason = "the service outlives its starter, which is killed"
)]
pub(super) fn perform_here(object: &CountedObject, ask: &str) -> Option<String> {
    let text = |step: Step<()>| match step {
        Ok(()) => "done".to_owned(),
        Err(fault) => format!("{fault:?}"),
    };
    #[cfg(target_os = "linux")]
    if let Some(count) = ask.strip_prefix("crowd ") {
        return Some(costs::fork_crowd(object, count.parse().unwrap()));
    }
    Some(match ask {
        "exec" => execute(),
        "fork" => fork(),
        "supervise" => {
            let grace = Duration::from_secs(20);
            let stop = StopSpec { signal: 15, grace };
            text(object.array().start_supervisor(stop))
        }
        "run 0" | "run 60" => {
            let mut program = Command::new("sleep");
            program.arg("600").stdin(Stdio::null());
            // A test that fails must not keep the pipes of the test runner open.
            program.stdout(Stdio::null()).stderr(Stdio::null());
            let child = program.spawn().unwrap();
            let identity = Process::open(child.id()).unwrap().identity();
            let mut instance = Instance::plain(identity, 80);
            instance.linger_ms = ask[4..].parse().unwrap();
            let published = object.publish(Some(&instance), 1, Lock::Release);
            assert_eq!(text(pollster::block_on(published)), "done");
            child.id().to_string()
        }
        _ => return None,
    })
}

/// Replaces this process with a program that exits at the end of its input.
fn execute() -> String {
    format!("refused: {}", Command::new("cat").exec())
}

/// Forks a child that exits at the end of its input.
#[expect(unsafe_code, reason = "a fork without exec")]
fn fork() -> String {
    // SAFETY: the child makes only system calls.
    let child = unsafe { libc::fork() };
    if child != 0 {
        return child.to_string();
    }
    let mut byte = 0_u8;
    // SAFETY: `byte` has room for one byte, and outlives the call.
    while unsafe { libc::read(0, (&raw mut byte).cast(), 1) } > 0 {}
    // SAFETY: the call does not return.
    unsafe { libc::_exit(0) }
}

// --- deaths and takeovers -------------------------------------------------------

#[test]
fn g2_reference_survives_exec_and_ends_with_the_process() {
    let keepers = Keepers::new("exec");
    let (mut one, mut other) = (started(&keepers), keepers.process());
    assert_eq!(other.ask("join"), "true");
    one.begin("exec");
    // The connection of the executed program is closed, and its reference stays. The successor of a killed keeper
    // watches the program, too.
    let is_cat = |line: String| line.split(' ').next() == Some("cat");
    while !process::proc_info::command_line(one.child.id()).is_some_and(is_cat) {
        std::thread::yield_now();
    }
    assert_state(&mut other, 2, false);
    assert!(kill_keeper(&keepers.home.place));
    assert_state(&mut other, 2, false);
    drop(one);
    assert_state(&mut other, 1, false);
    assert_eq!(other.ask("remove"), "done");
}

#[test]
fn g8_forked_child_keeps_no_reference() {
    let keepers = Keepers::new("fork");
    let (mut one, mut other) = (started(&keepers), keepers.process());
    assert_eq!(other.ask("join"), "true");
    let child: u32 = one.ask("fork").parse().unwrap();
    let child = Process::open(child).unwrap();
    // Killed without closing its input, at which the child would exit.
    one.child.kill().unwrap();
    one.child.wait().unwrap();
    assert!(child.is_alive());
    assert_state(&mut other, 1, false);
    drop(one);
    assert!(child.wait(EXIT_LIMIT).unwrap());
    assert_eq!(other.ask("remove"), "done");
}

#[test]
fn g2_death_that_was_waited_for_is_counted_in_the_next_answer() {
    for keepers in [
        Keepers::new("waited"),
        #[cfg(target_os = "linux")]
        Keepers::without_pidfds("waited"),
    ] {
        let mut one = started(&keepers);
        for round in 0..40 {
            let mut other = keepers.process();
            assert_eq!(other.ask("join"), "true");
            other.child.kill().unwrap();
            other.child.wait().unwrap();
            let state = one.ask("snapshot");
            assert!(state.starts_with("clients 1,"), "round {round}: {state}");
        }
        assert_eq!(one.ask("remove"), "done");
    }
}

#[test]
fn keeper_killed_many_times_loses_nothing() {
    let keepers = Keepers::killed("many");
    let kills = Arc::clone(&keepers.killer.as_ref().unwrap().kills);
    let mut one = started(&keepers);
    let mut others = [keepers.process(), keepers.process()];
    let mut rounds = 0;
    while kills.load(Ordering::Relaxed) < 50 {
        rounds += 1;
        let mut sleeper = keepers.process();
        for other in &mut others {
            assert_eq!(other.ask("join"), "true");
        }
        assert_eq!(others[0].ask("lock"), "true");
        sleeper.begin("wait unlocked");
        assert_state(&mut one, 3, true);
        assert_eq!(others[0].ask("unlock"), "done");
        assert_eq!(sleeper.end(), "done");
        for other in &mut others {
            assert_eq!(other.ask("leave"), "true");
        }
        assert_state(&mut one, 1, false);
    }
    assert_eq!(one.ask("remove"), "done", "after {rounds} rounds");
}

/// The process of a service, which does not outlive the test.
struct Service(Process);

impl std::ops::Deref for Service {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

/// Starts a service with a supervisor. Returns its client and its process.
fn supervised<H: Harness>(harness: &H, run: &str) -> (H::Process, Service) {
    let mut actor = harness.process();
    assert_eq!(actor.ask("enter"), "true");
    assert_eq!(actor.ask("claim"), "done");
    assert_eq!(actor.ask("supervise"), "done");
    let pid: u32 = actor.ask(run).parse().unwrap();
    (actor, Service(Process::open(pid).unwrap()))
}

#[test]
fn g3_supervisor_stops_service_when_last_client_is_killed() {
    for (name, run) in [("supervised", "run 0"), ("lingering", "run 60")] {
        let keepers = Keepers::new(name);
        let stem = keepers.home.key.file_stem();
        let dir = keepers.home.key.namespace.dir();
        let files = [".json", ".tmp", ".log", ".log.1", ".failed"].map(|ending| {
            let path = dir.join(format!("{stem}{ending}"));
            fs::write(&path, "").unwrap();
            path
        });
        let (one, service) = supervised(&keepers, run);
        let mut other = keepers.process();
        assert_eq!(other.ask("join supervised"), "true");
        one.kill();
        assert_state(&mut other, 1, false);
        assert!(service.is_alive() && files.iter().all(|path| path.exists()));
        // The home checks that the object and the files are removed, and that the keeper exits.
        other.kill();
        assert!(
            service.wait(EXIT_LIMIT).unwrap(),
            "{name}: it is not stopped"
        );
    }
}

#[test]
fn g3_supervisor_dies_with_its_keeper_and_is_started_again() {
    let keepers = Keepers::new("supervisor-killed");
    let (mut one, service) = supervised(&keepers, "run 0");
    let mut other = keepers.process();
    assert!(kill_keeper(&keepers.home.place));
    assert_eq!(
        other.ask("join supervised"),
        "false",
        "no supervisor is left"
    );
    assert_eq!(other.ask("join"), "true");
    assert_eq!(other.ask("supervise"), "done");
    assert_eq!(one.ask("leave to supervisor"), "true");
    assert!(service.is_alive());
    other.kill();
    assert!(service.wait(EXIT_LIMIT).unwrap());
    one.kill();
}

#[test]
fn supervisor_of_a_removed_object_ends() {
    let keepers = Keepers::new("supervisor-removed");
    let (mut one, service) = supervised(&keepers, "run 0");
    assert_eq!(one.ask("lock"), "true");
    assert_eq!(one.ask("remove"), "done");
    assert!(
        service.is_alive(),
        "it belongs to the client that removed the object"
    );
    service.kill().unwrap();
    drop(one);
}

#[test]
fn suspended_keeper_is_continued_by_a_client_that_waits() {
    let home = Home::new("suspended");
    let object = home.object();
    let ask = |ask: &str| pollster::block_on(perform(&object, ask));
    assert_eq!(ask("enter"), "true");
    let keeper = keeper_of(&home.place).unwrap().pid();
    let signal = |signal| {
        let pid = rustix::process::Pid::from_raw(keeper as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    };
    signal(rustix::process::Signal::STOP);
    while !process::is_suspended(keeper) {
        std::thread::yield_now();
    }
    assert_eq!(ask("unlock"), "done");
    signal(rustix::process::Signal::STOP);
    let waited = object.wait_unlocked_within(Duration::from_secs(60));
    assert!(matches!(waited, Some(Ok(true))), "{waited:?}");
    assert_eq!(ask("remove"), "done");
}

/// Performs the steps of a service in this process.
fn live(home: &Home) {
    let one = home.object();
    let two = home.object();
    let ask = |object: &CountedObject, ask: &str| pollster::block_on(perform(object, ask));
    for (object, step, expected) in [
        (&one, "enter", "true"),
        (&two, "join", "false"),
        (&one, "claim", "done"),
        (&one, "announce", "done"),
        (&one, "publish", "done"),
        (&two, "join", "true"),
        (&two, "pin", "done"),
        (&two, "unpin", "true"),
        (&one, "leave", "true"),
        (&two, "leave last", "true"),
        (&two, "clear", "done"),
    ] {
        assert_eq!(ask(object, step), expected, "{step}");
    }
    let state = ask(&one, "snapshot");
    assert_eq!(
        state,
        "clients 0, locked true, pinned false, claimed true, instance false"
    );
    assert_eq!(ask(&two, "remove"), "done");
    assert_eq!(ask(&one, "snapshot"), "removed");
    assert_eq!(ask(&one, "remove"), "removed");
}

#[test]
fn keeper_that_dies_at_any_store_loses_nothing() {
    let mut stores = 0;
    loop {
        stores += 1;
        let home = Home::new("store");
        helper::tests::NEXT_DIES_AFTER.set(stores);
        helper::tests::STARTED.set(0);
        live(&home);
        if helper::tests::STARTED.get() == 1 {
            // The steps need fewer stores, so the keeper has not died.
            break;
        }
    }
    assert!(stores > 100, "only {stores} stores");
}

#[test]
fn two_sessions_of_a_process_are_counted_across_a_takeover() {
    let home = Home::new("sessions");
    let (one, two) = (home.object(), home.object());
    let ask = |object: &CountedObject, ask: &str| pollster::block_on(perform(object, ask));
    assert_eq!(ask(&one, "enter"), "true");
    assert!(kill_keeper(&home.place));
    assert_eq!(ask(&two, "unlock"), "done");
    assert_eq!(ask(&two, "join"), "true");
    assert!(kill_keeper(&home.place));
    assert_eq!(ask(&one, "leave"), "true");
    let state = ask(&two, "snapshot");
    assert!(state.starts_with("clients 1, locked false,"), "{state}");
    assert_eq!(ask(&two, "remove"), "done");
}

#[test]
fn g6_blank_object_is_forgotten_without_clients() {
    let home = Home::new("blank");
    let object = home.object();
    assert!(home.place.state.exists() && home.place.socket.exists());
    let keeper = keeper_of(&home.place).unwrap();
    // A client may die after it has cleared the object, and before it has removed these files.
    let files = crate::record::files(&home.key);
    let stem = home.key.file_stem();
    let others = [format!("{stem}.kept.log"), format!("{stem}.failed")]
        .map(|name| home.key.namespace.dir().join(name));
    for path in files.iter().chain(&others) {
        fs::write(path, "").unwrap();
    }
    drop(object);
    assert!(keeper.wait(EXIT_LIMIT).unwrap());
    assert!(!home.place.state.exists() && !home.place.socket.exists());
    assert!(!files.iter().any(|path| path.exists()));
    for path in others {
        fs::remove_file(path).expect("a file that stays after the instance");
    }
    let opened = pollster::block_on(Counted.open(&home.key, Missing::Ignore));
    assert!(opened.unwrap().is_none());
}

#[test]
fn survey_lists_claimed_services() {
    let home = Home::new("survey");
    let ask = |object: &CountedObject, ask: &str| pollster::block_on(perform(object, ask));
    let surveyed = || Counted.survey(&home.key.namespace).unwrap();
    let object = home.object();
    assert_eq!(ask(&object, "enter"), "true");
    assert_eq!(surveyed(), []);
    assert_eq!(ask(&object, "claim"), "done");
    assert_eq!(surveyed(), [home.key.digests().1]);
    let inspected = pollster::block_on(object.inspect()).unwrap();
    assert_eq!(inspected.holders, [std::process::id()]);
    assert_eq!(inspected.transition, Some(std::process::id()));
    assert!(inspected.changed_at.elapsed().unwrap() < Duration::from_secs(60));
    assert_eq!(ask(&object, "remove"), "done");
    assert_eq!(surveyed(), []);
}
