//! How a process comes to each of procref's steps.

use procref::CrashPoint;
use procref_testkit::observe::supervisors_of;
use procref_testkit::protocol::{
    Command, CounterOp, HealthOutcome, Outcome, ReadyOutcome, Reply, ServiceSpec, StopOutcome, Via,
};
use procref_testkit::{Actor, Scene, deadline, kernel};
use rustix::process::Signal;

use crate::in_flight::{Flight, Phase};

/// How a service is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Callback,
    Command,
}

/// What a client does, and what is done to it, so that somebody comes to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It acquires, and lets go.
    Alone,
    /// The same while somebody else holds it.
    Beside,
    TryJoin,
    /// The same where the instance outlives its clients, and has no supervisor.
    BesideUnsupervised,
    /// Somebody holds it, and it is ill.
    Ill,
    /// The same, and `on_recover` replaces it.
    IllReplaced,
    /// Somebody holds it, and its supervisor is dead.
    Unsupervised,
    /// Its start fails.
    Fails,
    /// Its start fails while somebody else holds a dead one.
    FailsBeside,
    /// The same, in `on_ready`.
    NotReadyBeside,
    /// It is pinned and dead, and the start fails.
    FailsPinned,
    /// It holds it, the service dies, and its next start fails.
    FailsHolding,
    /// It acquires, its supervisor is killed, and it lets go.
    Bereft,
    /// The same, while somebody else holds it.
    BereftBeside,
    /// Its `on_last_release` stops it.
    StopsByCallback,
    /// The instance ignores SIGTERM.
    Stubborn,
    /// It is killed while it holds it.
    Killed,
    /// The same of a service that is kept warm.
    KilledWarm,
    /// It leaves a service that is kept warm.
    Warm,
    /// It stops it for everybody.
    StopsOnDemand,
    /// Somebody has taken the lock, and keeps it for longer than it waits.
    LeavesLocked,
    /// It pins, and lets go.
    Pins,
    /// It pins, its supervisor is killed, and it lets go.
    PinsBereft,
    /// It pins, takes the pin away, and lets go.
    Unpins,
    /// Somebody else has left it pinned.
    UnpinsForOthers,
    /// The service dies while it is held.
    ServiceDies,
    /// The same, and its holder dies before its supervisor has left.
    ServiceAndHolderDie,
    /// Right after it has forked the supervisor, it is killed.
    StarterDies,
    /// Two supervisors are there when nobody is left, and only one is the parent of the service.
    TwoSupervisors,
    /// It collects a service whose supervisor and clients were killed.
    Collects,
    /// It collects files without a set.
    CollectsFiles,
}

/// Nobody comes there with this kind of service: then `None`.
///
/// What is not named here is reached alone, so a new point either needs no more or fails until it is
/// told how.
pub fn way(kind: Kind, point: &CrashPoint) -> Option<Way> {
    use Kind::{Callback, Command};
    use Way::*;
    let way = match (point.name, kind) {
        ("Joined", _) | ("Left", Callback) => Beside,
        ("Left", Command) => BereftBeside,
        ("TryJoined", _) => TryJoin,
        ("JoinedUnsupervised", Callback) => BesideUnsupervised,
        ("Locked" | "LeftoverStopped" | "Reannounced", _) => Ill,
        ("ReplacedEnded", Callback) => IllReplaced,
        ("AdopteeSupervised" | "Adopted", _) => Unsupervised,
        ("LeftToSupervisor", Callback) => Warm,
        ("LeftPinned", Command) => PinsBereft,
        ("LeftPinned" | "Pinned", _) => Pins,
        ("UnpinnedByHolder", _) => Unpins,
        ("ReferredToUnpin" | "Unpinned", _) => UnpinsForOthers,
        ("UnlockedForOthers", _) => FailsHolding,
        ("Abandoned", _) => FailsBeside,
        ("SettledNone" | "SettledRecordRemoved", _) => NotReadyBeside,
        ("ReferenceDropped", _) => Fails,
        ("EndReported" | "GoneReported", Command) => Fails,
        ("StartCleared", Command) => FailsBeside,
        ("ReferenceDroppedLate", Callback) => LeavesLocked,
        ("UnlockedLast", _) => FailsPinned,
        ("StopCalledBack", Callback) => StopsByCallback,
        ("Killed", Callback) => Stubborn,
        (
            "LeftLast" | "LookedAsLast" | "PublishedStopping" | "AskedToEnd" | "ServiceEnded"
            | "PublishedNone" | "RecordRemoved" | "SetRemoved",
            Command,
        ) => Bereft,
        (
            "FoundIdle"
            | "SupervisorPublishedStopping"
            | "SupervisorEndedService"
            | "SupervisorPublishedNone"
            | "SupervisorRemovedFiles"
            | "SupervisorRemovedSet",
            _,
        ) => Killed,
        ("EnteredToStop" | "UnpinnedToStop" | "ClearedToStop", _) => StopsOnDemand,
        ("Lingering" | "LingerOver", _) => KilledWarm,
        ("RestEnded" | "Resigned", Command) => ServiceDies,
        ("FoundIdleAfterEnd", Command) => ServiceAndHolderDie,
        ("SteppedDown" | "CleanedUp", Command) => StarterDies,
        ("Yielded", Command) => TwoSupervisors,
        ("GcLocked" | "GcCleared" | "GcRemovedFiles", _) => Collects,
        ("GcClaimed", _) => CollectsFiles,
        // Only a service that a callback has started.
        (
            "JoinedUnsupervised"
            | "ReplacedEnded"
            | "Supervised"
            | "CalledBack"
            | "PublishedUnready"
            | "StopCalledBack"
            | "Killed"
            | "ReferenceDroppedLate",
            Command,
        ) => return None,
        // Only one that procref has executed.
        (
            "Prepared" | "Confirmed" | "Launched" | "GateOpened" | "Executed" | "ConfirmReceived"
            | "SteppedDown" | "CleanedUp" | "ServiceForked" | "ServicePublished" | "AtGate"
            | "GatePassed" | "EndReported" | "GoneReported" | "StartSeen" | "SharedLockReleased"
            | "StartCleared" | "RestEnded" | "Resigned" | "FoundIdleAfterEnd" | "Yielded",
            Callback,
        ) => return None,
        _ => Alone,
    };
    Some(way)
}

impl Way {
    /// What everybody else wants of the service.
    pub fn spec(self, kind: Kind, scene: &Scene) -> ServiceSpec {
        let spec = match kind {
            Kind::Callback => scene.service("crash"),
            Kind::Command => scene.command("crash"),
        };
        let mut spec = scene
            .unique(spec)
            .with_health(HealthOutcome::Query)
            .with_stop_timeout_ms(2000);
        match self {
            Self::BesideUnsupervised => spec = spec.with_orphans_kept(),
            Self::Warm | Self::KilledWarm => spec = spec.with_linger_ms(30),
            Self::StopsByCallback => spec = spec.with_stop(StopOutcome::Terminate),
            Self::LeavesLocked => spec.wait_timeout_ms = Some(500),
            Self::IllReplaced => spec = spec.with_recoveries([Outcome::Replace]),
            Self::Stubborn => {
                spec = spec.with_stop_timeout_ms(100);
                spec.fake.ignore_sigterm = true;
            }
            _ => {}
        }
        spec
    }

    /// What the client that dies wants of it.
    pub fn own_spec(self, spec: &ServiceSpec) -> ServiceSpec {
        let fails = |spec: ServiceSpec| match spec.command {
            Some(_) => spec.with_args(["--exit", "3"]),
            None => spec.with_starts([Outcome::Fail("told to".to_owned())]),
        };
        let spec = spec.clone();
        match self {
            Self::Fails | Self::FailsBeside | Self::FailsPinned => fails(spec),
            Self::FailsHolding => spec.with_on_ready([ReadyOutcome::Pass, ReadyOutcome::Fail]),
            Self::NotReadyBeside => spec.with_on_ready([ReadyOutcome::Fail]),
            Self::BesideUnsupervised => ServiceSpec {
                keep_orphan: false,
                ..spec
            },
            _ => spec,
        }
    }

    /// Where a process is suspended on the way, so that something can be done meanwhile.
    pub fn stop(self) -> Option<&'static str> {
        match self {
            Self::StarterDies => Some("SupervisorForked"),
            Self::ServiceAndHolderDie => Some("RestEnded"),
            _ => None,
        }
    }

    /// Who holds the service before.
    pub fn prepare(self, scene: &Scene, spec: &ServiceSpec) -> Option<Actor> {
        let alone = !matches!(
            self,
            Self::Beside
                | Self::TryJoin
                | Self::BesideUnsupervised
                | Self::Ill
                | Self::IllReplaced
                | Self::Unsupervised
                | Self::FailsBeside
                | Self::NotReadyBeside
                | Self::FailsPinned
                | Self::BereftBeside
                | Self::UnpinsForOthers
                | Self::TwoSupervisors
                | Self::Collects
                | Self::CollectsFiles
        );
        if alone {
            return None;
        }
        let holder = scene.actor();
        let key = holder.build(spec);
        let held = holder.acquire();
        // A supervisor's share of a start ends a moment later.
        wait_unlocked(key);
        match self {
            Self::Ill | Self::IllReplaced => scene.make_unhealthy(scene.only_instance().pid),
            Self::Unsupervised | Self::TwoSupervisors => kill_supervisors(spec),
            Self::FailsBeside | Self::NotReadyBeside => kill_service(scene, spec),
            Self::FailsPinned => {
                holder.pin(&held);
                kill_service(scene, spec);
                holder.kill();
            }
            Self::UnpinsForOthers => {
                holder.pin(&held);
                holder.release(&held);
            }
            Self::Collects => {
                kill_supervisors(spec);
                holder.kill();
            }
            Self::CollectsFiles => {
                kill_supervisors(spec);
                kernel::find(key)
                    .expect("the semaphore set exists")
                    .remove()
                    .expect("remove");
                holder.kill();
            }
            _ => {}
        }
        Some(holder)
    }

    /// Does what there is to do.
    pub fn go(self, flight: &Flight, doomed: &Actor) {
        match self {
            Self::TryJoin => {
                flight.begin();
                lives_through(
                    doomed,
                    Command::TryJoin {
                        service: 0,
                        handle: 1,
                        via: Via::Pollster,
                    },
                );
            }
            Self::UnpinsForOthers => {
                flight.begin();
                lives_through(
                    doomed,
                    Command::Unpin {
                        service: 0,
                        via: Via::TokioMulti,
                    },
                );
            }
            Self::Collects | Self::CollectsFiles => {
                flight.begin();
                lives_through(
                    doomed,
                    Command::Gc {
                        dir: flight.scene.runtime_dir(),
                        rounds: 1,
                    },
                );
            }
            Self::StarterDies => {
                let _ = doomed.begin_acquire(Via::TokioMulti);
                deadline::until_true("the supervisor is counted", || {
                    doomed.identity().is_suspended() && flight.value(SUPERVISOR) == Some(1)
                });
                flight.begin();
                doomed.kill();
            }
            Self::FailsHolding => {
                doomed.acquire();
                kill_service(&flight.scene, &flight.spec);
                let again = doomed.begin_acquire(Via::TokioMulti);
                flight.meet(Phase::Acquiring, doomed.identity());
                let _ = doomed.reply_or_exit(again);
            }
            _ => self.hold(flight, doomed),
        }
    }

    /// The ways on which it gets the service, if it does not die before.
    fn hold(self, flight: &Flight, doomed: &Actor) {
        let (scene, spec) = (&flight.scene, &flight.spec);
        let pending = doomed.begin_acquire(Via::TokioMulti);
        flight.meet(Phase::Acquiring, doomed.identity());
        if !matches!(doomed.reply_or_exit(pending), Ok(Reply::Acquired(_))) {
            return;
        }
        // A supervisor's share of a start ends with the lock.
        flight.wait_unlocked();
        match self {
            Self::Pins | Self::PinsBereft | Self::Unpins => {
                flight.meet(Phase::Leaving, doomed.identity());
                // The first handle.
                if !lives_through(doomed, Command::Pin { handle: 1 }) {
                    return;
                }
                if self == Self::PinsBereft {
                    kill_supervisors(spec);
                }
                if self == Self::Unpins {
                    let unpin = Command::Unpin {
                        service: 0,
                        via: Via::TokioMulti,
                    };
                    if !lives_through(doomed, unpin) {
                        return;
                    }
                }
            }
            Self::Bereft | Self::BereftBeside => kill_supervisors(spec),
            Self::LeavesLocked => {
                let locker = scene.actor();
                locker.counter(0, &spec.name);
                let locked = locker.counter_op(0, CounterOp::TryLock);
                assert_eq!(locked, Reply::Flag(true));
                let pending = doomed.begin(Command::DropAll);
                let _ = doomed.reply_or_exit(pending);
                locker.kill();
                return flight.begin();
            }
            Self::StopsOnDemand => {
                let pending = doomed.begin_stop(true, Via::TokioMulti);
                flight.meet(Phase::Leaving, doomed.identity());
                let _ = doomed.reply_or_exit(pending);
                return;
            }
            Self::ServiceDies => {
                let supervisor = scene.only_supervisor(spec);
                let service = scene.only_instance();
                service.kill();
                service.wait_exit();
                flight.begin();
                return supervisor.wait_exit();
            }
            Self::ServiceAndHolderDie => {
                let supervisor = scene.only_supervisor(spec);
                scene.only_instance().kill();
                deadline::until_true("its supervisor is suspended", || supervisor.is_suspended());
                doomed.kill();
                flight.begin();
                supervisor.signal(Signal::CONT);
                return supervisor.wait_exit();
            }
            Self::TwoSupervisors => {
                let service = scene.only_instance();
                service.kill();
                service.wait_exit();
                let next = scene.client(spec);
                next.acquire();
                flight.begin();
                return flight.kill_all(&[doomed, &next]);
            }
            Self::Killed | Self::KilledWarm => {
                let supervisor = scene.only_supervisor(spec);
                doomed.kill();
                flight.meet(Phase::Idle, supervisor);
                // Where others have come in between, it may stay with them.
                return flight.wait_end_unless_others(supervisor);
            }
            _ => {}
        }
        let pending = doomed.begin(Command::DropAll);
        flight.meet(Phase::Leaving, doomed.identity());
        let _ = doomed.reply_or_exit(pending);
    }
}

/// Slots of the set.
pub const REFERENCES: usize = 0;
pub const LOCK: usize = 1;
const SUPERVISOR: usize = 2;

fn wait_unlocked(key: i32) {
    deadline::until_true("the lock is free", || {
        kernel::find(key).is_some_and(|set| set.value(LOCK).is_ok_and(|value| value == 0))
    });
}

/// Whether it lives to see the end of it.
fn lives_through(doomed: &Actor, command: Command) -> bool {
    let pending = doomed.begin(command);
    doomed.reply_or_exit(pending).is_ok()
}

pub fn kill_supervisors(spec: &ServiceSpec) {
    for supervisor in supervisors_of(&spec.name) {
        supervisor.kill();
        supervisor.wait_exit();
    }
}

/// And waits until a supervisor that was its parent has gone, too.
fn kill_service(scene: &Scene, spec: &ServiceSpec) {
    let service = scene.only_instance();
    let supervisors = supervisors_of(&spec.name);
    service.kill();
    service.wait_exit();
    if spec.command.is_some() {
        supervisors.iter().for_each(|parent| parent.wait_exit());
    }
}
