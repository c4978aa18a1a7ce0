//! `status`, compared with what the processes really do.

#![cfg(target_os = "linux")]

use std::fs;
use std::time::{Duration, SystemTime};

use procref::{Holder, SharedService, State, Status};
use procref_testkit::deadline;
use procref_testkit::observe::{Identity, supervisors_of};
use procref_testkit::protocol::{
    Callback, Command, CounterOp, DropContext, Event, Gate, Mismatch, Reply, ServiceSpec, Via,
};
use procref_testkit::{Actor, Scene, kernel, scene};

/// First holder slot of a set.
const HOLDERS: usize = 30;

/// Number of semaphores in a set.
const SLOTS: usize = 130;

const HOLDER_SLOTS: usize = SLOTS - HOLDERS;

fn unique_service(scene: &Scene, name: &str) -> ServiceSpec {
    scene.unique(scene.service(name))
}

/// Returns the status, read by a process that does not use the service.
fn status(spec: &ServiceSpec) -> Status {
    let mut builder = SharedService::builder(&spec.name);
    if let Some(dir) = &spec.dir {
        builder = builder.base_dir(dir);
    }
    let service = builder.build().expect("build");
    service.status().expect("status")
}

fn pids(status: &Status) -> Vec<u32> {
    status.holders().iter().map(Holder::pid).collect()
}

#[track_caller]
fn assert_held_by<'a>(spec: &ServiceSpec, clients: impl IntoIterator<Item = &'a Actor>) {
    let mut expected: Vec<_> = clients.into_iter().map(Actor::pid).collect();
    expected.sort_unstable();
    let status = status(spec);
    assert_eq!(pids(&status), expected);
    assert_eq!(status.clients() as usize, expected.len());
    assert_eq!(status.unknown_holders(), 0);
}

#[test]
fn status_lists_exactly_the_clients_that_hold_a_reference() {
    let scene = scene!();
    let spec = scene.service("held");
    let clients = scene.clients(8, &spec);
    assert_held_by(&spec, []);
    let mut held = Vec::new();
    for (index, client) in clients.iter().enumerate() {
        held.push(client.acquire());
        assert_held_by(&spec, &clients[..=index]);
    }
    // A second handle is not a second holder, and its release does not remove the holder.
    let second = clients[0].acquire();
    assert_held_by(&spec, &clients);
    clients[0].release(&second);
    assert_held_by(&spec, &clients);
    let joined = clients[0].try_join().expect("an instance is ready");
    let joined = joined.expect("this process holds the service");
    assert_held_by(&spec, &clients);
    clients[0].release(&joined);
    assert_held_by(&spec, &clients);

    clients[0].release(&held[0]);
    assert_held_by(&spec, &clients[1..]);
    clients[1].kill();
    clients[2].drop_handle(&held[2], DropContext::Thread);
    assert_held_by(&spec, &clients[3..]);
    held[0] = clients[0].acquire();
    assert_held_by(&spec, clients[3..].iter().chain(&clients[..1]));

    for (client, held) in clients.iter().zip(&held).skip(3) {
        client.release(held);
    }
    assert_held_by(&spec, &clients[..1]);
    clients[0].release(&held[0]);
    assert_held_by(&spec, []);
}

#[test]
fn status_shows_a_holders_command_line_and_start_time() {
    let scene = scene!();
    let spec = scene.service("shown");
    let before = SystemTime::now() - Duration::from_millis(50);
    let client = scene.client(&spec);
    client.acquire();
    let snapshot = status(&spec);
    let holder = &snapshot.holders()[0];
    let command = holder.command().expect("the command line is known");
    assert!(command.contains("procref-actor --guardian "), "{command}");
    assert!(!command.contains(['\0', '\n']), "{command:?}");
    assert!(before <= holder.since() && holder.since() <= SystemTime::now());

    // After `exec`, the process and its reference stay. The command line is that of the new
    // program.
    let _ = client.begin(Command::Exec);
    client.event(&Event::Executed);
    let snapshot = status(&spec);
    let executed = &snapshot.holders()[0];
    assert_eq!(pids(&snapshot), [client.pid()]);
    let command = executed.command().expect("the command line is known");
    assert!(command.contains(" --sleep-forever "), "{command}");
    client.kill();
    deadline::until_true("the supervisor stops the service", || {
        status(&spec).state() == State::Absent
    });
}

#[test]
fn g8_forked_child_is_not_listed_as_a_holder() {
    let scene = scene!();
    let spec = scene.service("forked");
    let parent = scene.client(&spec);
    let held = parent.acquire();
    let child = parent.fork();
    assert_held_by(&spec, [&parent]);
    child.acquire_via(Via::Pollster);
    assert_held_by(&spec, [&parent, &child]);
    parent.release(&held);
    assert_held_by(&spec, [&child]);
    child.kill();
    deadline::until_true("the supervisor stops the service", || {
        status(&spec).state() == State::Absent
    });
}

#[test]
fn status_is_exact_after_concurrent_acquires_and_releases() {
    let scene = scene!();
    let spec = scene.service("crowd");
    let anchor = scene.client(&spec);
    let held = anchor.acquire();
    let clients = scene.clients(24, &spec);
    for _ in 0..5 {
        let requests: Vec<_> = clients
            .iter()
            .map(|client| client.begin_acquire(Via::Pollster))
            .collect();
        let mut got = Vec::new();
        for (client, pending) in clients.iter().zip(requests) {
            got.push(client.finish_acquire(pending).expect("acquire"));
        }
        assert_held_by(&spec, clients.iter().chain([&anchor]));
        let requests: Vec<_> = clients
            .iter()
            .zip(&got)
            .map(|(client, held)| {
                client.begin(Command::Release {
                    handle: held.handle,
                    via: Via::Pollster,
                })
            })
            .collect();
        for (client, pending) in clients.iter().zip(requests) {
            assert_eq!(client.reply(pending), Reply::Done);
        }
        assert_held_by(&spec, [&anchor]);
    }
    anchor.release(&held);
}

#[test]
fn status_counts_holders_beyond_the_holder_slots() {
    const EXTRA: usize = 4;
    let scene = scene!();
    let spec = scene.service("many");
    let clients = scene.clients(HOLDER_SLOTS + EXTRA, &spec);
    for client in &clients {
        client.acquire_via(Via::Pollster);
    }
    let snapshot = status(&spec);
    assert_eq!(snapshot.clients() as usize, HOLDER_SLOTS + EXTRA);
    assert_eq!(snapshot.holders().len(), HOLDER_SLOTS);
    assert_eq!(snapshot.unknown_holders() as usize, EXTRA);
    let known = pids(&snapshot);
    assert!(
        known
            .iter()
            .all(|pid| clients.iter().any(|client| client.pid() == *pid))
    );
    // A killed client in a holder slot leaves the list. Clients without a slot stay counted.
    let (listed, unlisted): (Vec<_>, Vec<_>) = clients
        .iter()
        .partition(|client| known.contains(&client.pid()));
    listed.iter().for_each(|client| client.kill());
    let snapshot = status(&spec);
    assert_eq!(
        (snapshot.clients() as usize, pids(&snapshot)),
        (EXTRA, vec![])
    );
    assert_eq!(snapshot.unknown_holders() as usize, EXTRA);
    unlisted.iter().for_each(|client| client.kill());
    deadline::until_true("the supervisor stops the service", || {
        status(&spec).state() == State::Absent
    });
}

#[test]
fn holder_slot_in_use_is_skipped() {
    let scene = scene!();
    let spec = scene.service("taken");
    let (one, two) = (scene.client(&spec), scene.client(&spec));
    let key = one.build_as(1, &spec);
    let first = one.acquire();
    let set = kernel::find(key).expect("the semaphore set exists");
    let slots = || (HOLDERS..SLOTS).filter(|&slot| set.value(slot).expect("read a semaphore") == 0);
    // Fill all free slots except one. The free slot is not the first choice of the second client.
    let preferred = HOLDERS + two.pid() as usize % HOLDER_SLOTS;
    let free = slots()
        .find(|&slot| slot != preferred)
        .expect("a slot is free");
    let filled: Vec<_> = slots().filter(|&slot| slot != free).collect();
    for &slot in &filled {
        set.set_value(slot, 1).expect("fill the slot");
    }
    let second = two.acquire();
    assert_eq!(
        set.value(free).expect("read a semaphore"),
        1,
        "the client takes the free slot"
    );
    let snapshot = status(&spec);
    assert!(pids(&snapshot).contains(&two.pid()) && snapshot.clients() == 2);

    two.release(&second);
    assert_eq!(
        set.value(free).expect("read a semaphore"),
        0,
        "the release clears the slot"
    );
    set.set_value(free, 1).expect("fill the slot");
    let second = two.acquire();
    assert_eq!(one.count(), 2, "a client without a slot is counted");
    two.release(&second);
    assert_eq!(one.count(), 1);
    for &slot in filled.iter().chain([&free]) {
        set.set_value(slot, 0).expect("clear the slot");
    }
    one.release(&first);
}

#[test]
fn status_counts_a_counters_references_without_names() {
    let scene = scene!();
    let spec = scene.service("counted");
    let (client, counter) = (scene.client(&spec), scene.client(&spec));
    let held = client.acquire();
    counter.counter(0, &spec.name);
    assert_eq!(counter.counter_op(0, CounterOp::Acquire), Reply::Count(2));
    let snapshot = status(&spec);
    assert_eq!((snapshot.clients(), snapshot.unknown_holders()), (2, 1));
    assert_eq!(pids(&snapshot), [client.pid()]);
    assert_eq!(counter.counter_op(0, CounterOp::Release), Reply::Count(1));
    client.release(&held);
}

#[test]
fn status_shows_the_supervisor_after_every_join() {
    let scene = scene!();
    let spec = unique_service(&scene, "supervised");
    let clients = scene.clients(3, &spec);
    let mut held = vec![clients[0].acquire()];
    let supervisors = supervisors_of(&spec.name);
    let supervisor = supervisors[0];
    for client in &clients[1..] {
        assert_eq!(status(&spec).supervisor(), Some(supervisor.pid));
        held.push(client.acquire());
    }
    assert_eq!(status(&spec).supervisor(), Some(supervisor.pid));
    supervisor.kill();
    supervisor.wait_exit();
    assert_eq!(status(&spec).supervisor(), None);
    clients[2].release(&held[2]);
    held[2] = clients[2].acquire();
    let next = supervisors_of(&spec.name);
    assert_eq!(next.len(), 1);
    assert_eq!(status(&spec).supervisor(), Some(next[0].pid));
    for (client, held) in clients.iter().zip(&held) {
        client.release(held);
    }
    assert_eq!(status(&spec).supervisor(), None);
}

#[test]
fn status_shows_the_age_of_an_instance() {
    let scene = scene!();
    let spec = scene.service("old").with_orphans_kept();
    let before = SystemTime::now() - Duration::from_millis(50);
    let client = scene.client(&spec);
    let held = client.acquire();
    let snapshot = status(&spec);
    assert_eq!(snapshot.state().to_string(), "ready");
    assert_eq!(snapshot.linger(), Duration::ZERO);
    let (started, uptime) = (snapshot.started_at(), snapshot.uptime());
    let (started, uptime) = (
        started.expect("the start time is known"),
        uptime.expect("the uptime is known"),
    );
    assert!(before <= started && started <= SystemTime::now());
    assert!(uptime <= before.elapsed().expect("the clock does not go back"));
    deadline::until_true("the uptime grows", || status(&spec).uptime() > Some(uptime));
    scene.kill_only_instance();
    let snapshot = status(&spec);
    assert_eq!((snapshot.state(), snapshot.uptime()), (State::Dead, None));
    assert_eq!(snapshot.state().to_string(), "dead");
    client.release(&held);
    let snapshot = status(&spec);
    assert_eq!((snapshot.started_at(), snapshot.uptime()), (None, None));
    assert_eq!(snapshot.state().to_string(), "absent");
}

#[test]
fn status_shows_a_record_only_for_its_own_instance() {
    let scene = scene!();
    let log = scene.root().join("its log");
    let spec = scene.unique(scene.command("recorded"));
    let mut spec = spec.with_fingerprint("v1", Mismatch::Refuse);
    spec.command.as_mut().expect("the spec has a command").log = Some((log.clone(), 1 << 20));
    let (holder, key) = scene.holder(&spec);
    let snapshot = status(&spec);
    let instance = snapshot.instance().expect("an instance is published");
    let (pid, port) = (instance.pid(), instance.port().to_string());
    let service = Identity::of(pid).expect("the process is alive");
    let arguments = snapshot.command_line().iter();
    let arguments: String = arguments
        .map(|argument| argument.replace("{port}", &port) + "\0")
        .collect();
    assert_eq!(arguments.into_bytes(), service.command_line());
    assert_eq!(snapshot.log_path(), Some(&*log));
    assert_eq!(snapshot.fingerprint(), Some("v1"));

    // Now the record names another process.
    let record = scene.records().remove(0);
    let text = fs::read_to_string(&record).expect("read");
    let other = text.replace(&pid.to_string(), &std::process::id().to_string());
    assert_ne!(other, text);
    fs::write(record, other).expect("write");
    let snapshot = status(&spec);
    assert!(snapshot.command_line().is_empty());
    assert_eq!((snapshot.log_path(), snapshot.fingerprint()), (None, None));
    holder.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn status_shows_the_remaining_linger() {
    const LINGER: Duration = Duration::from_secs(600);
    let scene = scene!();
    let spec = scene.service("warm").with_linger_ms(600_000);
    let client = scene.client(&spec);
    for killed in [false, true] {
        let leaving = scene.client(&spec);
        let held = leaving.acquire();
        let snapshot = status(&spec);
        assert_eq!((snapshot.linger(), snapshot.linger_left()), (LINGER, None));
        if killed {
            leaving.kill();
        } else {
            leaving.release(&held);
        }
        let remaining = deadline::until("the supervisor lets the service linger", || {
            status(&spec).linger_left()
        });
        assert!(remaining <= LINGER && remaining > LINGER - Duration::from_secs(60));
        assert_eq!(status(&spec).state(), State::Ready);
    }
    // `status` does not extend the linger.
    let remaining = status(&spec).linger_left();
    deadline::until_true("the remaining linger decreases", || {
        status(&spec).linger_left() < remaining
    });
    let held = client.acquire();
    assert_eq!(status(&spec).linger_left(), None);
    let supervisor = status(&spec).supervisor().expect("a supervisor exists");
    let supervisor =
        procref_testkit::observe::Identity::of(supervisor).expect("the process is alive");
    supervisor.kill();
    supervisor.wait_exit();
    client.release(&held);
}

#[test]
fn status_creates_nothing_and_disturbs_no_start() {
    let scene = scene!();
    let spec = scene
        .service("looked")
        .with_gates([Gate::Before(Callback::Start)]);
    let client = scene.actor();
    let key = client.build(&spec);
    let snapshot = status(&spec);
    assert_eq!((snapshot.state(), snapshot.clients()), (State::Absent, 0));
    assert!(kernel::find(key).is_none());
    let pending = client.begin_acquire(Via::Pollster);
    client.event(&Event::Running(Callback::Start));
    let snapshot = status(&spec);
    assert_eq!(snapshot.state().to_string(), "starting");
    assert_eq!(snapshot.transition(), Some(client.pid()));
    assert_eq!(pids(&snapshot), [client.pid()]);
    client.proceed(Gate::Before(Callback::Start));
    let held = client.finish_acquire(pending).expect("acquire");
    assert_eq!(status(&spec).transition(), None);
    client.release(&held);
    assert!(kernel::find(key).is_none());
}
