//! What every kernel has to do, whichever it is: one set of tests, run on each.
//!
//! A kernel takes part by a [`Harness`]: something that makes processes, each of which does what it is asked
//! by [`perform`], and can be killed. What only one kernel can do wrong is tested beside that kernel.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::semset::{Op, Values, Wait};
use super::sim::{Outcome, SetId, SimKernel, Table, TableCalls};
use super::{Fault, Instance, Kernel, Lock, Missing, Native, Object, Step, Supervised};
use crate::key::ServiceKey;
use crate::name::Name;
use crate::namespace::Namespace;
use crate::process::{self, Identity};

/// Makes processes that share one object.
trait Harness {
    type Process: Actor;

    fn process(&self) -> Self::Process;
}

/// A process that does what it is asked.
trait Actor {
    /// Asks it for a step, and does not wait for the answer.
    fn begin(&mut self, ask: &str);

    /// The answer.
    fn end(&mut self) -> String;

    fn ask(&mut self, ask: &str) -> String {
        self.begin(ask);
        self.end()
    }

    /// SIGKILL, or what is like it.
    fn kill(self);
}

fn key(name: &str, pid: u32) -> ServiceKey {
    // Where a kernel has its locks in a file, there has to be a directory for it.
    let dir = match cfg!(windows) {
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

/// One step, and what came of it in words.
async fn perform(object: &impl Object, ask: &str) -> String {
    fn told<T: ToString>(step: Step<T>) -> String {
        match step {
            Ok(done) => done.to_string(),
            Err(Fault::Removed) => "removed".to_owned(),
            Err(Fault::Refused(error)) => format!("refused: {error}"),
        }
    }
    let done = |step: Step<()>| told(step.map(|()| "done"));
    match ask {
        "enter" => told(object.try_enter().await),
        "join" => told(object.join(Supervised::No).await),
        "join supervised" => told(object.join(Supervised::Yes).await),
        "lock" => told(object.try_lock().await),
        "unlock" => done(object.unlock().await),
        "unlock to supervisor" => told(object.unlock_to_supervisor().await),
        "claim" => done(object.claim().await),
        "announce" => done(object.announce(START_LIMIT).await),
        "stop" => done(object.publish_stopping(&instance(), 1, STOP_LIMIT).await),
        "limit" => told(
            object
                .snapshot()
                .await
                .map(|it| format!("{:?}", it.announced)),
        ),
        "publish" => done(object.publish(Some(&instance()), 1, Lock::Release).await),
        "clear" => done(object.publish(None, 1, Lock::Keep).await),
        "leave" => told(object.leave().await),
        "leave last" => told(object.leave_last().await),
        "leave pinned" => told(object.leave_pinned().await),
        "leave to supervisor" => told(object.leave_to_supervisor().await),
        "abandon" => told(object.abandon().await),
        "drop" => done(object.drop_reference().await),
        "pin" => done(object.pin().await),
        "unpin" => told(object.unpin().await),
        "recount 1 2" => told(object.recount(1, 2, true).await),
        "recount 2 1" => told(object.recount(2, 1, false).await),
        "remove" => done(object.remove().await),
        "wait unlocked" => done(object.wait_unlocked().await),
        "wait removed" => done(object.wait_removed().await),
        "look" => told(object.snapshot().await.map(|it| {
            let instance = it.instance.is_some_and(|it| it == instance());
            format!(
                "clients {}, locked {}, pinned {}, claimed {}, instance {instance}",
                it.clients, it.locked, it.pinned, it.claimed
            )
        })),
        other => panic!("no such step: {other}"),
    }
}

// --- what has to hold -----------------------------------------------------------

fn looks(actor: &mut impl Actor, clients: u32, locked: bool) {
    let look = actor.ask("look");
    assert!(
        look.starts_with(&format!("clients {clients}, locked {locked},")),
        "{look}"
    );
}

fn started<H: Harness>(harness: &H) -> H::Process {
    let mut actor = harness.process();
    assert_eq!(actor.ask("enter"), "true");
    assert_eq!(actor.ask("claim"), "done");
    assert_eq!(actor.ask("publish"), "done");
    actor
}

fn a_new_object_is_blank_and_can_only_be_entered(harness: &impl Harness) {
    let (mut one, mut other) = (harness.process(), harness.process());
    let blank = "clients 0, locked false, pinned false, claimed false, instance false";
    assert_eq!(one.ask("look"), blank);
    assert_eq!(one.ask("join"), "false");
    assert_eq!(one.ask("enter"), "true");
    assert_eq!(other.ask("enter"), "false");
    assert_eq!(other.ask("lock"), "false");
    assert_eq!(other.ask("join"), "false");
    assert_eq!(one.ask("claim"), "done");
    assert_eq!(one.ask("publish"), "done");
    let ready = "clients 1, locked false, pinned false, claimed true, instance true";
    assert_eq!(other.ask("look"), ready);
    assert_eq!(other.ask("join supervised"), "false");
    assert_eq!(other.ask("join"), "true");
    looks(&mut one, 2, false);
    assert_eq!(one.ask("remove"), "done");
}

fn a_dead_process_holds_neither_reference_nor_lock(harness: &impl Harness) {
    let mut one = started(harness);
    let mut other = harness.process();
    assert_eq!(other.ask("join"), "true");
    assert_eq!(other.ask("lock"), "true");
    looks(&mut one, 2, true);
    let mut waiting = harness.process();
    waiting.begin("wait unlocked");
    other.kill();
    assert_eq!(waiting.end(), "done");
    looks(&mut one, 1, false);
    assert_eq!(one.ask("pin"), "done");
    one.kill();
    let rest = "clients 0, locked false, pinned true, claimed true, instance true";
    assert_eq!(waiting.ask("look"), rest, "what is not held stays");
    assert_eq!(waiting.ask("remove"), "done");
}

fn an_announced_limit_stays_until_the_next_one(harness: &impl Harness) {
    let (mut one, mut other) = (harness.process(), harness.process());
    assert_eq!(one.ask("enter"), "true");
    assert_eq!(other.ask("limit"), "None");
    assert_eq!(one.ask("announce"), "done");
    assert_eq!(other.ask("limit"), format!("{:?}", Some(START_LIMIT)));
    let announced = "clients 1, locked true, pinned false, claimed true, instance false";
    assert_eq!(other.ask("look"), announced);
    one.kill();
    assert_eq!(other.ask("limit"), format!("{:?}", Some(START_LIMIT)));
    assert_eq!(other.ask("enter"), "true");
    assert_eq!(other.ask("stop"), "done");
    assert_eq!(other.ask("limit"), format!("{:?}", Some(STOP_LIMIT)));
    let stopping = "clients 1, locked true, pinned false, claimed true, instance false";
    assert_eq!(other.ask("look"), stopping, "it is another state");
    assert_eq!(other.ask("remove"), "done");
}

fn leaving_tells_the_last_from_the_others(harness: &impl Harness) {
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
    looks(&mut one, 0, true);
    assert_eq!(other.ask("clear"), "done");
    assert_eq!(other.ask("remove"), "done");
}

fn abandon_gives_back_both_where_others_remain(harness: &impl Harness) {
    let mut one = started(harness);
    let mut other = harness.process();
    assert_eq!(other.ask("enter"), "true");
    assert_eq!(other.ask("abandon"), "true");
    looks(&mut one, 1, false);
    assert_eq!(one.ask("lock"), "true");
    assert_eq!(one.ask("abandon"), "false", "nobody else holds it");
    assert_eq!(one.ask("drop"), "done");
    looks(&mut other, 0, true);
    assert_eq!(one.ask("remove"), "done");
}

fn a_pinned_service_has_no_last_leaver(harness: &impl Harness) {
    let mut one = started(harness);
    assert_eq!(one.ask("unpin"), "false");
    assert_eq!(one.ask("leave pinned"), "false");
    assert_eq!(one.ask("pin"), "done");
    assert_eq!(one.ask("pin"), "done");
    assert_eq!(one.ask("leave last"), "false");
    assert_eq!(one.ask("leave pinned"), "true");
    looks(&mut one, 0, false);
    assert_eq!(one.ask("enter"), "true");
    assert_eq!(one.ask("unpin"), "true", "pinned twice, unpinned once");
    assert_eq!(one.ask("unpin"), "false");
    assert_eq!(one.ask("remove"), "done");
}

fn recount_goes_from_exactly_one_count_to_another(harness: &impl Harness) {
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
    looks(&mut one, 1, false);
    assert_eq!(one.ask("remove"), "done");
}

fn a_removed_object_is_gone_for_everybody(harness: &impl Harness) {
    let mut one = started(harness);
    let mut sleepers = [harness.process(), harness.process()];
    assert_eq!(one.ask("lock"), "true");
    for (sleeper, ask) in sleepers.iter_mut().zip(["wait unlocked", "wait removed"]) {
        sleeper.begin(ask);
    }
    assert_eq!(one.ask("remove"), "done");
    for sleeper in &mut sleepers {
        assert_eq!(sleeper.end(), "removed");
        for ask in ["look", "join", "enter", "leave", "unlock", "pin", "remove"] {
            assert_eq!(sleeper.ask(ask), "removed", "{ask}");
        }
    }
    let mut next = harness.process();
    let blank = "clients 0, locked false, pinned false, claimed false, instance false";
    assert_eq!(next.ask("look"), blank);
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
    };
}

on_every_kernel! {
    a_new_object_is_blank_and_can_only_be_entered,
    a_dead_process_holds_neither_reference_nor_lock,
    an_announced_limit_stays_until_the_next_one,
    leaving_tells_the_last_from_the_others,
    abandon_gives_back_both_where_others_remain,
    a_pinned_service_has_no_last_leaver,
    recount_goes_from_exactly_one_count_to_another,
    a_removed_object_is_gone_for_everybody,
}

// --- this machine's kernel: real processes ------------------------------------------------------

/// What a helper process is told that it is one by: the service's name and the test's pid.
const HELPER: &str = "PROCREF_TEST_CONFORMANCE";
/// What its answers begin with, among what the test runner prints.
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
        // What a test that has failed leaves.
        let key = key(self.name, std::process::id());
        if let Ok(Some(set)) = pollster::block_on(Native.open(&key, Missing::Ignore)) {
            let _ = pollster::block_on(set.remove());
        }
    }
}

impl Harness for Helpers {
    type Process = Helper;

    fn process(&self) -> Helper {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "kernel::conformance::helper"])
            .env(HELPER, format!("{} {}", std::process::id(), self.name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asks = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut helper = Helper {
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
            assert!(read > 0, "the helper has ended");
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
        // Of one that was killed nothing is left; others end with their input.
        drop(self.asks.take());
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// Not a test by itself: what a helper process runs.
#[test]
#[expect(clippy::print_stdout, reason = "its answers")]
fn helper() {
    let Ok(told) = std::env::var(HELPER) else {
        return;
    };
    let (pid, name) = told.split_once(' ').unwrap();
    let key = key(name, pid.parse().unwrap());
    let object = pollster::block_on(Native.open(&key, Missing::Create));
    let object = object.unwrap().unwrap();
    println!("{ANSWER}open");
    for ask in std::io::stdin().lines() {
        let answer = pollster::block_on(perform(&object, &ask.unwrap()));
        println!("{ANSWER}{answer}");
    }
}

// --- the simulated kernel ----------------------------------------------------------

/// Its processes are numbers; who sleeps is a thread that looks whenever anything has happened.
struct InMemory {
    key: ServiceKey,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The sets, and the last pid.
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
