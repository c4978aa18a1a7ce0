//! Crashes and suspensions of several processes that are dangerous only in combination.

use std::fs;
use std::thread;
use std::time::Duration;

use procref_testkit::observe::{Identity, supervisors_of};
use procref_testkit::protocol::{
    Callback, Command, Event, Gate, ReadyOutcome, ReadySpec, Reply, ServiceSpec, Via,
};

use procref_testkit::{Actor, Held, Pending, Scene, deadline, kernel, scene};
use rustix::process::Signal;

use crate::scenarios::{Kind, REFERENCES, SUPERVISOR, Scenario, has_tree};

/// Returns the key of the set and a supervisor whose starter is dead. The supervisor is suspended
/// at a step before it is registered.
fn suspended_supervisor_of_dead_starter(
    scene: &Scene,
    spec: &ServiceSpec,
    suspended: &str,
) -> (i32, Identity) {
    let suspended = format!("SupervisorForked,{suspended}");
    let crashing = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", &suspended)]);
    let key = crashing.build(spec);
    let _ = crashing.begin_acquire(Via::TokioMulti);
    // The starter continues while its attendant forks the supervisor. If the starter were killed
    // before the fork, there would be no supervisor.
    let supervisor = wait_suspended_supervisor(spec);
    crashing.identity().kill();
    // Wait for the exit and not for the end of its output, because the supervisor still has a copy
    // of that pipe.
    crashing.wait_end();
    (key, supervisor)
}

fn wait_suspended_supervisor(spec: &ServiceSpec) -> Identity {
    deadline::until("the supervisor is suspended", || {
        let mut supervisors = supervisors_of(&spec.name).into_iter();
        supervisors.find(|it| it.is_suspended())
    })
}

/// Returns a client that holds a dead instance, whose supervisor has retired and was killed.
fn holder_of_dead_instance(
    scene: &Scene,
    spec: &ServiceSpec,
    environment: &[(&str, &str)],
) -> (Actor, Held) {
    let holder = scene.actor_with_env(environment);
    let key = holder.build(spec);
    let held = holder.acquire();
    let supervisor = scene.only_supervisor(spec);
    scene.kill_only_instance();
    deadline::until_true("the supervisor retires", || !has_tree(key));
    supervisor.kill();
    supervisor.wait_exit();
    (holder, held)
}

/// Waits until the only supervisor is registered and is not counted in TREE any more. Both change together when it
/// registers.
fn wait_stepped_down(key: i32) {
    deadline::until_true("the supervisor steps down", || {
        kernel::find(key).is_some_and(|set| set.value(SUPERVISOR).is_ok_and(|count| count == 1))
            && !has_tree(key)
    });
}

/// The retired supervisor of the dead instance exits because of the new supervisor.
#[test]
fn g6_supervisor_that_steps_down_stays_for_the_holders_of_a_dead_instance() {
    let scene = scene!();
    let spec = Scenario::Alone.spec(Kind::Command, &scene);
    let holder = scene.actor();
    let key = holder.build(&spec);
    let _ = holder.acquire();
    let retired = scene.only_supervisor(&spec);
    scene.kill_only_instance();
    deadline::until_true("the supervisor retires", || !has_tree(key));

    let starter = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "SupervisorRegistered")]);
    starter.build(&spec);
    let _ = starter.begin_acquire(Via::TokioMulti);
    let supervisor = wait_suspended_supervisor(&spec);
    retired.wait_exit();
    starter.identity().kill();
    starter.identity().wait_exit();
    supervisor.signal(Signal::CONT);
    wait_stepped_down(key);
    deadline::until_true(
        "the supervisor closes the descriptors of its starter",
        || supervisor.descriptors() == 0,
    );
    holder.kill();
    scene.wait_removed(&spec, key);
}

/// No other process is left that could clean up.
#[test]
fn g6_supervisor_that_steps_down_cleans_up_after_clients() {
    let scene = scene!();
    let spec = Scenario::Alone.spec(Kind::Command, &scene);
    let (holder, held) = holder_of_dead_instance(&scene, &spec, &[]);

    let starter = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "SupervisorRegistered")]);
    let key = starter.build(&spec);
    let _ = starter.begin_acquire(Via::TokioMulti);
    let supervisor = wait_suspended_supervisor(&spec);
    starter.identity().kill();
    starter.identity().wait_exit();
    holder.release(&held);
    let references = kernel::find(key).map(|set| set.value(REFERENCES).expect("read a semaphore"));
    assert_eq!(
        references,
        Some(0),
        "the client leaves the clean-up to the supervisor"
    );
    supervisor.signal(Signal::CONT);
    scene.wait_removed(&spec, key);
}

/// The last client sees a supervisor that does something before the client releases the lock.
fn last_client_cleans_up(react: impl Fn(Identity, i32)) {
    let scene = scene!();
    let spec = Scenario::Alone.spec(Kind::Command, &scene);
    let suspended = [("PROCREF_SUSPEND_POINT", "LeftLast,LookedAsLast")];
    let (holder, held) = holder_of_dead_instance(&scene, &spec, &suspended);
    let (key, supervisor) = suspended_supervisor_of_dead_starter(
        &scene,
        &spec,
        "SupervisorStarted,SupervisorRegistered",
    );
    let (handle, via) = (held.handle, Via::Blocking);
    let release = holder.begin(Command::Release { handle, via });
    let client = holder.identity();
    deadline::until_true("the last client has the lock", || client.is_suspended());
    // The supervisor assumes that its starter has the lock.
    supervisor.signal(Signal::CONT);
    deadline::until_true("the supervisor is registered", || supervisor.is_suspended());
    client.signal(Signal::CONT);
    deadline::until_true("the last client has seen the supervisor", || {
        client.is_suspended()
    });
    react(supervisor, key);
    client.signal(Signal::CONT);
    assert_eq!(holder.reply(release), Reply::Done);
    scene.wait_removed(&spec, key);
}

#[test]
fn g6_last_client_leaves_the_cleanup_to_a_supervisor_that_steps_down() {
    last_client_cleans_up(|supervisor, key| {
        supervisor.signal(Signal::CONT);
        wait_stepped_down(key);
    });
}

#[test]
fn g6_last_client_cleans_up_if_the_supervisor_is_killed() {
    last_client_cleans_up(|supervisor, _| {
        supervisor.kill();
        supervisor.wait_exit();
    });
}

/// The old supervisor is registered only after its starter is dead and another starter has the lock.
/// That starter waits for its own supervisor, which waits until the old one exits.
#[test]
fn g1_supervisor_shares_the_lock_only_with_its_own_starter() {
    let scene = scene!();
    let spec = Scenario::Alone.spec(Kind::Command, &scene);
    let (key, supervisor) =
        suspended_supervisor_of_dead_starter(&scene, &spec, "SupervisorStarted");

    let next = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "Prepared")]);
    next.build(&spec);
    let pending = next.begin_acquire(Via::TokioMulti);
    deadline::until_true("the next client has the lock", || {
        next.identity().is_suspended()
    });
    supervisor.signal(Signal::CONT);
    wait_stepped_down(key);
    next.identity().signal(Signal::CONT);
    let held = next.finish_acquire(pending).expect("acquire");
    supervisor.wait_exit();
    assert_eq!(held.got.pid, scene.only_instance().pid);
    assert_eq!(
        held.got.generation, 1,
        "the first starter published no instance"
    );
    next.kill();
    scene.wait_removed(&spec, key);
}

/// A signal that arrives before the sleep begins does not end the sleep. The supervisor must still
/// notice the death.
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
    deadline::until_true("the supervisor is about to sleep", || {
        supervisor.is_suspended()
    });
    scene.kill_only_instance();
    supervisor.signal(Signal::CONT);
    let failure = client
        .finish_acquire(pending)
        .expect_err("the service died");
    assert!(failure.text.contains("signal 9"), "{}", failure.text);
    scene.wait_removed(&spec, key);
}

/// Another starter's service already runs when the supervisor tries to register itself, so this supervisor
/// must exit. It still has all descriptors of its dead starter open. If it stayed, a reader of the starter's
/// pipe would wait indefinitely.
#[test]
fn g6_supervisor_of_a_dead_starter_exits_beside_a_new_service() {
    let scene = scene!();
    let spec = Scenario::Alone.spec(Kind::Command, &scene);
    // The start timeout is the time that the supervisor waits for processes of an older service.
    let patient = spec.clone().with_start_timeout_ms(1_000_000);
    let (key, supervisor) =
        suspended_supervisor_of_dead_starter(&scene, &patient, "SupervisorStarted");
    let next = scene.client(&spec);
    let held = next.acquire();
    supervisor.signal(Signal::CONT);
    supervisor.wait_exit();
    assert_eq!(held.got.pid, scene.only_instance().pid);
    next.kill();
    scene.wait_removed(&spec, key);
}

/// A starter does not wait indefinitely for a supervisor that does not react, and clears the
/// instance. The next client still gets the lock only from that supervisor.
#[test]
fn g1_leftovers_of_a_failed_start_end_before_the_next_start() {
    let scene = scene!();
    let spec = scene.unique(scene.command("left"));
    let spec = spec.with_args(["--workers", "1"]).with_stop_timeout_ms(0);
    // Without another holder, the starter would be the last client and would remove the set.
    let (holder, _) = holder_of_dead_instance(&scene, &spec, &[]);
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
    let supervisor = wait_suspended_supervisor(&spec);
    let worker = scene.workers()[1];

    let next = scene.client(&spec);
    let waiting = next.begin_acquire(Via::TokioMulti);
    scene.wait_sleepers(key, 1);
    starter.proceed(gate);
    starter.finish_acquire(failure).expect_err("on_ready fails");
    assert!(worker.is_live(), "only the supervisor stops the worker");
    supervisor.signal(Signal::CONT);
    deadline::until_true("the supervisor has released the lock", || {
        supervisor.is_suspended()
    });
    assert!(
        !worker.is_live(),
        "the worker is dead before the next start begins"
    );
    supervisor.signal(Signal::CONT);
    let held = next.finish_acquire(waiting).expect("acquire");
    assert_eq!(held.got.pid, scene.only_instance().pid);
    holder.kill();
    next.kill();
    scene.wait_removed(&spec, key);
}

/// Begins a start whose service is suspended right before it executes its program.
fn start_suspended_before_exec(
    scene: &Scene,
    spec: &ServiceSpec,
) -> (i32, Actor, Pending, Identity) {
    let starter = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "GatePassed")]);
    let key = starter.build(spec);
    let pending = starter.begin_acquire(Via::TokioMulti);
    let watcher = scene.client(spec);
    let service = deadline::until(
        "the service is suspended before it executes its program",
        || {
            let service = Identity::of(watcher.status().instance?)?;
            service.is_suspended().then_some(service)
        },
    );
    (key, starter, pending, service)
}

/// On a busy machine the execution can be slow, and it may still fail.
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
    let (key, starter, pending, service) = start_suspended_before_exec(&scene, &spec);
    // This is longer than the time after which the start checks the process. Nothing happens during
    // that time, so there is no event to wait for.
    thread::sleep(Duration::from_millis(1500));
    assert!(!starter.has_replied(&pending));
    service.signal(Signal::CONT);
    let failure = starter
        .finish_acquire(pending)
        .expect_err("the program cannot be executed");
    assert!(failure.text.contains("xec format"), "{}", failure.text);
    scene.wait_removed(&spec, key);
}

/// The directory existed when the start began. The program must not run in another directory.
#[test]
fn g4_working_directory_removed_during_a_start_is_an_error() {
    let scene = scene!();
    let dir = scene.root().join("home");
    fs::create_dir(&dir).expect("create the directory");
    let mut spec = scene.unique(scene.command("homeless"));
    spec.command.as_mut().expect("the spec has a command").dir = Some(dir.clone());
    let (key, starter, pending, service) = start_suspended_before_exec(&scene, &spec);
    fs::remove_dir(&dir).expect("remove the directory");
    service.signal(Signal::CONT);
    let failure = starter
        .finish_acquire(pending)
        .expect_err("the directory is gone");
    let expected = format!("could not enter its working directory {}", dir.display());
    assert!(failure.text.contains(&expected), "{}", failure.text);
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
    let expected = "not ready within 500ms: waiting for its program to be executed";
    assert!(failure.text.contains(expected), "{}", failure.text);
    scene.wait_removed(&spec, key);
}

/// A client that learns of the service from the starter can join it, because the supervisor has
/// released the lock before `acquire` returns.
#[test]
fn g4_lock_is_free_for_all_clients_when_acquire_returns() {
    let scene = scene!();
    let starter = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "StartSeen")]);
    let spec = scene.unique(scene.command("shared"));
    // The starter has no time to wait for another client's start, but its own start does not count
    // as such a wait.
    let impatient = ServiceSpec {
        wait_timeout_ms: Some(0),
        ..spec.clone()
    };
    let key = starter.build(&impatient);
    let other = scene.client(&spec);
    let pending = starter.begin_acquire(Via::TokioMulti);
    let supervisor = wait_suspended_supervisor(&spec);
    let joined = other.try_join().expect("try_join");
    assert_eq!(joined, None, "the lock is not free");
    scene.wait_sleepers(key, 1);
    assert!(!starter.has_replied(&pending));
    supervisor.signal(Signal::CONT);
    starter.finish_acquire(pending).expect("acquire");
    let joined = other.try_join().expect("try_join");
    assert_ne!(joined, None, "a client can join when acquire has returned");
    starter.kill();
    other.kill();
    scene.wait_removed(&spec, key);
}
