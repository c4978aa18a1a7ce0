//! The tests of the kernel contract. Each kernel must pass all of them.
//!
//! A kernel takes part with a [`Harness`], which creates processes. Each process performs the steps that it
//! is sent, by [`perform`], and can be killed. Faults that only one kernel can have are tested in the module
//! of that kernel.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::semset::{Op, Values, Wait};
use super::sim::{SetId, SimKernel, Table, TableCalls};
use super::table::Outcome;
use super::{Fault, Instance, Kernel, Lock, Missing, Native, Object, Step, Supervised};
use crate::key::ServiceKey;
use crate::name::Name;
use crate::namespace::Namespace;
use crate::process::{self, Identity};

#[cfg(unix)]
mod keepers;

/// Creates processes that share one object.
trait Harness {
    type Process: Actor;

    fn process(&self) -> Self::Process;
}

/// A process that performs the steps that it is sent.
trait Actor {
    /// Sends a step to the process, and does not wait for the answer.
    fn begin(&mut self, ask: &str);

    /// Waits for the answer.
    fn end(&mut self) -> String;

    fn ask(&mut self, ask: &str) -> String {
        self.begin(ask);
        self.end()
    }

    /// Kills the process, as SIGKILL does.
    fn kill(self);
}

fn key(name: &str, pid: u32) -> ServiceKey {
    // A kernel with files needs a directory for them.
    let dir = match cfg!(not(target_os = "linux")) {
        true => {
            let dir = std::env::temp_dir().join(format!("procref-conformance-{pid}"));
            std::fs::create_dir_all(&dir).unwrap();
            dir
        }
        false => format!("/nowhere/conformance/{pid}").into(),
    };
    let namespace = Namespace::new(
        dir,
        (0, 0),
        process::view().expect("this process can share services"),
    );
    ServiceKey::new(namespace, Name::new(name).unwrap())
}

const START_LIMIT: Duration = Duration::from_secs(300);
const STOP_LIMIT: Duration = Duration::from_millis(1234);

fn instance() -> Instance {
    Instance::plain(Identity { pid: 7, start: 9 }, 80)
}

/// Performs one step, and returns its result as text.
async fn perform(object: &impl Object, ask: &str) -> String {
    fn text<T: ToString>(step: Step<T>) -> String {
        match step {
            Ok(done) => done.to_string(),
            Err(Fault::Removed) => "removed".to_owned(),
            Err(Fault::Refused(error)) => format!("refused: {error}"),
        }
    }
    let done = |step: Step<()>| text(step.map(|()| "done"));
    match ask {
        "enter" => text(object.try_enter().await),
        "join" => text(object.join(Supervised::No).await),
        "join supervised" => text(object.join(Supervised::Yes).await),
        "rejoin" => text(rejoin(object, &instance(), 1).await),
        "rejoin the next" => text(rejoin(object, &instance(), 2).await),
        "rejoin another" => {
            let identity = Identity { pid: 7, start: 10 };
            text(rejoin(object, &Instance::plain(identity, 80), 1).await)
        }
        "lock" => text(object.try_lock().await),
        "unlock" => done(object.unlock().await),
        "unlock to supervisor" => text(object.unlock_to_supervisor().await),
        "claim" => done(object.claim().await),
        "announce" => done(object.announce(START_LIMIT).await),
        "stop" => done(object.publish_stopping(&instance(), 1, STOP_LIMIT).await),
        "limit" => text(
            object
                .snapshot()
                .await
                .map(|it| format!("{:?}", it.announced)),
        ),
        "publish" => done(object.publish(Some(&instance()), 1, Lock::Release).await),
        "clear" => done(object.publish(None, 1, Lock::Keep).await),
        "leave" => text(object.leave().await),
        "leave last" => text(object.leave_last().await),
        "leave pinned" => text(object.leave_pinned().await),
        "leave to supervisor" => text(object.leave_to_supervisor().await),
        "abandon" => text(object.abandon().await),
        "drop" => done(object.drop_reference().await),
        "pin" => done(object.pin().await),
        "unpin" => text(object.unpin().await),
        "recount 1 2" => text(object.recount(1, 2, true).await),
        "recount 2 1" => text(object.recount(2, 1, false).await),
        "remove" => done(object.remove().await),
        "wait unlocked" => done(object.wait_unlocked().await),
        "wait removed" => done(object.wait_removed().await),
        "snapshot" => text(object.snapshot().await.map(|it| {
            let instance = it.instance.is_some_and(|it| it == instance());
            format!(
                "clients {}, locked {}, pinned {}, claimed {}, instance {instance}",
                it.clients, it.locked, it.pinned, it.claimed
            )
        })),
        other => panic!("no such step: {other}"),
    }
}

async fn rejoin<O: Object>(object: &O, known: &Instance, generation: u16) -> Step<bool> {
    let kept = OnceLock::new();
    object
        .rejoin(known, generation, Supervised::No, &kept)
        .await
}

// --- the contract ---------------------------------------------------------------

fn assert_state(actor: &mut impl Actor, clients: u32, locked: bool) {
    let state = actor.ask("snapshot");
    assert!(
        state.starts_with(&format!("clients {clients}, locked {locked},")),
        "{state}"
    );
}

fn started<H: Harness>(harness: &H) -> H::Process {
    let mut actor = harness.process();
    assert_eq!(actor.ask("enter"), "true");
    assert_eq!(actor.ask("claim"), "done");
    assert_eq!(actor.ask("publish"), "done");
    actor
}

fn new_object_is_blank_and_can_only_be_entered(harness: &impl Harness) {
    let (mut one, mut other) = (harness.process(), harness.process());
    let blank = "clients 0, locked false, pinned false, claimed false, instance false";
    assert_eq!(one.ask("snapshot"), blank);
    assert_eq!(one.ask("join"), "false");
    assert_eq!(one.ask("enter"), "true");
    assert_eq!(other.ask("enter"), "false");
    assert_eq!(other.ask("lock"), "false");
    assert_eq!(other.ask("join"), "false");
    assert_eq!(one.ask("claim"), "done");
    assert_eq!(one.ask("publish"), "done");
    let ready = "clients 1, locked false, pinned false, claimed true, instance true";
    assert_eq!(other.ask("snapshot"), ready);
    assert_eq!(other.ask("join supervised"), "false");
    assert_eq!(other.ask("join"), "true");
    assert_state(&mut one, 2, false);
    assert_eq!(one.ask("remove"), "done");
}

fn g2_dead_process_holds_no_reference_and_no_lock(harness: &impl Harness) {
    let mut one = started(harness);
    let mut other = harness.process();
    assert_eq!(other.ask("join"), "true");
    assert_eq!(other.ask("lock"), "true");
    assert_state(&mut one, 2, true);
    let mut waiting = harness.process();
    waiting.begin("wait unlocked");
    other.kill();
    assert_eq!(waiting.end(), "done");
    assert_state(&mut one, 1, false);
    assert_eq!(one.ask("pin"), "done");
    one.kill();
    let rest = "clients 0, locked false, pinned true, claimed true, instance true";
    assert_eq!(waiting.ask("snapshot"), rest, "what is not held stays");
    assert_eq!(waiting.ask("remove"), "done");
}

fn announced_limit_stays_until_the_next_one(harness: &impl Harness) {
    let (mut one, mut other) = (harness.process(), harness.process());
    assert_eq!(one.ask("enter"), "true");
    assert_eq!(other.ask("limit"), "None");
    assert_eq!(one.ask("announce"), "done");
    assert_eq!(other.ask("limit"), format!("{:?}", Some(START_LIMIT)));
    let announced = "clients 1, locked true, pinned false, claimed true, instance false";
    assert_eq!(other.ask("snapshot"), announced);
    one.kill();
    assert_eq!(other.ask("limit"), format!("{:?}", Some(START_LIMIT)));
    assert_eq!(other.ask("enter"), "true");
    assert_eq!(other.ask("stop"), "done");
    assert_eq!(other.ask("limit"), format!("{:?}", Some(STOP_LIMIT)));
    let stopping = "clients 1, locked true, pinned false, claimed true, instance false";
    assert_eq!(other.ask("snapshot"), stopping, "it is another state");
    assert_eq!(other.ask("remove"), "done");
}

fn leave_fails_for_the_last_client(harness: &impl Harness) {
    let mut one = started(harness);
    let mut other = harness.process();
    assert_eq!(other.ask("join"), "true");
    assert_eq!(one.ask("leave last"), "false");
    assert_eq!(one.ask("leave to supervisor"), "false");
    assert_eq!(one.ask("leave"), "true");
    assert_eq!(other.ask("leave"), "false");
    assert_eq!(one.ask("lock"), "true");
    assert_eq!(other.ask("leave last"), "false", "it is locked");
    assert_eq!(one.ask("unlock"), "done");
    assert_eq!(other.ask("leave last"), "true");
    assert_state(&mut one, 0, true);
    assert_eq!(other.ask("clear"), "done");
    assert_eq!(other.ask("remove"), "done");
}

fn rejoin_requires_the_known_instance(harness: &impl Harness) {
    let mut one = started(harness);
    let mut other = harness.process();
    let before = one.ask("snapshot");
    for ask in ["rejoin another", "rejoin the next"] {
        assert_eq!(other.ask(ask), "false");
    }
    assert_eq!(
        one.ask("snapshot"),
        before,
        "a refused step changes nothing"
    );
    // A kernel may be unable to check the instance in one step.
    if other.ask("rejoin") == "true" {
        assert_state(&mut one, 2, false);
        assert_eq!(other.ask("leave"), "true");
    }
    assert_state(&mut one, 1, false);
    assert_eq!(one.ask("lock"), "true");
    assert_eq!(other.ask("rejoin"), "false", "it is locked");
    assert_eq!(one.ask("stop"), "done");
    assert_eq!(one.ask("unlock"), "done");
    assert_eq!(other.ask("rejoin"), "false", "the instance is stopping");
    assert_eq!(one.ask("leave last"), "true");
    assert_eq!(other.ask("rejoin"), "false", "no client is left");
    assert_eq!(one.ask("clear"), "done");
    assert_eq!(one.ask("remove"), "done");
}

fn abandon_releases_both_when_others_remain(harness: &impl Harness) {
    let mut one = started(harness);
    let mut other = harness.process();
    assert_eq!(other.ask("enter"), "true");
    assert_eq!(other.ask("abandon"), "true");
    assert_state(&mut one, 1, false);
    assert_eq!(one.ask("lock"), "true");
    assert_eq!(one.ask("abandon"), "false", "no other process holds it");
    assert_eq!(one.ask("drop"), "done");
    assert_state(&mut other, 0, true);
    assert_eq!(one.ask("remove"), "done");
}

fn leave_last_fails_while_pinned(harness: &impl Harness) {
    let mut one = started(harness);
    assert_eq!(one.ask("unpin"), "false");
    assert_eq!(one.ask("leave pinned"), "false");
    assert_eq!(one.ask("pin"), "done");
    assert_eq!(one.ask("pin"), "done");
    assert_eq!(one.ask("leave last"), "false");
    assert_eq!(one.ask("leave pinned"), "true");
    assert_state(&mut one, 0, false);
    assert_eq!(one.ask("enter"), "true");
    assert_eq!(one.ask("unpin"), "true", "pinned twice, unpinned once");
    assert_eq!(one.ask("unpin"), "false");
    assert_eq!(one.ask("remove"), "done");
}

fn recount_requires_the_exact_count(harness: &impl Harness) {
    let mut one = started(harness);
    let mut other = harness.process();
    assert_eq!(other.ask("recount 2 1"), "false");
    assert_eq!(other.ask("recount 1 2"), "true");
    assert_eq!(other.ask("recount 1 2"), "false");
    assert_eq!(one.ask("lock"), "true");
    assert_eq!(other.ask("recount 2 1"), "true");
    assert_eq!(other.ask("recount 1 2"), "false", "it is locked");
    assert_eq!(one.ask("unlock"), "done");
    assert_eq!(other.ask("recount 1 2"), "true");
    other.kill();
    assert_state(&mut one, 1, false);
    assert_eq!(one.ask("remove"), "done");
}

fn removed_object_fails_every_step_of_every_process(harness: &impl Harness) {
    let mut one = started(harness);
    let mut sleepers = [harness.process(), harness.process()];
    assert_eq!(one.ask("lock"), "true");
    for (sleeper, ask) in sleepers.iter_mut().zip(["wait unlocked", "wait removed"]) {
        sleeper.begin(ask);
    }
    assert_eq!(one.ask("remove"), "done");
    for sleeper in &mut sleepers {
        assert_eq!(sleeper.end(), "removed");
        for ask in [
            "snapshot", "join", "enter", "leave", "unlock", "pin", "remove",
        ] {
            assert_eq!(sleeper.ask(ask), "removed", "{ask}");
        }
    }
    let mut next = harness.process();
    let blank = "clients 0, locked false, pinned false, claimed false, instance false";
    assert_eq!(next.ask("snapshot"), blank);
    assert_eq!(next.ask("enter"), "true");
    assert_eq!(next.ask("remove"), "done");
}

macro_rules! conformance {
    ($kernel:ident, $harness:expr, $($guarantee:ident,)*) => {
        mod $kernel {
            $(#[test]
            fn $guarantee() {
                super::$guarantee(&$harness(stringify!($guarantee)));
            })*
        }
    };
}

macro_rules! on_every_kernel {
    ($($guarantee:ident,)*) => {
        conformance!(native, super::Helpers::new, $($guarantee,)*);
        conformance!(simulated, super::InMemory::new, $($guarantee,)*);
        #[cfg(unix)]
        conformance!(counted, super::keepers::Keepers::new, $($guarantee,)*);
        #[cfg(unix)]
        conformance!(counted_killed, super::keepers::Keepers::killed, $($guarantee,)*);
        #[cfg(target_os = "linux")]
        conformance!(counted_without_pidfds, super::keepers::Keepers::without_pidfds, $($guarantee,)*);
    };
}

on_every_kernel! {
    new_object_is_blank_and_can_only_be_entered,
    g2_dead_process_holds_no_reference_and_no_lock,
    announced_limit_stays_until_the_next_one,
    leave_fails_for_the_last_client,
    rejoin_requires_the_known_instance,
    abandon_releases_both_when_others_remain,
    leave_last_fails_while_pinned,
    recount_requires_the_exact_count,
    removed_object_fails_every_step_of_every_process,
}

// --- this machine's kernel, with real processes ---------------------------------

/// The variable that makes a process a helper: the test's pid, the kernel and the service's name.
const HELPER: &str = "PROCREF_TEST_CONFORMANCE";
const NATIVE: &str = "native";
/// The beginning of a helper's answers, among the output of the test runner.
const ANSWER: &str = "answer: ";

struct Helpers {
    name: &'static str,
}

impl Helpers {
    fn new(name: &'static str) -> Self {
        Self { name }
    }
}

struct Helper {
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Drop for Helpers {
    fn drop(&mut self) {
        // An earlier test that failed may have left an object.
        let key = key(self.name, std::process::id());
        if let Ok(Some(set)) = pollster::block_on(Native.open(&key, Missing::Ignore)) {
            let _ = pollster::block_on(set.remove());
        }
    }
}

impl Harness for Helpers {
    type Process = Helper;

    fn process(&self) -> Helper {
        Helper::start(
            &mut Command::new(std::env::current_exe().unwrap()),
            NATIVE,
            self.name,
        )
    }
}

impl Helper {
    /// Starts a process that uses this kernel.
    fn start(command: &mut Command, kernel: &str, name: &str) -> Self {
        let mut child = command
            .args(["--exact", "--nocapture", "kernel::conformance::helper"])
            .env(HELPER, format!("{} {kernel} {name}", std::process::id()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asks = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut helper = Self {
            child,
            asks,
            answers,
        };
        assert_eq!(helper.end(), "open");
        helper
    }
}

impl Actor for Helper {
    fn begin(&mut self, ask: &str) {
        writeln!(self.asks.as_mut().unwrap(), "{ask}").unwrap();
    }

    fn end(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line).unwrap();
            assert!(read > 0, "the helper has exited");
            if let Some((_, answer)) = line.split_once(ANSWER) {
                return answer.trim_end().to_owned();
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // A killed helper has exited. Other helpers exit at the EOF of their input.
        drop(self.asks.take());
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// Runs as a helper process. This is not a test.
#[test]
fn helper() {
    let Ok(value) = std::env::var(HELPER) else {
        return;
    };
    let mut words = value.splitn(3, ' ');
    let mut word = || words.next().unwrap();
    let (pid, kernel, name) = (word().parse().unwrap(), word(), word());
    match kernel {
        NATIVE => serve(&Native, &key(name, pid), |_, _| None),
        #[cfg(unix)]
        _ => serve(
            &super::counted::Counted,
            &keepers::key_of(name, pid),
            keepers::perform_here,
        ),
        #[cfg(windows)]
        other => panic!("no such kernel: {other}"),
    }
}

/// Performs the steps that arrive on the standard input. `further` performs those that only this kernel knows.
#[expect(clippy::print_stdout, reason = "the helper sends answers")]
fn serve<K: Kernel>(
    kernel: &K,
    key: &ServiceKey,
    further: impl Fn(&K::Object, &str) -> Option<String>,
) {
    let object = pollster::block_on(kernel.open(key, Missing::Create));
    let object = object.unwrap().unwrap();
    println!("{ANSWER}open");
    for ask in std::io::stdin().lines() {
        let ask = ask.unwrap();
        let answer = further(&object, &ask);
        let answer = answer.unwrap_or_else(|| pollster::block_on(perform(&object, &ask)));
        println!("{ANSWER}{answer}");
    }
}

// --- the simulated kernel -------------------------------------------------------

/// The simulated kernel. Its processes are numbers. A sleeping process is a thread that retries after every change.
struct InMemory {
    key: ServiceKey,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The sets, and the last pid that was assigned.
    table: Mutex<(Table, u32)>,
    changed: Condvar,
}

impl InMemory {
    fn new(name: &'static str) -> Self {
        Self {
            key: key(name, 0),
            shared: Arc::default(),
        }
    }
}

#[derive(Clone)]
struct Caller {
    shared: Arc<Shared>,
    pid: u32,
}

impl Caller {
    fn call<T>(&self, call: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.shared.table.lock().unwrap();
        let done = call(&mut table.0);
        self.shared.changed.notify_all();
        done
    }
}

impl TableCalls for Caller {
    fn pid(&self) -> u32 {
        self.pid
    }

    async fn open(&self, key: i32, missing: Missing) -> Option<SetId> {
        self.call(|table| table.open(key, missing))
    }

    async fn operate(&self, set: SetId, _: &'static str, ops: &[Op], wait: Wait) -> Outcome {
        let mut guard = self.shared.table.lock().unwrap();
        loop {
            let outcome = guard.0.operate(self.pid, set, ops, wait);
            if outcome != Outcome::Sleeps {
                self.shared.changed.notify_all();
                return outcome;
            }
            guard = self
                .shared
                .changed
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    async fn values(&self, set: SetId) -> Option<Values> {
        self.call(|table| table.values(set).copied())
    }

    async fn remove(&self, set: SetId) -> bool {
        self.call(|table| table.remove(set))
    }

    async fn sleepers(&self, _: SetId, _: u16) -> Option<u32> {
        Some(0)
    }

    async fn last_pid(&self, set: SetId, slot: u16) -> Option<u32> {
        self.call(|table| table.last_pid(set, slot))
    }
}

type SimObject = <SimKernel<Caller> as Kernel>::Object;

struct Simulated {
    caller: Caller,
    object: Arc<SimObject>,
    answer: Option<JoinHandle<String>>,
}

impl Harness for InMemory {
    type Process = Simulated;

    fn process(&self) -> Simulated {
        let pid = {
            let mut table = self.shared.table.lock().unwrap();
            table.1 += 1;
            table.1
        };
        let caller = Caller {
            shared: Arc::clone(&self.shared),
            pid,
        };
        let opened = pollster::block_on(SimKernel(caller.clone()).open(&self.key, Missing::Create));
        Simulated {
            caller,
            object: Arc::new(opened.unwrap().unwrap()),
            answer: None,
        }
    }
}

impl Actor for Simulated {
    fn begin(&mut self, ask: &str) {
        let (object, ask) = (Arc::clone(&self.object), ask.to_owned());
        let perform = move || pollster::block_on(perform(object.as_ref(), &ask));
        self.answer = Some(std::thread::spawn(perform));
    }

    fn end(&mut self) -> String {
        self.answer.take().unwrap().join().unwrap()
    }

    fn kill(self) {
        self.caller.call(|table| table.end_process(self.caller.pid));
    }
}
