//! Two deaths, or suspensions, that only together are dangerous.

use std::fs;
use std::thread;
use std::time::Duration;

use procref_testkit::observe::{Identity, supervisors_of};
use procref_testkit::protocol::{
    Callback, Command, Event, Gate, ReadyOutcome, ReadySpec, Reply, ServiceSpec, Via,
};

use procref_testkit::{Actor, Held, Pending, Scene, deadline, kernel, scene};
use rustix::process::Signal;

use crate::scenarios::{Kind, REFERENCES, Way};

/// The key of the set, and a supervisor that is suspended at a step before it comes into place, when its
/// starter is dead.
fn late_supervisor(scene: &Scene, spec: &ServiceSpec, suspended: &str) -> (i32, Identity) {
    let suspended = format!("SupervisorForked,{suspended}");
    let doomed = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", &suspended)]);
    let key = doomed.build(spec);
    let _ = doomed.begin_acquire(Via::TokioMulti);
    // The starter goes on while its attendant forks the supervisor. If it were killed before, there would be none.
    let supervisor = suspended_supervisor(spec);
    doomed.identity().kill();
    // Not by the end of its output, of which the supervisor has a copy still.
    doomed.wait_end();
    (key, supervisor)
}

fn suspended_supervisor(spec: &ServiceSpec) -> Identity {
    deadline::until("its supervisor is suspended", || {
        let mut supervisors = supervisors_of(&spec.name).into_iter();
        supervisors.find(|it| it.is_suspended())
    })
}

/// A client that holds an instance which has died, so that its supervisor is gone.
fn holder_of_a_dead_one(
    scene: &Scene,
    spec: &ServiceSpec,
    environment: &[(&str, &str)],
) -> (Actor, Held) {
    let holder = scene.actor_with_env(environment);
    holder.build(spec);
    let held = holder.acquire();
    let supervisor = scene.only_supervisor(spec);
    scene.only_instance().kill();
    supervisor.wait_exit();
    (holder, held)
}

/// Nobody but it could see to what is left then.
#[test]
fn g6_supervisor_that_steps_down_cleans_up_after_clients() {
    let scene = scene!();
    let spec = Way::Alone.spec(Kind::Command, &scene);
    let (holder, held) = holder_of_a_dead_one(&scene, &spec, &[]);

    let starter = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "SupervisorRegistered")]);
    let key = starter.build(&spec);
    let _ = starter.begin_acquire(Via::TokioMulti);
    let supervisor = suspended_supervisor(&spec);
    starter.identity().kill();
    starter.identity().wait_exit();
    holder.release(&held);
    let references = kernel::find(key).map(|set| set.value(REFERENCES).expect("read a semaphore"));
    assert_eq!(
        references,
        Some(0),
        "left to the supervisor, which is there"
    );
    supervisor.signal(Signal::CONT);
    scene.wait_removed(&spec, key);
}

/// The last client sees one, which is gone before that client has let go.
#[test]
fn g6_last_client_cleans_up_if_a_supervisor_steps_down() {
    let scene = scene!();
    let spec = Way::Alone.spec(Kind::Command, &scene);
    let suspended = [("PROCREF_SUSPEND_POINT", "LeftLast,LookedAsLast")];
    let (holder, held) = holder_of_a_dead_one(&scene, &spec, &suspended);
    let (key, supervisor) =
        late_supervisor(&scene, &spec, "SupervisorStarted,SupervisorRegistered");
    let (handle, via) = (held.handle, Via::Blocking);
    let release = holder.begin(Command::Release { handle, via });
    let client = holder.identity();
    deadline::until_true("the last client has the lock", || client.is_suspended());
    // It takes the lock for its starter's.
    supervisor.signal(Signal::CONT);
    deadline::until_true("the supervisor is in place", || supervisor.is_suspended());
    client.signal(Signal::CONT);
    deadline::until_true("the last client has seen it", || client.is_suspended());
    supervisor.signal(Signal::CONT);
    supervisor.wait_exit();
    client.signal(Signal::CONT);
    assert_eq!(holder.reply(release), Reply::Done);
    scene.wait_removed(&spec, key);
}

/// It comes into place only when its starter is dead and the lock somebody else's, who waits for its own
/// supervisor, which waits for this one to go.
#[test]
fn g1_supervisor_shares_the_lock_only_with_its_own_starter() {
    let scene = scene!();
    let spec = Way::Alone.spec(Kind::Command, &scene);
    let (key, supervisor) = late_supervisor(&scene, &spec, "SupervisorStarted");

    let next = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "Prepared")]);
    next.build(&spec);
    let pending = next.begin_acquire(Via::TokioMulti);
    deadline::until_true("the next one has the lock", || {
        next.identity().is_suspended()
    });
    supervisor.signal(Signal::CONT);
    supervisor.wait_exit();
    next.identity().signal(Signal::CONT);
    let held = next.finish_acquire(pending).expect("acquire");
    assert_eq!(held.got.pid, scene.only_instance().pid);
    assert_eq!(
        held.got.generation, 1,
        "nothing was published by the other one"
    );
    next.kill();
    scene.wait_removed(&spec, key);
}

/// A signal that comes before the sleep begins does not end it. What it stands for is not slept through.
#[test]
fn g4_service_death_right_before_its_supervisor_sleeps_is_seen() {
    let scene = scene!();
    let never = scene.root().join("never");
    let spec = scene
        .unique(scene.command("crash"))
        .with_args(["--wait-for"]);
    let spec = spec
        .with_args([never.to_string_lossy()])
        .with_start_timeout_ms(1_000_000);
    let client = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "AboutToSleep")]);
    let key = client.build(&spec);
    let pending = client.begin_acquire(Via::TokioMulti);
    deadline::until_true("the service runs", || scene.started().len() == 1);
    let supervisor = scene.only_supervisor(&spec);
    deadline::until_true("its supervisor is about to sleep", || {
        supervisor.is_suspended()
    });
    let service = scene.only_instance();
    service.kill();
    service.wait_exit();
    supervisor.signal(Signal::CONT);
    let failure = client
        .finish_acquire(pending)
        .expect_err("the service died");
    assert!(failure.text.contains("signal 9"), "{}", failure.text);
    scene.wait_removed(&spec, key);
}

/// By the time it would count itself, somebody else's service runs. It has nothing to wait for, and all its
/// dead starter had open: whoever reads from a pipe of that one would wait as long as it does.
#[test]
fn g6_supervisor_of_a_dead_starter_exits_beside_a_new_service() {
    let scene = scene!();
    let spec = Way::Alone.spec(Kind::Command, &scene);
    // As long as it is waited for an older service's processes.
    let patient = spec.clone().with_start_timeout_ms(1_000_000);
    let (key, supervisor) = late_supervisor(&scene, &patient, "SupervisorStarted");
    let next = scene.client(&spec);
    let held = next.acquire();
    supervisor.signal(Signal::CONT);
    supervisor.wait_exit();
    assert_eq!(held.got.pid, scene.only_instance().pid);
    next.kill();
    scene.wait_removed(&spec, key);
}

/// A starter does not wait for ever for a supervisor that does not react, and clears the instance. Whoever comes next
/// still gets the lock from that supervisor only.
#[test]
fn g1_leftovers_of_a_failed_start_end_before_the_next_start() {
    let scene = scene!();
    let spec = scene.unique(scene.command("left"));
    let spec = spec.with_args(["--workers", "1"]).with_stop_timeout_ms(0);
    // With nobody else about, the starter would be the last one, and remove the set.
    let (holder, _) = holder_of_a_dead_one(&scene, &spec, &[]);
    let gate = Gate::Before(Callback::OnReady);
    let failing = spec
        .clone()
        .with_on_ready([ReadyOutcome::Fail])
        .with_gates([gate]);
    let suspended = [("PROCREF_SUSPEND_POINT", "AboutToSleep,StartCleared")];
    let starter = scene.actor_with_env(&suspended);
    let key = starter.build(&failing);
    let failure = starter.begin_acquire(Via::TokioMulti);
    starter.event(&Event::Running(Callback::OnReady));
    let supervisor = suspended_supervisor(&spec);
    let worker = scene.workers()[1];

    let next = scene.client(&spec);
    let waiting = next.begin_acquire(Via::TokioMulti);
    scene.wait_sleepers(key, 1);
    starter.proceed(gate);
    starter.finish_acquire(failure).expect_err("on_ready fails");
    assert!(worker.is_live(), "nobody else ends it");
    supervisor.signal(Signal::CONT);
    deadline::until_true("the lock is given back", || supervisor.is_suspended());
    assert!(!worker.is_live(), "before the next one may begin");
    supervisor.signal(Signal::CONT);
    let held = next.finish_acquire(waiting).expect("acquire");
    assert_eq!(held.got.pid, scene.only_instance().pid);
    holder.kill();
    next.kill();
    scene.wait_removed(&spec, key);
}

/// Begins a start in which the service is suspended right before it executes its program.
fn about_to_execute(scene: &Scene, spec: &ServiceSpec) -> (i32, Actor, Pending, Identity) {
    let starter = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "GatePassed")]);
    let key = starter.build(spec);
    let pending = starter.begin_acquire(Via::TokioMulti);
    let watcher = scene.client(spec);
    let service = deadline::until("the service is about to execute it", || {
        let service = Identity::of(watcher.status().instance?)?;
        service.is_suspended().then_some(service)
    });
    (key, starter, pending, service)
}

/// On a busy machine that can take its time, and may fail yet.
#[test]
fn g4_service_is_not_ready_before_its_program_is_executed() {
    let scene = scene!();
    let mut spec = scene
        .unique(scene.command("slow"))
        .with_ready(ReadySpec::AtOnce);
    let program = vec![scene.unexecutable_file().to_string_lossy().into_owned()];
    spec.command
        .as_mut()
        .expect("the spec has a command")
        .program = Some(program);
    let (key, starter, pending, service) = about_to_execute(&scene, &spec);
    // Longer than it is waited for without a look at the process. Nothing happens meanwhile, so there is
    // nothing else to wait for.
    thread::sleep(Duration::from_millis(1500));
    assert!(!starter.has_replied(&pending));
    service.signal(Signal::CONT);
    let failure = starter
        .finish_acquire(pending)
        .expect_err("the program cannot be executed");
    assert!(failure.text.contains("xec format"), "{}", failure.text);
    scene.wait_removed(&spec, key);
}

/// It was there when the start began, and the program is not to run somewhere else.
#[test]
fn g4_working_directory_removed_during_a_start_is_an_error() {
    let scene = scene!();
    let home = scene.root().join("home");
    fs::create_dir(&home).expect("create the directory");
    let mut spec = scene.unique(scene.command("homeless"));
    spec.command.as_mut().expect("the spec has a command").dir = Some(home.clone());
    let (key, starter, pending, service) = about_to_execute(&scene, &spec);
    fs::remove_dir(&home).expect("remove the directory");
    service.signal(Signal::CONT);
    let failure = starter
        .finish_acquire(pending)
        .expect_err("the directory is gone");
    let says = format!("could not enter its working directory {}", home.display());
    assert!(failure.text.contains(&says), "{}", failure.text);
    assert!(scene.started().is_empty());
    scene.wait_removed(&spec, key);
}

#[test]
fn g4_program_not_executed_in_time_is_an_error() {
    let scene = scene!();
    let starter = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "GatePassed")]);
    let spec = scene.unique(scene.command("slow"));
    let spec = spec.with_start_timeout_ms(500).with_stop_timeout_ms(0);
    let key = starter.build(&spec);
    let failure = starter
        .try_acquire(Via::TokioMulti)
        .expect_err("the service is suspended");
    let says = "not ready within 500ms: waiting for its program to be executed";
    assert!(failure.text.contains(says), "{}", failure.text);
    scene.wait_removed(&spec, key);
}

/// Who is told of the service by the starter finds it: the supervisor does not have the lock any more.
#[test]
fn g4_lock_is_free_for_all_clients_when_acquire_returns() {
    let scene = scene!();
    let starter = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "StartSeen")]);
    let spec = scene.unique(scene.command("shared"));
    // It has no time to wait for others, and its own start is not theirs.
    let hasty = ServiceSpec {
        wait_timeout_ms: Some(0),
        ..spec.clone()
    };
    let key = starter.build(&hasty);
    let other = scene.client(&spec);
    let pending = starter.begin_acquire(Via::TokioMulti);
    let supervisor = suspended_supervisor(&spec);
    let joined = other.try_join().expect("try_join");
    assert_eq!(joined, None, "the lock is not free");
    scene.wait_sleepers(key, 1);
    assert!(!starter.has_replied(&pending));
    supervisor.signal(Signal::CONT);
    starter.finish_acquire(pending).expect("acquire");
    let joined = other.try_join().expect("try_join");
    assert_ne!(joined, None, "told by the starter");
    starter.kill();
    other.kill();
    scene.wait_removed(&spec, key);
}
