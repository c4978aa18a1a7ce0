//! G3 for services that procref executes itself. When no process holds a reference, procref stops
//! the service and every process that the service has started.

#![cfg(target_os = "linux")]

use std::fs;
use std::time::{Duration, Instant};

use procref_testkit::observe::Identity;
use procref_testkit::protocol::{Command, Outcome, ReadySpec, Reply, ServiceSpec, Via};
use procref_testkit::{Scene, deadline, kernel, scene};
use rustix::process::Signal;

/// Describes a fake service that procref executes, with a unique name.
fn command(scene: &Scene, name: &str) -> ServiceSpec {
    scene.unique(scene.command(name))
}

#[test]
fn g3_last_release_of_a_command_does_not_wait_for_the_stop() {
    let scene = scene!();
    let mut spec = command(&scene, "released");
    spec.fake.slow_stop_ms = 1500;
    let (one, key) = scene.holder(&spec);
    let service = scene.only_instance();
    let two = scene.client(&spec);
    let held = two.acquire();
    assert_eq!((held.got.pid, held.got.generation), (service.pid, 1));
    two.release(&held);
    assert!(
        service.is_live(),
        "the other client still holds the service"
    );
    assert_eq!(one.count(), 1);

    let start = Instant::now();
    assert_eq!(one.call(Command::DropAll), Reply::Done);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(
        service.is_live(),
        "the service stops slowly, and the client does not wait for it"
    );
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
}

#[test]
fn g3_acquire_during_a_commands_stop_gets_a_new_instance() {
    let scene = scene!();
    let mut spec = command(&scene, "stopping");
    spec.fake.slow_stop_ms = 300;
    let (one, key) = scene.holder(&spec);
    let service = scene.only_instance();
    assert_eq!(one.call(Command::DropAll), Reply::Done);
    let two = scene.client(&spec);
    // Before that, the client could still join the old instance.
    deadline::until_true("the service is stopping", || {
        two.status().state == "Stopping"
    });
    let held = two.acquire();
    assert_ne!(held.got.pid, service.pid);
    assert!(
        !service.is_live(),
        "the old instance exits before the next one starts"
    );
    two.release(&held);
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_command_is_stopped_gracefully_if_all_clients_are_killed() {
    for _ in 0..5 {
        let scene = scene!();
        let spec = command(&scene, "killed");
        let clients = scene.clients(16, &spec);
        let key = clients[0].build_as(1, &spec);
        for client in &clients {
            client.acquire();
        }
        let service = scene.only_instance();
        for client in &clients {
            client.identity().kill();
        }
        for client in &clients {
            client.wait_end();
        }
        scene.wait_removed(&spec, key);
        assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
    }
}

#[test]
fn g3_process_tree_of_a_command_is_stopped() {
    let scene = scene!();
    let spec = command(&scene, "family")
        .with_args(["--workers", "2", "--workers-ignoring-sigterm", "1"])
        .with_stop_timeout_ms(300);
    let (client, key) = scene.holder(&spec);
    let supervisor = scene.only_supervisor(&spec);
    let workers = scene.workers();
    assert_eq!(workers.len(), 3);
    for worker in &workers {
        let parent = worker.status("PPid");
        assert_eq!(
            parent,
            Some(supervisor.pid.to_string()),
            "the supervisor is the parent of orphaned processes"
        );
        assert!(worker.is_live());
    }
    client.kill();
    scene.wait_removed(&spec, key);
    assert_eq!(
        scene.stopped().len(),
        1,
        "the service itself stopped gracefully"
    );
}

#[test]
fn g3_leftover_processes_are_stopped_before_the_next_start() {
    let scene = scene!();
    let spec = command(&scene, "family").with_args(["--workers-ignoring-sigterm", "2"]);
    let spec = spec.with_stop_timeout_ms(300);
    let (one, key) = scene.holder(&spec);
    let (first, workers) = (scene.only_instance(), scene.workers());
    first.kill();
    first.wait_exit();
    let two = scene.client(&spec);
    let held = two.acquire();
    assert_ne!(held.got.pid, first.pid);
    assert_eq!(held.got.generation, 2);
    for worker in workers {
        assert!(!worker.is_live(), "a worker of the old instance is alive");
    }
    assert_eq!(two.count(), 2);
    one.kill();
    two.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_service_ignoring_sigterm_is_killed_after_grace() {
    let scene = scene!();
    let mut spec = command(&scene, "stubborn").with_stop_timeout_ms(300);
    spec.fake.ignore_sigterm = true;
    let (client, key) = scene.holder(&spec);
    client.kill();
    scene.wait_removed(&spec, key);
    assert_eq!(
        scene.stopped(),
        [],
        "the service was killed and did not stop by itself"
    );
}

#[test]
fn g3_suspended_process_tree_is_resumed_and_stopped() {
    let scene = scene!();
    let spec = command(&scene, "suspended")
        .with_args(["--workers", "1"])
        .with_stop_timeout_ms(1_000_000);
    let (client, key) = scene.holder(&spec);
    let (service, workers) = (scene.only_instance(), scene.workers());
    assert_eq!(workers.len(), 1);
    for process in workers.iter().chain([&service]) {
        process.signal(Signal::STOP);
    }
    client.kill();
    // The processes exit long before their grace expires.
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
}

#[test]
fn g3_command_with_unlimited_grace_is_not_killed() {
    let scene = scene!();
    let mut spec = command(&scene, "unlimited");
    spec.fake.slow_stop_ms = 500;
    spec.stop_timeout_ms = Some(u64::MAX);
    let (client, key) = scene.holder(&spec);
    let service = scene.only_instance();
    assert_eq!(client.call(Command::DropAll), Reply::Done);
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
}

#[test]
fn g3_command_is_stopped_with_its_starters_signal() {
    let scene = scene!();
    let mut spec = command(&scene, "interrupted");
    spec.command
        .as_mut()
        .expect("the spec has a command")
        .stop_signal = Some("INT".to_owned());
    let (client, key) = scene.holder(&spec);
    let service = scene.only_instance();
    client.kill();
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped(), [(service.pid, "signal 2".to_owned())]);
}

#[test]
fn g3_killed_supervisor_of_a_command_is_replaced_by_a_join() {
    let scene = scene!();
    let mut spec = command(&scene, "watched");
    spec.command
        .as_mut()
        .expect("the spec has a command")
        .stop_signal = Some("INT".to_owned());
    let (one, key) = scene.holder(&spec);
    let service = scene.only_instance();
    let supervisor = scene.kill_only_supervisor(&spec);
    // Any client that joins replaces the supervisor, even a client that does not know the command.
    let joins_only = ServiceSpec {
        command: None,
        ..spec.clone()
    };
    let two = scene.client(&joins_only);
    assert_eq!(two.acquire().got.pid, service.pid);
    assert_ne!(scene.only_supervisor(&spec), supervisor);
    one.kill();
    two.kill();
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped(), [(service.pid, "signal 2".to_owned())]);
}

#[test]
fn g3_last_client_stops_a_command_without_a_supervisor() {
    let scene = scene!();
    let spec = command(&scene, "unwatched");
    let (client, key) = scene.holder(&spec);
    scene.kill_only_supervisor(&spec);
    assert_eq!(client.call(Command::DropAll), Reply::Done);
    scene.wait_removed(&spec, key);
    assert_eq!(scene.stopped().len(), 1);
}

#[test]
fn g3_orphaned_command_without_a_supervisor_is_adopted() {
    let scene = scene!();
    let spec = command(&scene, "orphan");
    let (one, key) = scene.holder(&spec);
    let service = scene.only_instance();
    scene.kill_only_supervisor(&spec);
    one.kill();
    let two = scene.client(&spec);
    assert_eq!(two.acquire().got.pid, service.pid);
    two.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_stopping_instance_of_a_killed_supervisor_is_not_joined() {
    for by_command in [true, false] {
        let scene = scene!();
        let mut spec = match by_command {
            true => command(&scene, "stopping"),
            false => scene.unique(scene.service("stopping")),
        };
        spec.fake.slow_stop_ms = 1000;
        let (one, key) = scene.holder(&spec);
        let service = scene.only_instance();
        let supervisor = scene.only_supervisor(&spec);
        let two = scene.client(&spec);
        one.kill();
        deadline::until_true("the service is stopping", || {
            two.status().state == "Stopping"
        });
        supervisor.kill();
        supervisor.wait_exit();
        assert!(service.is_live());
        let held = two.acquire();
        assert_ne!(held.got.pid, service.pid);
        scene.assert_single_instance();
        two.kill();
        scene.wait_removed(&spec, key);
    }
}

#[test]
fn g3_command_lingers_and_then_stops_in_time() {
    let linger = Duration::from_millis(1500);
    for killed in [false, true] {
        let scene = scene!();
        let spec = command(&scene, "lingering").with_linger_ms(1500);
        let (one, key) = scene.holder(&spec);
        let service = scene.only_instance();
        if killed {
            one.kill();
        } else {
            assert_eq!(one.call(Command::DropAll), Reply::Done);
        }
        let two = scene.client(&spec);
        assert_eq!(
            two.acquire().got.pid,
            service.pid,
            "the lingering instance is joined"
        );
        assert_eq!(scene.started().len(), 1);
        let start = Instant::now();
        two.kill();
        service.wait_exit();
        let taken = start.elapsed();
        assert!(taken >= linger, "{taken:?}");
        scene.wait_removed(&spec, key);
    }
}

#[test]
fn g3_command_that_dies_while_lingering_leaves_nothing() {
    let scene = scene!();
    let spec = command(&scene, "lingering").with_linger_ms(1_000_000);
    let (client, key) = scene.holder(&spec);
    let service = scene.only_instance();
    assert_eq!(client.call(Command::DropAll), Reply::Done);
    service.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_dead_command_is_replaced_and_status_shows_its_exit() {
    let scene = scene!();
    let spec = command(&scene, "mortal");
    let (one, key) = scene.holder(&spec);
    let first = scene.only_instance();
    let supervisor = scene.only_supervisor(&spec);
    first.kill();
    let exit = deadline::until("the supervisor stores the exit status", || {
        one.status().exit
    });
    assert_eq!(exit, "signal: 9 (SIGKILL)");
    assert_eq!(one.status().state, "Dead");
    let held = one.acquire();
    assert_eq!(held.got.generation, 2);
    assert_eq!(one.status().exit, None);
    supervisor.wait_exit();
    one.kill();
    scene.wait_removed(&spec, key);
}

/// The kernel releases the references of clients that are killed, so no client detects that the service is dead.
#[test]
fn g3_dead_command_is_removed_after_its_last_client_was_killed() {
    let scene = scene!();
    let spec = command(&scene, "mortal").with_linger_ms(1_000_000);
    let (one, key) = scene.holder(&spec);
    let two = scene.client(&spec);
    two.acquire();
    scene.kill_only_instance();
    deadline::until("the supervisor stores the exit status", || {
        one.status().exit
    });
    one.kill();
    assert_eq!(two.status().state, "Dead");
    assert!(kernel::find(key).is_some());
    two.kill();
    scene.wait_removed(&spec, key);
}

/// Returns the number of threads of a process.
fn threads(process: Identity) -> usize {
    let threads = fs::read_dir(format!("/proc/{}/task", process.pid));
    threads.expect("list the threads").count()
}

#[test]
fn g3_supervisors_of_dead_instances_do_not_accumulate() {
    let scene = scene!();
    let spec = command(&scene, "often");
    let (holder, key) = scene.holder(&spec);
    for _ in 0..3 {
        let supervisor = scene.only_supervisor(&spec);
        scene.kill_only_instance();
        deadline::until("the supervisor stores the exit status", || {
            holder.status().exit
        });
        let next = scene.client(&spec);
        next.acquire();
        if kernel::is_keeper() {
            // Each supervisor is a thread of the keeper, beside the thread that serves the clients.
            deadline::until_true("the thread of the dead instance exits", || {
                threads(supervisor) == 2
            });
        } else {
            supervisor.wait_exit();
        }
        next.kill();
    }
    let _ = scene.only_supervisor(&spec);
    holder.kill();
    scene.wait_removed(&spec, key);
}

/// `force_stop` waits for all processes of the instance, and the supervisor stays for the other client.
#[test]
fn g3_forced_stop_of_a_command_leaves_its_supervisor_to_the_holders() {
    let scene = scene!();
    let spec = command(&scene, "stopped").with_args(["--workers", "2"]);
    let (holder, key) = scene.holder(&spec);
    let supervisor = scene.only_supervisor(&spec);
    let other = scene.client(&spec);
    let workers = scene.workers();
    assert_eq!(workers.len(), 2, "{workers:?}");
    other.stop(true, Via::TokioMulti).expect("stop");
    assert!(workers.iter().all(|worker| !worker.is_live()));
    assert!(supervisor.is_live());
    assert_eq!(holder.status().state, "Absent");
    holder.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_command_is_stopped_when_its_set_is_removed() {
    let scene = scene!();
    let spec = command(&scene, "removed").with_args(["--workers", "1"]);
    let (client, key) = scene.holder(&spec);
    let service = scene.only_instance();
    kernel::find(key)
        .expect("the semaphore set exists")
        .remove()
        .expect("remove");
    service.wait_exit();
    deadline::until_true("the workers exit", || {
        scene.workers().iter().all(|worker| !worker.is_live())
    });
    // The record is left, and the next client cleans it up.
    let held = client.acquire();
    assert_ne!(held.got.pid, service.pid);
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_suspended_supervisor_stops_everything_once_resumed() {
    let scene = scene!();
    let spec = command(&scene, "suspended");
    let (client, key) = scene.holder(&spec);
    let supervisor = scene.only_supervisor(&spec);
    supervisor.signal(Signal::STOP);
    scene.only_instance().kill();
    client.kill();
    supervisor.signal(Signal::CONT);
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_command_inherits_nothing_from_its_starter() {
    // `sh` keeps the inherited signal dispositions. A Rust program would change them.
    let scene = scene!();
    let mut spec = command(&scene, "plain").with_ready(ReadySpec::Log("^end$".to_owned()));
    let script =
        "grep -E 'Sig(Blk|Ign)' /proc/self/status; ls -l /proc/self/fd; echo end; exec sleep 1000";
    spec.command
        .as_mut()
        .expect("the spec has a command")
        .program = Some(["sh", "-c", script].map(str::to_owned).to_vec());
    let (client, key) = scene.holder(&spec);
    let log = scene
        .files()
        .into_iter()
        .find(|file| file.extension().is_some_and(|it| it == "log"))
        .expect("read the log");
    let output = fs::read_to_string(&log).expect("read");
    for mask in ["SigBlk", "SigIgn"] {
        let line = output
            .lines()
            .find(|line| line.starts_with(mask))
            .expect(mask);
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    let descriptors: Vec<_> = output
        .lines()
        .filter_map(|line| line.rsplit_once(" -> "))
        .collect();
    // The descriptors are the three standard ones and the directory that `ls` reads.
    assert_eq!(descriptors.len(), 4, "{output}");
    let log = log.to_string_lossy();
    for (number, file) in [(" 0", "/dev/null"), (" 1", &log), (" 2", &log)] {
        let leads_there = |of: &(&str, &str)| of.0.ends_with(number) && of.1 == file;
        assert!(descriptors.iter().any(leads_there), "{number}: {output}");
    }
    let supervisor = scene.only_supervisor(&spec);
    // The supervisor closes the starter's pipes after the start. The service's log and the inotify descriptor
    // that reports writes to it stay open.
    deadline::until_true("the supervisor has two descriptors", || {
        supervisor.descriptors() == 2
    });
    let kept = supervisor.open_files();
    assert!(kept.contains(&log.to_string()), "{kept:?}");
    assert!(kept.contains(&"anon_inode:inotify".to_owned()), "{kept:?}");
    let private = supervisor.private_memory();
    assert!((1..200).contains(&private), "{private} KiB");
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_pipeline_ends_with_the_client_not_the_service() {
    let scene = scene!();
    let spec = command(&scene, "piped").with_linger_ms(1_000_000);
    let (client, key) = scene.holder(&spec);
    let service = scene.only_instance();
    let supervisor = scene.only_supervisor(&spec);
    // The actor's own output is such a pipe, and `kill` waits for its end.
    client.kill();
    assert!(service.is_live() && supervisor.is_live());
    service.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_callback_client_and_command_client_do_not_share() {
    let scene = scene!();
    let spec = command(&scene, "mixed");
    let by_callback = ServiceSpec {
        command: None,
        start: vec![Outcome::Serve],
        ..spec.clone()
    };
    for (theirs, ours) in [(&spec, &by_callback), (&by_callback, &spec)] {
        let (holder, key) = scene.holder(theirs);
        let other = scene.client(ours);
        let failure = other
            .try_acquire(Via::TokioMulti)
            .expect_err("the service was started in another way");
        assert!(failure.text.contains("was started by"), "{}", failure.text);
        assert_eq!(holder.count(), 1, "the refused client took no reference");
        holder.kill();
        scene.wait_removed(theirs, key);
    }
}

#[test]
fn g3_callbacks_after_a_dead_command_get_their_own_supervisor() {
    let scene = scene!();
    let spec = command(&scene, "changed").with_args(["--workers-ignoring-sigterm", "1"]);
    let spec = spec.with_stop_timeout_ms(1500);
    let (one, key) = scene.holder(&spec);
    let first = scene.only_supervisor(&spec);
    scene.kill_only_instance();
    // The first supervisor is still stopping the leftover processes of the service.
    let by_callback = ServiceSpec {
        command: None,
        start: vec![Outcome::Serve],
        ..spec.clone()
    };
    let two = scene.client(&by_callback);
    two.acquire();
    first.wait_exit();
    one.kill();
    two.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_concurrent_clients_start_one_command() {
    let scene = scene!();
    let spec = command(&scene, "crowded");
    let clients = scene.clients(16, &spec);
    let key = clients[0].build_as(1, &spec);
    let pending: Vec<_> = clients
        .iter()
        .map(|it| it.begin_acquire(Via::TokioMulti))
        .collect();
    for (client, pending) in clients.iter().zip(pending) {
        client.finish_acquire(pending).expect("acquire");
    }
    assert_eq!(scene.started().len(), 1);
    for client in &clients {
        assert_eq!(client.call(Command::DropAll), Reply::Done);
    }
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_ctrl_c_for_the_client_does_not_reach_the_service() {
    let scene = scene!();
    let spec = command(&scene, "terminal");
    let (client, key) = scene.holder(&spec);
    for process in [scene.only_instance(), scene.only_supervisor(&spec)] {
        // A terminal sends its signals to the process group in its foreground.
        assert_ne!(process.group(), client.identity().group());
        assert_eq!(
            process.terminal(),
            0,
            "the process has no controlling terminal"
        );
    }
    let service = scene.only_instance();
    // A signal that the service sends to its own group reaches no other process.
    assert_eq!(service.group(), i64::from(service.pid));
    client.kill();
    scene.wait_removed(&spec, key);
}
