//! G5: procref never signals a process that it did not mean to signal.
//!
//! These tests use pids that would end a whole session if they were passed to `kill`, so each test
//! runs in its own PID namespace. Pid 1 there is `procref-witness-init`, which fails the test when
//! it receives a signal.

#![cfg(target_os = "linux")]

use std::fs;
use std::process::Command as Process;

use procref_testkit::namespace::{self, Wanted};
use procref_testkit::observe::Identity;
use procref_testkit::protocol::{
    Command, HealthOutcome, Outcome, ProcessOp, Reply, StopOutcome, Via,
};
use procref_testkit::{Scene, deadline, kernel, observe, scene};

/// `i32::MAX`: larger values are negative as a `pid_t`.
const PID_LIMIT: u32 = 0x7fff_ffff;

fn isolated(test: &str, body: impl FnOnce()) {
    let init = env!("CARGO_BIN_EXE_procref-witness-init");
    namespace::run(Wanted::Pid, test, Some(init), body);
}

/// Pids that mean a group, all processes, init or no process when they are passed to `kill`.
fn hostile_pids(own: u32) -> Vec<u32> {
    let group = |pid: u32| pid.wrapping_neg();
    vec![
        0,
        1,
        own,
        group(own),
        group(std::process::id()),
        u32::MAX,
        PID_LIMIT + 1,
        PID_LIMIT,
    ]
}

#[test]
fn g5_process_functions_never_signal_hostile_pids() {
    isolated("g5_process_functions_never_signal_hostile_pids", || {
        let scene = scene!();
        let bystanders = [scene.bystander(), scene.bystander()];
        let actor = scene.actor();
        for pid in hostile_pids(actor.pid()) {
            for op in [
                ProcessOp::Terminate,
                ProcessOp::Kill,
                ProcessOp::Stop,
                ProcessOp::OpenAndStop,
            ] {
                let reply = actor.call(Command::Process { op, pid });
                if op == ProcessOp::OpenAndStop {
                    assert!(matches!(reply, Reply::Failed(_)), "{pid}: {reply:?}");
                } else {
                    assert_eq!(reply, Reply::Done, "{op:?} {pid}");
                }
                assert!(bystanders.iter().all(|it| it.is_live()), "{op:?} {pid}");
            }
        }
    });
}

#[test]
fn g5_is_alive_returns_true_only_for_live_pids() {
    isolated("g5_is_alive_returns_true_only_for_live_pids", || {
        let scene = scene!();
        let actor = scene.actor();
        let is_alive = |pid| {
            actor.call(Command::Process {
                op: ProcessOp::IsAlive,
                pid,
            })
        };
        let other = scene.bystander();
        for pid in [1, actor.pid(), other.pid] {
            assert_eq!(is_alive(pid), Reply::Flag(true), "{pid}");
        }
        for pid in [0, u32::MAX, PID_LIMIT, PID_LIMIT + 1] {
            assert_eq!(is_alive(pid), Reply::Flag(false), "{pid}");
        }
        // The process is not the actor's child, so it is a zombie until this test reaps it.
        let stop = Command::Process {
            op: ProcessOp::Stop,
            pid: other.pid,
        };
        assert_eq!(actor.call(stop), Reply::Done);
        assert!(!other.is_live());
        assert!(Identity::of(other.pid).is_some(), "the process is a zombie");
        assert_eq!(is_alive(other.pid), Reply::Flag(false));
    });
}

#[test]
fn g5_hostile_pids_from_a_start_callback_are_refused() {
    isolated("g5_hostile_pids_from_a_start_callback_are_refused", || {
        let scene = scene!();
        let bystander = scene.bystander();
        let actor = scene.actor();
        let hostile = hostile_pids(actor.pid());
        for pid in hostile.into_iter().filter(|&pid| pid != actor.pid()) {
            for stop in [None, Some(StopOutcome::Terminate)] {
                let mut spec = scene.service("hostile");
                spec.stop = stop;
                actor.build(&spec.with_starts([Outcome::Pid(pid)]));
                let failure = actor
                    .try_acquire(Via::TokioMulti)
                    .expect_err("the call is refused");
                assert!(failure.whole().contains(&pid.to_string()), "{failure:?}");
                assert!(bystander.is_live(), "{pid}");
                scene.assert_clean();
            }
        }
    });
}

#[test]
fn g5_hosting_client_is_never_signaled() {
    isolated("g5_hosting_client_is_never_signaled", || {
        let scene = scene!();
        let spec = scene.service("hosted").with_starts([Outcome::OwnPid]);
        let host = scene.client(&spec);
        let mut spec = scene.service("hosted");
        spec.stop_timeout_ms = Some(200);
        let guest = scene.client(&spec);

        let held = host.acquire();
        assert_eq!(held.got.pid, host.pid());
        let joined = guest.acquire();
        assert_eq!(joined.got.pid, host.pid());
        // The guest releases last. It neither stops nor signals the host.
        host.release(&held);
        guest.release(&joined);
        assert!(host.identity().is_live());
        scene.assert_clean();

        // When the host dies, the service is dead. The next client starts a new instance.
        host.acquire();
        let joined = guest.acquire();
        assert_eq!(joined.got.pid, host.pid());
        host.kill();
        let recovered = guest.acquire();
        assert_eq!(recovered.got.pid, scene.only_instance().pid);
        guest.release(&joined);
        guest.release(&recovered);
    });
}

#[test]
fn g5_unhealthy_host_is_not_signaled() {
    isolated("g5_unhealthy_host_is_not_signaled", || {
        let scene = scene!();
        let spec = scene.service("hosted").with_starts([Outcome::OwnPid]);
        let host = scene.client(&spec);
        let mut spec = scene
            .service("hosted")
            .with_health(HealthOutcome::Always(false));
        spec.stop_timeout_ms = Some(200);
        let guest = scene.client(&spec);
        let held = host.acquire();
        let refused = guest.try_acquire(Via::TokioMulti);
        assert!(refused.is_err(), "{refused:?}");
        assert!(host.identity().is_live());
        host.release(&held);
    });
}

#[test]
fn g5_host_is_not_signaled_by_a_recovery() {
    isolated("g5_host_is_not_signaled_by_a_recovery", || {
        let scene = scene!();
        let spec = scene.service("hosted").with_starts([Outcome::OwnPid]);
        let host = scene.client(&spec);
        let held = host.acquire();
        // The host fails the health check. The instance that replaces it passes.
        let spec = scene.service("hosted").with_health(HealthOutcome::Query);
        let guest = scene.client(&spec.with_recoveries([Outcome::Serve]));
        let recovered = guest.acquire();
        assert_eq!(recovered.got.pid, scene.only_instance().pid);
        assert!(host.identity().is_live());
        host.release(&held);
        guest.release(&recovered);
    });
}

#[test]
fn g5_service_without_a_process_is_never_signaled() {
    isolated("g5_service_without_a_process_is_never_signaled", || {
        let scene = scene!();
        let bystander = scene.bystander();
        for stop in [
            None,
            Some(StopOutcome::Terminate),
            Some(StopOutcome::Nothing),
        ] {
            let mut spec = scene.service("remote").with_starts([Outcome::Pid(0)]);
            spec.stop = stop;
            let clients = scene.clients(2, &spec.with_health(HealthOutcome::Always(true)));
            let held: Vec<_> = clients
                .iter()
                .map(procref_testkit::Actor::acquire)
                .collect();
            assert_eq!(held[1].got.pid, 0);
            let before = scene.calls("on_last_release");
            clients[0].release(&held[0]);
            assert_eq!(scene.calls("on_last_release"), before);
            clients[1].release(&held[1]);
            let called = scene.calls("on_last_release") - before;
            assert_eq!(
                called,
                usize::from(stop.is_some()),
                "the callback runs, because it may stop a container"
            );
            assert!(bystander.is_live());
            scene.assert_clean();
        }
    });
}

/// Kills the only instance, whose starter is dead, and gives its pid to an unrelated process.
fn reuse_pid_of_only_instance(scene: &Scene) -> Identity {
    let service = scene.only_instance();
    service.kill();
    let name = format!("/proc/{}", service.pid);
    deadline::until_true("init reaps the service", || {
        !fs::exists(&name).unwrap_or(true)
    });
    // Start times have a resolution of 10 ms. The kernel does not reuse a pid within that time.
    deadline::until_true("the clock reaches a later tick", || {
        observe::now_ticks() > service.start
    });
    let unrelated = deadline::until("a process gets the pid", || {
        let before = (service.pid - 1).to_string();
        fs::write("/proc/sys/kernel/ns_last_pid", before).expect("write ns_last_pid");
        let bystander = scene.bystander();
        (bystander.pid == service.pid).then_some(bystander)
    });
    assert_ne!(unrelated.start, service.start);
    unrelated
}

/// Returns a client that holds a service whose starter was killed.
fn holder_of_an_orphan(
    scene: &Scene,
    stop: Option<StopOutcome>,
) -> (procref_testkit::Actor, procref_testkit::actor::Held) {
    let mut spec = scene.service("orphan");
    spec.stop = stop;
    let starter = scene.client(&spec);
    starter.acquire();
    let holder = scene.client(&spec);
    let held = holder.acquire();
    starter.kill();
    (holder, held)
}

#[test]
fn g5_process_with_a_reused_pid_is_not_stopped() {
    isolated("g5_process_with_a_reused_pid_is_not_stopped", || {
        for stop in [None, Some(StopOutcome::Terminate)] {
            let scene = scene!();
            let (holder, held) = holder_of_an_orphan(&scene, stop);
            let unrelated = reuse_pid_of_only_instance(&scene);
            assert_eq!(unrelated.pid, held.got.pid);
            holder.release(&held);
            assert!(unrelated.is_live());
            assert_eq!(scene.calls("on_last_release"), 0);
            scene.assert_clean();
        }
    });
}

#[test]
fn g5_supervisor_does_not_stop_a_process_with_a_reused_pid() {
    let test = "g5_supervisor_does_not_stop_a_process_with_a_reused_pid";
    isolated(test, || {
        let scene = scene!();
        let (holder, held) = holder_of_an_orphan(&scene, None);
        let key = holder.build_as(1, &scene.service("orphan"));
        let unrelated = reuse_pid_of_only_instance(&scene);
        assert_eq!(unrelated.pid, held.got.pid);
        holder.kill();
        deadline::until_true("the supervisor removes the set", || {
            kernel::find(key).is_none()
        });
        assert!(unrelated.is_live());
        scene.assert_clean();
    });
}

#[test]
fn g5_process_with_a_reused_pid_is_not_joined() {
    isolated("g5_process_with_a_reused_pid_is_not_joined", || {
        let scene = scene!();
        let (holder, held) = holder_of_an_orphan(&scene, None);
        let unrelated = reuse_pid_of_only_instance(&scene);
        let other = scene.client(&scene.service("orphan"));
        let new = other.acquire();
        assert_ne!(new.got.pid, unrelated.pid);
        assert!(unrelated.is_live());
        holder.release(&held);
        other.release(&new);
        assert!(unrelated.is_live());
    });
}

#[test]
fn g5_stale_record_does_not_cause_a_signal() {
    isolated("g5_stale_record_does_not_cause_a_signal", || {
        let scene = scene!();
        let (holder, held) = holder_of_an_orphan(&scene, None);
        let key = holder.build_as(1, &scene.service("orphan"));
        let unrelated = reuse_pid_of_only_instance(&scene);
        assert_eq!(scene.files().len(), 1, "the record still exists");
        kernel::find(key)
            .expect("the semaphore set exists")
            .remove()
            .expect("remove");

        let other = scene.client(&scene.service("orphan"));
        let new = other.acquire();
        assert_ne!(new.got.pid, unrelated.pid);
        assert!(
            unrelated.is_live(),
            "only the pid matches the record, not the start time"
        );
        holder.release(&held);
        other.release(&new);
        assert!(unrelated.is_live());
    });
}

#[test]
fn g5_witness_as_pid_1_reports_a_signal() {
    // This test does not use `isolated`, because the witness must detect the signal and fail.
    let output = Process::new(env!("CARGO_BIN_EXE_procref-witness-init"))
        .args(["sh", "-c", "kill -TERM $PPID"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(97), "{output:?}");
}
