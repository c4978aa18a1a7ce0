//! Somebody dies, alone or while two others are in the middle of an acquire.

use std::cell::RefCell;
use std::path::Path;

use procref::{CrashPoint, CrashSite};
use procref_testkit::actor::Pending;
use procref_testkit::observe::{Identity, supervisors_of};
use procref_testkit::protocol::{Command, ServiceSpec, Via};
use procref_testkit::{Actor, Scene, deadline, kernel, scene};
use rustix::process::Signal;

use crate::scenarios::{Kind, LOCK, Way, kill_supervisors};

/// When the others begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Acquiring,
    Leaving,
    /// When the clients are gone.
    Idle,
    /// When it fits.
    Else,
}

/// The others wait for the lock when somebody dies who has it: he is suspended at this step until they do.
/// `None`: they begin, and it is theirs who comes first.
pub type Gate = Option<&'static str>;

/// A death, and what happens around it.
pub struct Flight {
    pub scene: Scene,
    pub spec: ServiceSpec,
    key: i32,
    holder: Option<Actor>,
    /// Nobody, or two.
    others: Vec<Actor>,
    meeting: (Phase, Gate),
    requests: RefCell<Vec<Pending>>,
}

impl Flight {
    /// Takes somebody to the step, and looks at what is left when he has died there.
    pub fn run(kind: Kind, point: &CrashPoint, way: Way, others: usize) {
        let _told = Told(format!(
            "{kind:?}, {}, {way:?}, with {others} others",
            point.name
        ));
        let scene = scene!();
        let spec = way.spec(kind, &scene);
        let holder = way.prepare(&scene, &spec);
        let meeting = meeting(kind, point, way);
        let mark = scene.root().join("died");
        let doomed = doomed(
            &scene,
            point,
            &mark,
            way.stop().or(meeting.1.filter(|_| others > 0)),
        );
        let key = doomed.build(&way.own_spec(&spec));
        let flight = Self {
            others: scene.clients(others, &spec),
            scene,
            spec,
            key,
            holder,
            meeting,
            requests: RefCell::default(),
        };
        way.go(&flight, &doomed);
        if others == 0 || meeting.1.is_some() {
            let what = format!("somebody dies at {}", point.name);
            wait_dead(&what, &mark);
        }
        end_what_nobody_knows_of(&flight.scene, point);
        flight.check_others(point);
        doomed.kill();
        if point.site == CrashSite::Supervisor && !mark.exists() {
            // It is going to die there yet, and whoever had come before that would be left to nobody.
            kill_supervisors(&flight.spec);
        }
        flight.end(point);
    }

    /// What the others have got, and whether it is the only one.
    fn check_others(&self, point: &CrashPoint) {
        let pending = self.requests.take();
        assert_eq!(pending.len(), self.others.len(), "{}", point.name);
        let got: Vec<_> = self.others.iter().zip(pending).collect();
        for (other, pending) in got {
            let held = other
                .finish_acquire(pending)
                .unwrap_or_else(|failure| panic!("after {}: {failure:?}", point.name));
            self.check_only(held.got.pid, point);
        }
    }

    fn check_only(&self, pid: u32, point: &CrashPoint) {
        let living: Vec<_> = self.scene.living().iter().map(|it| it.pid).collect();
        assert_eq!(living, [pid], "after {}", point.name);
    }

    /// The next client finds nothing in its way, and nothing is left after the last.
    fn end(self, point: &CrashPoint) {
        let next = self.scene.client(&self.spec);
        let held = next
            .try_acquire(Via::TokioMulti)
            .unwrap_or_else(|failure| panic!("after {}: {failure:?}", point.name));
        self.check_only(held.got.pid, point);
        for gone in self.holder.iter().chain(&self.others) {
            gone.kill();
        }
        assert_eq!(next.count(), 1, "after {}", point.name);
        next.unpin(Via::TokioMulti);
        if self.spec.keep_orphan {
            next.call(Command::DropAll);
        } else {
            next.kill();
        }
        self.scene.wait_removed(&self.spec, self.key);
    }

    /// The others begin, if it is their time. `doomed` is whom they meet.
    pub fn meet(&self, phase: Phase, doomed: Identity) {
        if phase != self.meeting.0 || self.others.is_empty() {
            return;
        }
        if self.meeting.1.is_none() {
            return self.begin();
        }
        deadline::until_true("who dies has come to the gate", || {
            assert!(doomed.is_live(), "it died before that");
            doomed.is_suspended()
        });
        self.begin();
        let waiting = u32::try_from(self.others.len()).expect("the number is small");
        self.scene.wait_sleepers(self.key, waiting);
        doomed.signal(Signal::CONT);
    }

    /// The others begin.
    pub fn begin(&self) {
        let mut requests = self.requests.borrow_mut();
        if requests.is_empty() {
            let begin = |other: &Actor| other.begin_acquire(Via::TokioMulti);
            requests.extend(self.others.iter().map(begin));
        }
    }

    pub fn value(&self, slot: usize) -> Option<u32> {
        kernel::find(self.key)?.value(slot).ok()
    }

    pub fn wait_unlocked(&self) {
        deadline::until_true("the start is over", || {
            self.value(LOCK).is_none_or(|value| value == 0) || !self.requests.borrow().is_empty()
        });
    }

    /// Waits for the end of a supervisor, which stays where others hold the service by now, unless it
    /// was at the gate.
    pub fn wait_end_unless_others(&self, supervisor: Identity) {
        if self.others.is_empty() || self.meeting.1.is_some() {
            supervisor.wait_exit();
        }
    }

    /// Everybody who holds it, but for the others.
    pub fn kill_all(&self, clients: &[&Actor]) {
        for client in clients.iter().copied().chain(&self.holder) {
            client.identity().kill();
        }
        for client in clients {
            client.wait_end();
        }
        if self.others.is_empty() {
            deadline::until_true("their supervisors end", || {
                supervisors_of(&self.spec.name).is_empty()
            });
        }
    }
}

/// Where it was that a test failed.
struct Told(String);

impl Drop for Told {
    #[expect(clippy::print_stderr, reason = "shown by the test harness")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was: {}", self.0);
        }
    }
}

/// Waits until somebody has left his pid, and is dead.
fn wait_dead(what: &str, mark: &Path) {
    let pid = deadline::until(what, || {
        let bytes = std::fs::read(mark).ok()?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    });
    if let Some(who) = Identity::of(pid) {
        who.wait_exit();
    }
}

fn doomed(scene: &Scene, point: &CrashPoint, mark: &Path, gate: Gate) -> Actor {
    let mark = mark.to_string_lossy();
    let mut variables = vec![
        ("PROCREF_CRASH_POINT", point.name),
        ("PROCREF_CRASH_MARK", &*mark),
    ];
    variables.extend(gate.map(|gate| ("PROCREF_SUSPEND_POINT", gate)));
    scene.actor_with_env(&variables)
}

/// What a callback has spawned nobody knows of until it is published: the one gap, which a command has
/// not.
pub fn is_gap(point: &CrashPoint) -> bool {
    matches!(point.name, "CalledBack" | "ReplacedEnded")
}

pub fn end_what_nobody_knows_of(scene: &Scene, point: &CrashPoint) {
    if is_gap(point) {
        for stray in scene.living() {
            stray.kill();
            stray.wait_exit();
        }
    }
}

/// When two others come in, so that they are in the middle when somebody dies at this step.
fn meeting(kind: Kind, point: &CrashPoint, way: Way) -> (Phase, Gate) {
    use Phase::{Acquiring, Idle, Leaving};
    match (way, point.name) {
        (_, "Entered" | "Locked") => (Acquiring, None),
        (
            Way::Alone | Way::Bereft | Way::StopsByCallback | Way::Stubborn,
            "LookedAsLast" | "PublishedStopping" | "StopCalledBack" | "AskedToEnd" | "Killed"
            | "ServiceEnded" | "PublishedNone" | "RecordRemoved" | "SetRemoved",
        ) => (Leaving, Some("LeftLast")),
        (
            Way::Alone
            | Way::Beside
            | Way::Bereft
            | Way::BereftBeside
            | Way::Warm
            | Way::Pins
            | Way::PinsBereft
            | Way::Unpins,
            "LeftLast" | "Left" | "LeftToSupervisor" | "LeftPinned" | "Pinned" | "UnpinnedByHolder",
        ) => (Leaving, None),
        (Way::Killed | Way::KilledWarm, "FoundIdle" | "LingerOver") => (Idle, None),
        (Way::Killed | Way::KilledWarm, _) => (Idle, Some("FoundIdle")),
        (Way::Alone | Way::Fails | Way::Unsupervised, _) => (Acquiring, Some("Entered")),
        (Way::FailsPinned | Way::FailsBeside | Way::NotReadyBeside, _) => match (kind, way) {
            // A supervisor is there still, so it joins first, and finds out then.
            (Kind::Callback, Way::FailsBeside | Way::NotReadyBeside) => (Acquiring, Some("Locked")),
            _ => (Acquiring, Some("Entered")),
        },
        (Way::Ill | Way::IllReplaced | Way::FailsHolding, _) => (Acquiring, Some("Locked")),
        (Way::StopsOnDemand, "EnteredToStop") => (Leaving, None),
        // Whoever holds it by then loses it, which is what was asked for.
        (Way::StopsOnDemand, _) => (Leaving, Some("EnteredToStop")),
        (
            Way::ServiceDies | Way::ServiceAndHolderDie | Way::TwoSupervisors | Way::LeavesLocked,
            _,
        ) => (Phase::Else, None),
        _ => (Acquiring, None),
    }
}
