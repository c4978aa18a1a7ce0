//! Runs one scenario to one crash point: a process dies there, alone or while two other clients are
//! in the middle of an acquire.

use std::cell::RefCell;
use std::path::Path;

use procref::{CrashPoint, CrashSite};
use procref_testkit::actor::Pending;
use procref_testkit::observe::{Identity, supervisors_of};
use procref_testkit::protocol::{Acquired, Command, ServiceSpec, Via};
use procref_testkit::{Actor, Scene, deadline, kernel, scene};
use rustix::process::Signal;

use crate::scenarios::{Kind, LOCK, Scenario, kill_supervisors};

/// The moment at which the other clients begin to acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Acquiring,
    Leaving,
    /// After the last client has exited.
    Idle,
    /// When the scenario calls [`InFlightCrash::begin_others`].
    Explicit,
}

/// The step at which the crashing process, which has the lock, is suspended until the other clients
/// wait for the lock. `None` if the other clients only begin and race with the crashing process.
pub type SuspendPoint = Option<&'static str>;

/// A crash of one process, and the clients that are in flight at that time.
pub struct InFlightCrash {
    pub scene: Scene,
    pub spec: ServiceSpec,
    scenario: Scenario,
    key: i32,
    holder: Option<Actor>,
    /// Either no clients or two clients.
    others: Vec<Actor>,
    arrival: (Phase, SuspendPoint),
    requests: RefCell<Vec<Pending>>,
}

impl InFlightCrash {
    /// Lets a process die at `point`, and checks that the other clients and the next one work.
    pub fn run(kind: Kind, point: &CrashPoint, scenario: Scenario, others: usize) {
        let _context = PrintOnPanic(format!(
            "{kind:?}, {}, {scenario:?}, with {others} others",
            point.name
        ));
        let scene = scene!();
        let spec = scenario.spec(kind, &scene);
        let holder = scenario.prepare_holder(&scene, &spec);
        let arrival = arrival(point, scenario);
        let mark = scene.root().join("died");
        let crashing = crashing_actor(
            &scene,
            point,
            &mark,
            scenario
                .suspend_point()
                .or(arrival.1.filter(|_| others > 0)),
        );
        let key = crashing.build(&scenario.crashing_spec(&spec));
        let crash = Self {
            others: scene.clients(others, &spec),
            scene,
            spec,
            scenario,
            key,
            holder,
            arrival,
            requests: RefCell::default(),
        };
        scenario.run(&crash, &crashing);
        if others == 0 || arrival.1.is_some() {
            let what = format!("a process dies at {}", point.name);
            wait_crashed(&what, &mark);
        }
        kill_unknown_services(&crash.scene, point);
        crash.check_others(point);
        crashing.kill();
        if point.site == CrashSite::Supervisor && !mark.exists() {
            // The supervisor will still die at the point. A client that joined before that would
            // then have no supervisor.
            kill_supervisors(&crash.spec);
        }
        crash.finish(point);
    }

    /// Asserts that the other clients have acquired the only instance.
    fn check_others(&self, point: &CrashPoint) {
        let pending = self.requests.take();
        assert_eq!(pending.len(), self.others.len(), "{}", point.name);
        let got: Vec<_> = self.others.iter().zip(pending).collect();
        for (other, pending) in got {
            let held = other
                .finish_acquire(pending)
                .unwrap_or_else(|failure| panic!("after {}: {failure:?}", point.name));
            self.assert_only_instance(&held.got, point);
        }
    }

    fn assert_only_instance(&self, got: &Acquired, point: &CrashPoint) {
        let living: Vec<_> = self.scene.living().iter().map(|it| it.pid).collect();
        assert_eq!(living, [got.pid], "after {}", point.name);
        if self.scenario == Scenario::Notifies {
            let sent = [("token".to_owned(), "secret".to_owned())];
            assert_eq!(got.metadata, sent, "after {}", point.name);
        }
    }

    /// Asserts that the next client works, and that nothing is left after the last client.
    fn finish(self, point: &CrashPoint) {
        let next = self.scene.client(&self.spec);
        let held = next
            .try_acquire(Via::TokioMulti)
            .unwrap_or_else(|failure| panic!("after {}: {failure:?}", point.name));
        self.assert_only_instance(&held.got, point);
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

    /// Begins the acquires of the other clients if they are due in this phase. `crashing` is the
    /// process that will die.
    pub fn begin_others_in(&self, phase: Phase, crashing: Identity) {
        if phase != self.arrival.0 || self.others.is_empty() {
            return;
        }
        if self.arrival.1.is_none() {
            return self.begin_others();
        }
        deadline::until_true("the crashing process is suspended", || {
            assert!(
                crashing.is_live(),
                "the process died before it was suspended"
            );
            crashing.is_suspended()
        });
        self.begin_others();
        if kernel::is_keeper() && supervisors_of(&self.spec.name).contains(&crashing) {
            // No client can sleep, because a suspended keeper does not answer. One of them continues it.
            return deadline::until_true("a client continues the keeper", || {
                !crashing.is_suspended()
            });
        }
        let waiting = u32::try_from(self.others.len()).expect("the number is small");
        self.scene.wait_sleepers(self.key, waiting);
        crashing.signal(Signal::CONT);
    }

    /// Begins the acquires of the other clients, once.
    pub fn begin_others(&self) {
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
        deadline::until_true("the lock is free", || {
            self.value(LOCK).is_none_or(|value| value == 0) || !self.requests.borrow().is_empty()
        });
    }

    /// Waits until a supervisor exits. The supervisor may stay if the other clients already hold
    /// the service, unless it was suspended until they waited.
    pub fn wait_exit_unless_shared(&self, supervisor: Identity) {
        if self.others.is_empty() || self.arrival.1.is_some() {
            supervisor.wait_exit();
        }
    }

    /// Kills these clients and the holder, but not the other clients.
    pub fn kill_all(&self, clients: &[&Actor]) {
        for client in clients.iter().copied().chain(&self.holder) {
            client.identity().kill();
        }
        for client in clients {
            client.wait_end();
        }
        if self.others.is_empty() {
            deadline::until_true("the supervisors exit", || {
                supervisors_of(&self.spec.name).is_empty()
            });
        }
    }
}

/// Prints its text if the thread panics, so that a failure names its scenario.
struct PrintOnPanic(String);

impl Drop for PrintOnPanic {
    #[expect(clippy::print_stderr, reason = "shown by the test harness")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed scenario: {}", self.0);
        }
    }
}

/// Waits until the crashing process has written its pid to `mark` and is dead.
pub fn wait_crashed(what: &str, mark: &Path) {
    let pid = deadline::until(what, || {
        let bytes = std::fs::read(mark).ok()?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    });
    if let Some(process) = Identity::of(pid) {
        process.wait_exit();
    }
}

fn crashing_actor(
    scene: &Scene,
    point: &CrashPoint,
    mark: &Path,
    suspend_point: SuspendPoint,
) -> Actor {
    let mark = mark.to_string_lossy();
    let mut variables = vec![
        ("PROCREF_CRASH_POINT", point.name),
        ("PROCREF_CRASH_MARK", &*mark),
    ];
    variables.extend(suspend_point.map(|step| ("PROCREF_SUSPEND_POINT", step)));
    scene.actor_with_env(&variables)
}

/// Returns `true` if a callback's service is running at this point but not yet published. At this time, no
/// other process can know the service. A command does not have this gap.
pub fn is_unknown_service_gap(point: &CrashPoint) -> bool {
    matches!(point.name, "CalledBack" | "ReplacedEnded")
}

pub fn kill_unknown_services(scene: &Scene, point: &CrashPoint) {
    if is_unknown_service_gap(point) {
        for stray in scene.living() {
            stray.kill();
            stray.wait_exit();
        }
    }
}

/// Returns when the two other clients must begin, so that they are in the middle of an acquire when
/// the process dies at `point`.
fn arrival(point: &CrashPoint, scenario: Scenario) -> (Phase, SuspendPoint) {
    use Phase::{Acquiring, Idle, Leaving};
    match (scenario, point.name) {
        (_, "Entered" | "Locked") => (Acquiring, None),
        (
            Scenario::Alone
            | Scenario::SupervisorKilled
            | Scenario::StopsByCallback
            | Scenario::IgnoresSigterm,
            "LookedAsLast" | "PublishedStopping" | "StopCalledBack" | "AskedToEnd" | "Killed"
            | "ServiceEnded" | "PublishedNone" | "RecordRemoved" | "SetRemoved",
        ) => (Leaving, Some("LeftLast")),
        (
            Scenario::Alone
            | Scenario::Beside
            | Scenario::SupervisorKilled
            | Scenario::SupervisorKilledBeside
            | Scenario::Lingering
            | Scenario::Pins
            | Scenario::PinsSupervisorKilled
            | Scenario::Unpins,
            "LeftLast" | "Left" | "LeftToSupervisor" | "LeftPinned" | "Pinned" | "UnpinnedByHolder",
        ) => (Leaving, None),
        (Scenario::ClientKilled | Scenario::LingeringClientKilled, "FoundIdle" | "LingerOver") => {
            (Idle, None)
        }
        (Scenario::ClientKilled | Scenario::LingeringClientKilled, _) => (Idle, Some("FoundIdle")),
        (
            Scenario::Alone | Scenario::StartFails | Scenario::Unsupervised | Scenario::Notifies,
            _,
        ) => (Acquiring, Some("Entered")),
        (
            Scenario::StartFailsPinned | Scenario::StartFailsBeside | Scenario::OnReadyFailsBeside,
            _,
        ) => match scenario {
            // A supervisor still exists, so the client joins first and then finds the dead
            // instance.
            Scenario::StartFailsBeside | Scenario::OnReadyFailsBeside => {
                (Acquiring, Some("Locked"))
            }
            _ => (Acquiring, Some("Entered")),
        },
        (Scenario::Unhealthy | Scenario::UnhealthyReplaced | Scenario::RestartFails, _) => {
            (Acquiring, Some("Locked"))
        }
        (Scenario::StopsOnDemand, "EnteredToStop") => (Leaving, None),
        // A client that already holds the service loses the instance, as a forced stop must do.
        (Scenario::StopsOnDemand, _) => (Leaving, Some("EnteredToStop")),
        (
            Scenario::ServiceDies
            | Scenario::ServiceAndHolderDie
            | Scenario::TwoSupervisors
            | Scenario::ReleasesWhileLocked,
            _,
        ) => (Phase::Explicit, None),
        _ => (Acquiring, None),
    }
}
