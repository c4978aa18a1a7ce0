//! Scenarios in which a process reaches each of procref's crash points.

use procref::{CrashPoint, CrashSite};
use procref_testkit::observe::supervisors_of;
use procref_testkit::protocol::{
    Command, CounterOp, HealthOutcome, Outcome, ReadyOutcome, ReadySpec, Reply, ServiceSpec,
    StopOutcome, Via,
};
use procref_testkit::{Actor, Scene, deadline, kernel};
use rustix::process::Signal;

use crate::in_flight::{InFlightCrash, Phase};

/// The kind of the service: the way in which it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Callback,
    Command,
}

/// The actions and events of the crashing client before a process reaches the crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// The client acquires and releases.
    Alone,
    /// The client acquires and releases while another client holds the service.
    Beside,
    TryJoin,
    /// Like `Beside`, but the instance is kept without clients and has no supervisor.
    BesideUnsupervised,
    /// Another client holds the service, which is unhealthy.
    Unhealthy,
    /// Like `Unhealthy`, and `on_recover` replaces the instance.
    UnhealthyReplaced,
    /// Another client holds the service, whose supervisor is dead.
    Unsupervised,
    /// The client's start fails.
    StartFails,
    /// The client's start fails while another client holds a dead instance.
    StartFailsBeside,
    /// Like `StartFailsBeside`, but `on_ready` fails.
    OnReadyFailsBeside,
    /// The service is pinned and dead, and the client's start fails.
    StartFailsPinned,
    /// The client holds the service, the instance dies, and the client's next start fails.
    RestartFails,
    /// The client acquires, the supervisor is killed, and the client releases.
    SupervisorKilled,
    /// Like `SupervisorKilled`, while another client holds the service.
    SupervisorKilledBeside,
    /// The client's `on_last_release` stops the service.
    StopsByCallback,
    /// The instance ignores SIGTERM.
    IgnoresSigterm,
    /// The client is killed while it holds the service.
    ClientKilled,
    /// Like `ClientKilled`, and the service lingers.
    LingeringClientKilled,
    /// The client releases a service that lingers.
    Lingering,
    /// The client stops the service by force.
    StopsOnDemand,
    /// The client releases while another process keeps the lock for longer than the client waits.
    ReleasesWhileLocked,
    /// The client pins and releases.
    Pins,
    /// The client pins, the supervisor is killed, and the client releases.
    PinsSupervisorKilled,
    /// The client pins, unpins and releases.
    Unpins,
    /// The client unpins a service that another client has pinned and released.
    UnpinsForOthers,
    /// The service dies while the client holds it.
    ServiceDies,
    /// Like `ServiceDies`, and the client dies before the supervisor has exited.
    ServiceAndHolderDie,
    /// The starter is killed right after the supervisor is registered.
    StarterKilled,
    /// Two supervisors exist when no client is left, and only one of them is the parent of the
    /// service.
    TwoSupervisors,
    /// The client runs `gc` for a service whose supervisor and clients were killed.
    CollectsService,
    /// The client runs `gc` for files without a set.
    CollectsFiles,
    /// The service sends a port and metadata when it is ready.
    Notifies,
}

/// Returns the scenario that reaches `point`, or `None` if this kind of service never reaches it.
///
/// `Alone` reaches every point that is not listed here. A new point that needs another scenario fails the
/// tests until it is listed.
pub fn scenario(kind: Kind, point: &CrashPoint) -> Option<Scenario> {
    use Kind::{Callback, Command};
    use Scenario::*;
    if point.site == CrashSite::Keeper {
        // The module `keepers` tests them.
        return None;
    }
    let scenario = match (point.name, kind) {
        ("Joined", _) | ("Left", Callback) => Beside,
        ("Left", Command) => SupervisorKilledBeside,
        ("TryJoined", _) => TryJoin,
        ("JoinedUnsupervised", Callback) => BesideUnsupervised,
        ("Locked" | "LeftoverStopped" | "Reannounced", _) => Unhealthy,
        ("ReplacedEnded", Callback) => UnhealthyReplaced,
        ("AdopteeSupervised" | "Adopted", _) => Unsupervised,
        ("LeftToSupervisor", Callback) => Lingering,
        ("LeftPinned", Command) => PinsSupervisorKilled,
        ("LeftPinned" | "Pinned", _) => Pins,
        ("UnpinnedByHolder", _) => Unpins,
        ("ReferredToUnpin" | "Unpinned", _) => UnpinsForOthers,
        ("UnlockedForOthers", _) => RestartFails,
        ("Abandoned", _) => StartFailsBeside,
        ("SettledNone" | "SettledRecordRemoved", _) => OnReadyFailsBeside,
        ("ReferenceDropped", _) => StartFails,
        ("ExitReported" | "TreeExitReported", Command) => StartFails,
        ("StartCleared", Command) => StartFailsBeside,
        ("ReferenceDroppedLate", Callback) => ReleasesWhileLocked,
        ("UnlockedLast", _) => StartFailsPinned,
        ("StopCalledBack", Callback) => StopsByCallback,
        ("Killed", Callback) => IgnoresSigterm,
        (
            "LeftLast" | "LookedAsLast" | "PublishedStopping" | "AskedToEnd" | "ServiceEnded"
            | "PublishedNone" | "RecordRemoved" | "SetRemoved",
            Command,
        ) => SupervisorKilled,
        (
            "FoundIdle"
            | "SupervisorPublishedStopping"
            | "SupervisorEndedService"
            | "SupervisorPublishedNone"
            | "SupervisorRemovedFiles"
            | "SupervisorRemovedSet",
            _,
        ) => ClientKilled,
        ("EnteredToStop" | "UnpinnedToStop" | "ClearedToStop", _) => StopsOnDemand,
        ("Lingering" | "LingerOver", _) => LingeringClientKilled,
        ("LeftoversStopped" | "Retired", Command) => ServiceDies,
        ("FoundIdleAfterExit", Command) => ServiceAndHolderDie,
        ("SteppedDown" | "CleanedUp", Command) => StarterKilled,
        ("Yielded", Command) => TwoSupervisors,
        ("GcLocked" | "GcCleared" | "GcRemovedFiles", _) => CollectsService,
        ("GcClaimed", _) => CollectsFiles,
        ("RecordedNotified", Command) => Notifies,
        // Only a service that a callback has started reaches these points.
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
        // Only a service that procref has executed reaches these points.
        (
            "Prepared" | "Confirmed" | "Launched" | "GateOpened" | "Executed" | "ConfirmReceived"
            | "SteppedDown" | "CleanedUp" | "ServiceForked" | "ServicePublished" | "AtGate"
            | "GatePassed" | "ExitReported" | "TreeExitReported" | "StartSeen"
            | "SharedLockReleased" | "StartCleared" | "LeftoversStopped" | "Retired"
            | "FoundIdleAfterExit" | "Yielded" | "RecordedNotified",
            Callback,
        ) => return None,
        _ => Alone,
    };
    Some(scenario)
}

impl Scenario {
    /// Returns the spec of all clients except the crashing one.
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
            Self::Lingering | Self::LingeringClientKilled => spec = spec.with_linger_ms(30),
            Self::StopsByCallback => spec = spec.with_stop(StopOutcome::Terminate),
            Self::ReleasesWhileLocked => spec.wait_timeout_ms = Some(500),
            Self::Notifies => {
                spec = spec
                    .with_ready(ReadySpec::NotifyPort)
                    .with_args(["--notify-line", "PROCREF_META_token=secret"]);
            }
            Self::UnhealthyReplaced => spec = spec.with_recoveries([Outcome::Replace]),
            Self::IgnoresSigterm => {
                spec = spec.with_stop_timeout_ms(100);
                spec.fake.ignore_sigterm = true;
            }
            _ => {}
        }
        spec
    }

    /// Returns the spec of the crashing client.
    pub fn crashing_spec(self, spec: &ServiceSpec) -> ServiceSpec {
        let fails = |spec: ServiceSpec| match spec.command {
            Some(_) => spec.with_args(["--exit", "3"]),
            None => spec.with_starts([Outcome::Fail("told to".to_owned())]),
        };
        let spec = spec.clone();
        match self {
            Self::StartFails | Self::StartFailsBeside | Self::StartFailsPinned => fails(spec),
            Self::RestartFails => spec.with_on_ready([ReadyOutcome::Pass, ReadyOutcome::Fail]),
            Self::OnReadyFailsBeside => spec.with_on_ready([ReadyOutcome::Fail]),
            Self::BesideUnsupervised => ServiceSpec {
                keep_orphan: false,
                ..spec
            },
            _ => spec,
        }
    }

    /// Returns the step at which a process is suspended while the scenario does something else.
    pub fn suspend_point(self) -> Option<&'static str> {
        match self {
            Self::StarterKilled => Some("SupervisorForked"),
            Self::ServiceAndHolderDie => Some("LeftoversStopped"),
            _ => None,
        }
    }

    /// Prepares the service, and returns the client that holds it before the crashing client
    /// acquires.
    pub fn prepare_holder(self, scene: &Scene, spec: &ServiceSpec) -> Option<Actor> {
        let alone = !matches!(
            self,
            Self::Beside
                | Self::TryJoin
                | Self::BesideUnsupervised
                | Self::Unhealthy
                | Self::UnhealthyReplaced
                | Self::Unsupervised
                | Self::StartFailsBeside
                | Self::OnReadyFailsBeside
                | Self::StartFailsPinned
                | Self::SupervisorKilledBeside
                | Self::UnpinsForOthers
                | Self::TwoSupervisors
                | Self::CollectsService
                | Self::CollectsFiles
        );
        if alone {
            return None;
        }
        let holder = scene.actor();
        let key = holder.build(spec);
        let held = holder.acquire();
        // The supervisor finishes its part of the start a moment later.
        wait_unlocked(key);
        match self {
            Self::Unhealthy | Self::UnhealthyReplaced => {
                scene.make_unhealthy(scene.only_instance().pid)
            }
            Self::Unsupervised | Self::TwoSupervisors => kill_supervisors(spec),
            Self::StartFailsBeside | Self::OnReadyFailsBeside => {
                kill_service(scene, || has_tree(key));
            }
            Self::StartFailsPinned => {
                holder.pin(&held);
                kill_service(scene, || has_tree(key));
                holder.kill();
            }
            Self::UnpinsForOthers => {
                holder.pin(&held);
                holder.release(&held);
            }
            Self::CollectsService => {
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

    /// Runs the scenario until the process has died.
    pub fn run(self, crash: &InFlightCrash, crashing: &Actor) {
        match self {
            Self::TryJoin => {
                crash.begin_others();
                survives(
                    crashing,
                    Command::TryJoin {
                        service: 0,
                        handle: 1,
                        via: Via::Pollster,
                    },
                );
            }
            Self::UnpinsForOthers => {
                crash.begin_others();
                survives(
                    crashing,
                    Command::Unpin {
                        service: 0,
                        via: Via::TokioMulti,
                    },
                );
            }
            Self::CollectsService | Self::CollectsFiles => {
                crash.begin_others();
                survives(
                    crashing,
                    Command::Gc {
                        dir: crash.scene.runtime_dir(),
                        rounds: 1,
                    },
                );
            }
            Self::StarterKilled => {
                let _ = crashing.begin_acquire(Via::TokioMulti);
                deadline::until_true(
                    "the supervisor is registered and the starter is suspended",
                    || crashing.identity().is_suspended() && crash.value(SUPERVISOR) == Some(1),
                );
                crash.begin_others();
                crashing.kill();
            }
            Self::RestartFails => {
                crashing.acquire();
                kill_service(&crash.scene, || crash.value(TREE) == Some(1));
                let again = crashing.begin_acquire(Via::TokioMulti);
                crash.begin_others_in(Phase::Acquiring, crashing.identity());
                let _ = crashing.reply_or_exit(again);
            }
            _ => self.run_with_reference(crash, crashing),
        }
    }

    /// Runs a scenario in which the client acquires the service, unless the client dies before
    /// that.
    fn run_with_reference(self, crash: &InFlightCrash, crashing: &Actor) {
        let (scene, spec) = (&crash.scene, &crash.spec);
        let pending = crashing.begin_acquire(Via::TokioMulti);
        crash.begin_others_in(Phase::Acquiring, crashing.identity());
        if !matches!(crashing.reply_or_exit(pending), Ok(Reply::Acquired(_))) {
            return;
        }
        // The supervisor releases the lock when its part of the start ends.
        crash.wait_unlocked();
        match self {
            Self::Pins | Self::PinsSupervisorKilled | Self::Unpins => {
                crash.begin_others_in(Phase::Leaving, crashing.identity());
                // The actor numbers its handles from 1.
                if !survives(crashing, Command::Pin { handle: 1 }) {
                    return;
                }
                if self == Self::PinsSupervisorKilled {
                    kill_supervisors(spec);
                }
                if self == Self::Unpins {
                    let unpin = Command::Unpin {
                        service: 0,
                        via: Via::TokioMulti,
                    };
                    if !survives(crashing, unpin) {
                        return;
                    }
                }
            }
            Self::SupervisorKilled | Self::SupervisorKilledBeside => kill_supervisors(spec),
            Self::ReleasesWhileLocked => {
                let locker = scene.actor();
                locker.counter(0, &spec.name);
                let locked = locker.counter_op(0, CounterOp::TryLock);
                assert_eq!(locked, Reply::Flag(true));
                let pending = crashing.begin(Command::DropAll);
                let _ = crashing.reply_or_exit(pending);
                locker.kill();
                return crash.begin_others();
            }
            Self::StopsOnDemand => {
                let pending = crashing.begin_stop(true, Via::TokioMulti);
                crash.begin_others_in(Phase::Leaving, crashing.identity());
                let _ = crashing.reply_or_exit(pending);
                return;
            }
            Self::ServiceDies => {
                let supervisor = scene.only_supervisor(spec);
                scene.kill_only_instance();
                crash.begin_others();
                return supervisor.wait_exit();
            }
            Self::ServiceAndHolderDie => {
                let supervisor = scene.only_supervisor(spec);
                scene.only_instance().kill();
                deadline::until_true("the supervisor is suspended", || supervisor.is_suspended());
                crashing.kill();
                crash.begin_others();
                supervisor.signal(Signal::CONT);
                return supervisor.wait_exit();
            }
            Self::TwoSupervisors => {
                scene.kill_only_instance();
                let next = scene.client(spec);
                next.acquire();
                crash.begin_others();
                return crash.kill_all(&[crashing, &next]);
            }
            Self::ClientKilled | Self::LingeringClientKilled => {
                let supervisor = scene.only_supervisor(spec);
                crashing.kill();
                crash.begin_others_in(Phase::Idle, supervisor);
                // If other clients have joined before that, the supervisor may stay.
                return crash.wait_exit_unless_shared(supervisor);
            }
            _ => {}
        }
        let pending = crashing.begin(Command::DropAll);
        crash.begin_others_in(Phase::Leaving, crashing.identity());
        let _ = crashing.reply_or_exit(pending);
    }
}

// Slots of the set.
pub const REFERENCES: usize = 0;
pub const LOCK: usize = 1;
pub const SUPERVISOR: usize = 2;
const TREE: usize = 3;

fn wait_unlocked(key: i32) {
    deadline::until_true("the lock is free", || {
        kernel::find(key).is_some_and(|set| set.value(LOCK).is_ok_and(|value| value == 0))
    });
}

/// Returns `true` if the client survives the command.
fn survives(crashing: &Actor, command: Command) -> bool {
    let pending = crashing.begin(command);
    crashing.reply_or_exit(pending).is_ok()
}

pub fn kill_supervisors(spec: &ServiceSpec) {
    for supervisor in supervisors_of(&spec.name) {
        supervisor.kill();
        supervisor.wait_exit();
    }
}

/// Returns `true` if a supervisor is the parent of the service's processes.
pub fn has_tree(key: i32) -> bool {
    kernel::find(key).is_some_and(|set| set.value(TREE).is_ok_and(|value| value > 0))
}

/// Kills the only instance, and waits until a supervisor that is its parent has retired.
fn kill_service(scene: &Scene, has_tree: impl Fn() -> bool) {
    scene.kill_only_instance();
    deadline::until_true("no supervisor is the parent of the service", || !has_tree());
}
