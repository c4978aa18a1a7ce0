//! G4 for services that procref executes itself: `acquire` returns a service that is ready, or an
//! error that states what happened. A waiting client takes over.

#![cfg(target_os = "linux")]

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use procref::{Ready, ServiceCommand, SharedService};
use procref_testkit::observe::supervisors_of;
use procref_testkit::protocol::{
    Callback, Event, Failure, Gate, HealthOutcome, ReadySpec, ServiceSpec, Via,
};
use procref_testkit::{Actor, Scene, deadline, query, scene};

fn command(scene: &Scene, name: &str) -> ServiceSpec {
    scene.unique(scene.command(name))
}

/// Asserts that the start fails and leaves nothing, and returns the error.
#[track_caller]
fn failed_start(scene: &Scene, spec: &ServiceSpec) -> Failure {
    let client = scene.actor();
    let key = client.build(spec);
    let failure = client
        .try_acquire(Via::TokioMulti)
        .expect_err("the start fails");
    // The supervisor has nothing left to do, but it may not have exited yet.
    scene.wait_removed(spec, key);
    failure
}

#[track_caller]
fn assert_contains(failure: &Failure, parts: &[&str]) {
    for part in parts {
        assert!(
            failure.text.contains(part),
            "no {part:?} in: {}",
            failure.text
        );
    }
}

#[test]
fn g4_exit_during_a_start_is_reported_with_status_and_output() {
    let scene = scene!();
    let spec = command(&scene, "short")
        .with_args(["--print", "the disk is full", "--exit", "3"])
        .with_start_timeout_ms(1_000_000);
    let failure = failed_start(&scene, &spec);
    assert_contains(
        &failure,
        &[
            &spec.name,
            "procref-fake-service",
            "exited with status 3",
            "before it was ready",
            "the disk is full",
            ".log",
        ],
    );
}

#[test]
fn g4_kill_during_a_start_is_reported_with_the_signal() {
    let scene = scene!();
    let mut spec = command(&scene, "killed");
    let script = ["sh", "-c", "kill -9 $$"].map(str::to_owned).to_vec();
    let command = spec.command.as_mut().expect("the spec has a command");
    command.program = Some(script);
    command.ready = Some(ReadySpec::Log("never".to_owned()));
    assert_contains(&failed_start(&scene, &spec), &["killed by signal 9"]);
}

#[test]
fn g4_daemonizing_program_fails_with_advice_and_leaves_nothing() {
    let scene = scene!();
    let spec = command(&scene, "daemon")
        .with_args([
            "--workers",
            "1",
            "--workers-ignoring-sigterm",
            "1",
            "--exit",
            "0",
        ])
        // The program also accepts connections for a moment, so TCP readiness could succeed.
        .with_ready(ReadySpec::Log("never".to_owned()))
        .with_stop_timeout_ms(300);
    let client = scene.actor();
    let key = client.build(&spec);
    let failure = client
        .try_acquire(Via::TokioMulti)
        .expect_err("the start fails");
    assert_contains(&failure, &["status 0", "foreground"]);
    // The workers have exited when acquire returns, not some time later.
    assert_eq!(scene.workers().len(), 2);
    assert!(scene.workers().iter().all(|worker| !worker.is_live()));
    scene.wait_removed(&spec, key);
}

#[test]
fn g4_command_not_ready_in_time_is_stopped() {
    let scene = scene!();
    let never = scene.root().join("never");
    let spec = command(&scene, "slow")
        .with_args(["--print", "still loading", "--workers", "1", "--wait-for"])
        .with_args([never.to_string_lossy()])
        .with_start_timeout_ms(500);
    let failure = failed_start(&scene, &spec);
    assert_contains(&failure, &["500ms", "TCP", "127.0.0.1:", "still loading"]);
    assert_eq!(scene.stopped().len(), 1, "the service stopped gracefully");
}

#[test]
fn g4_command_not_ready_by_callback_in_time_is_stopped() {
    let scene = scene!();
    let spec = command(&scene, "slow")
        .with_ready(ReadySpec::Callback)
        .with_gates([Gate::Before(Callback::Ready)])
        .with_start_timeout_ms(500);
    assert_contains(
        &failed_start(&scene, &spec),
        &["500ms", "it did not return true"],
    );
}

#[test]
fn g4_program_that_cannot_be_executed_is_named_in_the_error() {
    let scene = scene!();
    let not_executable = scene.root().join("text");
    fs::write(&not_executable, "no program").expect("write");
    let programs = [
        ("no-such-program-anywhere".into(), "not found"),
        (not_executable, "ermission"),
        (scene.unexecutable_file(), "xec format"),
    ];
    for (program, reason) in programs {
        let program: PathBuf = program;
        let name = program.to_string_lossy().into_owned();
        let mut spec = command(&scene, "unknown").with_ready(ReadySpec::AtOnce);
        spec.command
            .as_mut()
            .expect("the spec has a command")
            .program = Some(vec![name.clone()]);
        assert_contains(&failed_start(&scene, &spec), &[&name, reason]);
    }
}

#[test]
fn g4_missing_working_directory_is_named_in_the_error() {
    let scene = scene!();
    let mut spec = command(&scene, "homeless");
    let gone = scene.root().join("gone");
    spec.command.as_mut().expect("the spec has a command").dir = Some(gone.clone());
    assert_contains(
        &failed_start(&scene, &spec),
        &[&gone.to_string_lossy(), "directory"],
    );
}

#[test]
fn g4_fixed_port_in_use_is_named_in_the_error() {
    let scene = scene!();
    let mut spec = command(&scene, "taken").with_start_timeout_ms(1_000_000);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let port = taken.local_addr().expect("get the address").port();
    spec.command.as_mut().expect("the spec has a command").port = Some(port);
    let failure = failed_start(&scene, &spec);
    assert_contains(
        &failure,
        &[
            &format!("127.0.0.1:{port}"),
            "in use",
            "stop the process that listens there",
        ],
    );
}

/// Lets the service become ready only when the returned file exists.
fn ready_after_file(scene: &Scene, spec: ServiceSpec) -> (ServiceSpec, PathBuf) {
    let file = scene.root().join("go-on");
    let spec = spec
        .with_args(["--wait-for"])
        .with_args([file.to_string_lossy()]);
    (spec, file)
}

/// The service binds port 0, so no process except the service knows its port before it is ready.
#[test]
fn g4_port_and_metadata_of_a_notification_reach_every_client() {
    let scene = scene!();
    let spec = command(&scene, "notifies")
        .with_ready(ReadySpec::NotifyPort)
        .with_args(["--notify-line", "PROCREF_META_token=se cret"])
        .with_args(["--notify-line", "PROCREF_META_role=main"])
        // The check connects to the port.
        .with_health(HealthOutcome::Query);
    let clients = scene.clients(3, &spec);
    let pending: Vec<_> = clients
        .iter()
        .map(|client| client.begin_acquire(Via::TokioMulti))
        .collect();
    let sent = [("role", "main"), ("token", "se cret")];
    let sent = sent.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let last = scene.actor();
    let key = last.build(&spec);
    let instance = last.acquire().got;
    assert_ne!(instance.port, 0);
    for (client, pending) in clients.iter().zip(pending) {
        let got = client
            .finish_acquire(pending)
            .expect("the client acquires")
            .got;
        assert_eq!((got.pid, got.port), (instance.pid, instance.port));
        assert_eq!(got.metadata, sent);
    }
    assert_eq!(instance.metadata, sent);
    let service = SharedService::builder(&spec.name)
        .base_dir(scene.runtime_dir())
        .build()
        .expect("build");
    let status = service.status().expect("status");
    let info = status.instance().expect("an instance");
    assert_eq!(info.port(), instance.port);
    assert_eq!(info.get_metadata("token"), Some("se cret"));
    clients.iter().chain([&last]).for_each(Actor::kill);
    scene.wait_removed(&spec, key);
}

#[test]
fn g4_invalid_notification_fails_the_start_and_leaves_nothing() {
    for (line, reason) in [
        ("PROCREF_PORT=70000", "`PROCREF_PORT=70000`: a port is"),
        ("PROCREF_META_a-b=c", "`PROCREF_META_a-b=c`: a key consists"),
    ] {
        let scene = scene!();
        let spec = command(&scene, "notifies")
            .with_ready(ReadySpec::Notify)
            .with_args([
                "--print",
                "going to notify",
                "--notify",
                "--notify-line",
                line,
            ]);
        let failure = failed_start(&scene, &spec);
        let parts = [
            &spec.name,
            "procref-fake-service",
            "sent an invalid notification",
            reason,
            "going to notify",
        ];
        assert_contains(&failure, &parts);
    }
}

/// Health is checked at the port that the service has sent.
#[test]
fn g4_health_of_a_notifying_service_is_checked_at_its_own_port() {
    let scene = scene!();
    let dir = scene.runtime_dir();
    let fake = scene.service("notifies").fake;
    let build = |notify: &[&str]| {
        let command = ServiceCommand::new(&fake.program)
            .args(fake.args())
            .args(["--port", "--notify"])
            .args(notify)
            .ready(Ready::notify())
            .health(Ready::http("/"));
        let service = SharedService::builder("notifies").base_dir(&dir);
        service.command(command).build().expect("build")
    };
    let failure = build(&[]).acquire_blocking().expect_err("no port is sent");
    let failure = failure.to_string();
    assert!(failure.contains("sent no `PROCREF_PORT`"), "{failure}");
    let service = build(&["--notify-port"]);
    let handle = service.acquire_blocking().expect("the service is healthy");
    assert_ne!(handle.port(), 0);
    handle.release_blocking().expect("release");
    let stopped = service.wait_stopped_blocking(Duration::from_secs(60));
    assert!(stopped.expect("wait"));
}

#[test]
fn g4_acquire_waits_for_each_kind_of_readiness() {
    let socket = "{dir}/../socket";
    let kinds = [
        ReadySpec::Tcp,
        ReadySpec::Http("/health".to_owned()),
        ReadySpec::Unix(socket.to_owned()),
        ReadySpec::Notify,
        ReadySpec::Command(
            ["sh", "-c", "test -e \"$GO_ON\" && test {port} -gt 0"]
                .map(str::to_owned)
                .to_vec(),
        ),
    ];
    for kind in kinds {
        let scene = scene!();
        let (mut spec, file) = ready_after_file(&scene, command(&scene, "ready"));
        let env = ("GO_ON".to_owned(), file.to_string_lossy().into_owned());
        spec.command
            .as_mut()
            .expect("the spec has a command")
            .env
            .push(env);
        let spec = match kind {
            ReadySpec::Unix(_) => spec.with_args(["--unix", socket]),
            ReadySpec::Notify => spec.with_args(["--notify"]),
            _ => spec,
        };
        let spec = spec.with_ready(kind.clone());
        let client = scene.actor();
        let key = client.build(&spec);
        let pending = client.begin_acquire(Via::TokioMulti);
        deadline::until_true("the service has started", || scene.started().len() == 1);
        assert!(!client.has_replied(&pending), "{kind:?}");
        assert_eq!(client.status().state, "Starting");
        fs::write(&file, "").expect("write");
        let held = client.finish_acquire(pending).expect("acquire");
        assert_eq!(held.got.pid, scene.only_instance().pid);
        let _ = fs::remove_file(scene.root().join("socket"));
        client.kill();
        scene.wait_removed(&spec, key);
    }
}

#[test]
fn g4_log_readiness_ignores_lines_from_before_the_start() {
    let scene = scene!();
    let mut spec =
        command(&scene, "ready").with_ready(ReadySpec::Log("^pid [0-9]+ ready$".to_owned()));
    let log = scene.root().join("service.log");
    fs::write(&log, "pid 1 ready\n").expect("write");
    let go_on = scene.root().join("go-on");
    let script =
        "echo begun; until test -e \"$1\"; do sleep 0.01; done; echo pid $$ ready; exec sleep 1000";
    let command = spec.command.as_mut().expect("the spec has a command");
    command.program = Some(
        ["sh", "-c", script, "sh", &go_on.to_string_lossy()]
            .map(str::to_owned)
            .to_vec(),
    );
    command.log = Some((log.clone(), 1 << 20));
    let client = scene.actor();
    let key = client.build(&spec);
    let pending = client.begin_acquire(Via::TokioMulti);
    deadline::until_true("the program has written its first line", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("begun"))
    });
    assert!(!client.has_replied(&pending));
    fs::write(&go_on, "").expect("write");
    client.finish_acquire(pending).expect("acquire");
    client.kill();
    scene.wait_removed(&spec, key);
    assert!(log.exists(), "a log with an explicit path stays");
}

#[test]
fn g4_readiness_callback_decides_unless_the_service_dies() {
    let gate = Gate::Before(Callback::Ready);
    for dies in [false, true] {
        let scene = scene!();
        let spec = command(&scene, "callback")
            .with_ready(ReadySpec::Callback)
            .with_gates([gate]);
        let client = scene.actor();
        let key = client.build(&spec);
        let pending = client.begin_acquire(Via::TokioMulti);
        client.event(&Event::Running(Callback::Ready));
        deadline::until_true("the service has started", || scene.started().len() == 1);
        if dies {
            scene.only_instance().kill();
            let failure = client
                .finish_acquire(pending)
                .expect_err("the service died");
            assert_contains(&failure, &["killed by signal 9"]);
        } else {
            assert!(!client.has_replied(&pending));
            client.proceed(gate);
            client.finish_acquire(pending).expect("acquire");
            client.kill();
        }
        scene.wait_removed(&spec, key);
    }
}

#[test]
fn g4_readiness_callback_is_called_again_after_a_pause() {
    const PAUSE: Duration = Duration::from_millis(20);
    let scene = scene!();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&calls);
    let ready = Ready::callback(move |_| {
        let mut recorded = recorded.lock().expect("no thread has panicked");
        recorded.push(Instant::now());
        std::future::ready(recorded.len() == 5)
    });
    let service = SharedService::builder("called again")
        .base_dir(scene.runtime_dir())
        .command(ServiceCommand::new("sleep").arg("1000").ready(ready))
        .build()
        .expect("build");
    let handle = service.acquire_blocking().expect("acquire");
    let calls = calls.lock().expect("no thread has panicked").clone();
    assert_eq!(calls.len(), 5);
    let mut between = calls.windows(2).map(|two| two[1].duration_since(two[0]));
    assert!(between.all(|time| time >= PAUSE), "{calls:?}");
    handle.release_blocking().expect("release");
    let stopped = service.wait_stopped_blocking(Duration::from_secs(60));
    assert!(stopped.expect("wait"));
}

#[test]
fn g4_unhealthy_command_fails_the_start() {
    let scene = scene!();
    let spec = command(&scene, "ill").with_health(HealthOutcome::Always(false));
    assert_contains(&failed_start(&scene, &spec), &["not healthy"]);
    assert_eq!(scene.stopped().len(), 1);
}

#[test]
fn g4_activation_socket_queues_early_connections() {
    let scene = scene!();
    let (mut spec, file) = ready_after_file(&scene, command(&scene, "activated"));
    spec.command
        .as_mut()
        .expect("the spec has a command")
        .activated = true;
    let client = scene.actor();
    let key = client.build(&spec);
    let held = client.acquire();
    // The service does not accept yet, and the connection is queued.
    let early = TcpStream::connect((Ipv4Addr::LOCALHOST, held.got.port)).expect("connect");
    fs::write(&file, "").expect("write");
    let answer = query::service_over(early).expect("query the service");
    assert_eq!(answer, (held.got.pid, true));
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g4_waiter_takes_over_when_a_command_start_fails() {
    let scene = scene!();
    let (spec, file) = ready_after_file(&scene, command(&scene, "taken over"));
    let (one, two) = (scene.client(&spec), scene.actor());
    let key = two.build(&spec);
    let first = one.begin_acquire(Via::TokioMulti);
    deadline::until_true("the service has started", || scene.started().len() == 1);
    let second = two.begin_acquire(Via::TokioMulti);
    scene.wait_sleepers(key, 1);
    scene.only_instance().kill();
    fs::write(&file, "").expect("write");
    one.finish_acquire(first).expect_err("the service died");
    let held = two.finish_acquire(second).expect("acquire");
    assert_eq!(held.got.pid, scene.only_instance().pid);
    two.kill();
    scene.wait_removed(&spec, key);
}

/// A second thread, and the wakes between the two, would take a considerable part of the time of a start.
#[test]
fn blocking_start_has_no_thread_of_procref() {
    let scene = scene!();
    let (spec, file) = ready_after_file(&scene, command(&scene, "without threads"));
    let client = scene.actor();
    let key = client.build(&spec);
    let pending = client.begin_acquire(Via::Blocking);
    deadline::until_true("the service has started", || scene.started().len() == 1);
    let threads = ["procref", "procref-timer"].map(|name| client.identity().threads_named(name));
    assert_eq!(threads, [0, 0]);
    fs::write(&file, "").expect("write");
    client.finish_acquire(pending).expect("acquire");
    client.kill();
    scene.wait_removed(&spec, key);
}

/// A suspended supervisor does not report the exit of the service.
#[test]
fn g4_start_continues_a_suspended_supervisor() {
    let scene = scene!();
    for via in [Via::TokioMulti, Via::Blocking] {
        let (spec, _) = ready_after_file(&scene, command(&scene, "suspended"));
        let spec = spec.with_start_timeout_ms(1_000_000);
        let client = scene.actor_resuming_supervisors();
        let key = client.build(&spec);
        let pending = client.begin_acquire(via);
        deadline::until_true("the service has started", || !scene.living().is_empty());
        let supervisor = scene.only_supervisor(&spec);
        supervisor.signal(rustix::process::Signal::STOP);
        scene.only_instance().kill();
        let failure = client
            .finish_acquire(pending)
            .expect_err("the service died");
        assert_contains(&failure, &["signal 9", "before it was ready"]);
        scene.wait_removed(&spec, key);
    }
}

#[test]
fn g4_cancelled_command_start_leaves_nothing() {
    let scene = scene!();
    let never = scene.root().join("never");
    let spec = command(&scene, "cancelled")
        .with_args(["--workers", "1", "--wait-for"])
        .with_args([never.to_string_lossy()]);
    let client = scene.actor();
    let key = client.build(&spec);
    for started in [false, true] {
        let pending = client.begin_acquire(Via::TokioMulti);
        if started {
            deadline::until_true("the service has started", || !scene.workers().is_empty());
        }
        assert!(client.cancel(pending));
        scene.wait_removed(&spec, key);
    }
}

#[test]
fn log_is_rotated_at_a_start_and_at_a_join() {
    let scene = scene!();
    let mut spec = command(&scene, "talkative").with_args(["--print", "hello"]);
    let log = scene.root().join("service.log");
    fs::write(&log, "x".repeat(2000)).expect("write");
    spec.command.as_mut().expect("the spec has a command").log = Some((log.clone(), 1000));
    let (client, key) = scene.holder(&spec);
    let output = fs::read_to_string(&log).expect("read the log");
    assert!(output.starts_with("hello\n"), "{output}");
    let older = fs::read_to_string(scene.root().join("service.log.1")).expect("read the older log");
    assert_eq!(older.len(), 2000);
    // The service runs and its supervisor is suspended. The next client that joins rotates the log.
    let supervisor = scene.only_supervisor(&spec);
    supervisor.signal(rustix::process::Signal::STOP);
    let joins: [fn(&Actor); 2] = [
        |other| drop(other.acquire()),
        |other| {
            drop(
                other
                    .try_join()
                    .expect("try_join")
                    .expect("the service runs"),
            )
        },
    ];
    for join in joins {
        fs::OpenOptions::new()
            .append(true)
            .open(&log)
            .and_then(|mut file| std::io::Write::write_all(&mut file, "y".repeat(2000).as_bytes()))
            .expect("write");
        let other = scene.client(&spec);
        join(&other);
        assert_eq!(fs::metadata(&log).expect("read the log").len(), 0);
        other.kill();
    }
    supervisor.signal(rustix::process::Signal::CONT);
    client.kill();
    scene.wait_removed(&spec, key);
}

/// The forked child has copies of all pipes that the start waits on.
#[test]
fn g4_child_forked_during_a_start_does_not_delay_it() {
    let scene = scene!();
    for ready in [None, Some(ReadySpec::AtOnce)] {
        let mut spec = command(&scene, "forked").with_start_timeout_ms(1_000_000);
        spec.command.as_mut().expect("the spec has a command").ready = ready;
        let client = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "SupervisorStarted")]);
        let key = client.build(&spec);
        let pending = client.begin_acquire(Via::TokioMulti);
        deadline::until_true("the supervisor is suspended at its first step", || {
            supervisors_of(&spec.name)
                .iter()
                .any(|it| it.is_suspended())
        });
        let child = client.fork();
        scene
            .only_supervisor(&spec)
            .signal(rustix::process::Signal::CONT);
        client.finish_acquire(pending).expect("acquire");
        // The child's copies of the pipes do not keep the service alive.
        client.kill();
        deadline::until_true("the service is stopped", || scene.living().is_empty());
        child.kill();
        scene.wait_removed(&spec, key);
    }
}
