//! What `status` tells, compared with who really does what.

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

/// Where names of clients begin in a set, and how many semaphores it has.
const WHO: usize = 30;
const SLOTS: usize = 130;
const NAMES: usize = SLOTS - WHO;

fn unique(scene: &Scene, name: &str) -> ServiceSpec {
    let tail = scene
        .root()
        .file_name()
        .expect("the directory has a name")
        .to_string_lossy();
    scene.service(&format!("{name} {tail}"))
}

/// As a process sees it that has nothing to do with the service.
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
    // A second handle is no second holder, and the first one that goes none less.
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
    let told = status(&spec);
    let holder = &told.holders()[0];
    let command = holder.command().expect("the command line is known");
    assert!(command.contains("procref-actor --guardian "), "{command}");
    assert!(!command.contains(['\0', '\n']), "{command:?}");
    assert!(before <= holder.since() && holder.since() <= SystemTime::now());

    // The process stays, and its reference; what it runs is another program.
    let _ = client.begin(Command::Exec);
    client.event(&Event::Executed);
    let told = status(&spec);
    let executed = &told.holders()[0];
    assert_eq!(pids(&told), [client.pid()]);
    let command = executed.command().expect("the command line is known");
    assert!(command.contains(" --sleep-forever "), "{command}");
    client.kill();
    deadline::until_true("the supervisor stops it", || {
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
    deadline::until_true("the supervisor stops it", || {
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
    const MORE: usize = 4;
    let scene = scene!();
    let spec = scene.service("many");
    let clients = scene.clients(NAMES + MORE, &spec);
    for client in &clients {
        client.acquire_via(Via::Pollster);
    }
    let told = status(&spec);
    assert_eq!(told.clients() as usize, NAMES + MORE);
    assert_eq!(told.holders().len(), NAMES);
    assert_eq!(told.unknown_holders() as usize, MORE);
    let known = pids(&told);
    assert!(
        known
            .iter()
            .all(|pid| clients.iter().any(|client| client.pid() == *pid))
    );
    // Whoever has a name and goes takes it along; those without one stay counted.
    let (named, unnamed): (Vec<_>, Vec<_>) = clients
        .iter()
        .partition(|client| known.contains(&client.pid()));
    named.iter().for_each(|client| client.kill());
    let told = status(&spec);
    assert_eq!((told.clients() as usize, pids(&told)), (MORE, vec![]));
    assert_eq!(told.unknown_holders() as usize, MORE);
    unnamed.iter().for_each(|client| client.kill());
    deadline::until_true("the supervisor stops it", || {
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
    let slots = || (WHO..SLOTS).filter(|&slot| set.value(slot).expect("read a semaphore") == 0);
    // Everybody's favourite but one.
    let favourite = WHO + two.pid() as usize % NAMES;
    let left = slots()
        .find(|&slot| slot != favourite)
        .expect("a slot is free");
    let taken: Vec<_> = slots().filter(|&slot| slot != left).collect();
    for &slot in &taken {
        set.set_value(slot, 1).expect("fill the slot");
    }
    let second = two.acquire();
    assert_eq!(
        set.value(left).expect("read a semaphore"),
        1,
        "the free one"
    );
    let told = status(&spec);
    assert!(pids(&told).contains(&two.pid()) && told.clients() == 2);

    two.release(&second);
    assert_eq!(set.value(left).expect("read a semaphore"), 0, "given back");
    set.set_value(left, 1).expect("fill the slot");
    let second = two.acquire();
    assert_eq!(one.count(), 2, "counted without a name");
    two.release(&second);
    assert_eq!(one.count(), 1);
    for &slot in taken.iter().chain([&left]) {
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
    let told = status(&spec);
    assert_eq!((told.clients(), told.unknown_holders()), (2, 1));
    assert_eq!(pids(&told), [client.pid()]);
    assert_eq!(counter.counter_op(0, CounterOp::Release), Reply::Count(1));
    client.release(&held);
}

#[test]
fn status_shows_the_supervisor_after_every_join() {
    let scene = scene!();
    let spec = unique(&scene, "supervised");
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
    let told = status(&spec);
    assert_eq!(told.state().to_string(), "ready");
    assert_eq!(told.linger(), Duration::ZERO);
    let (started, uptime) = (told.started_at(), told.uptime());
    let (started, uptime) = (
        started.expect("the start time is known"),
        uptime.expect("the uptime is known"),
    );
    assert!(before <= started && started <= SystemTime::now());
    assert!(uptime <= before.elapsed().expect("the clock does not go back"));
    deadline::until_true("it grows older", || status(&spec).uptime() > Some(uptime));
    let service = scene.only_instance();
    service.kill();
    service.wait_exit();
    let told = status(&spec);
    assert_eq!((told.state(), told.uptime()), (State::Dead, None));
    assert_eq!(told.state().to_string(), "dead");
    client.release(&held);
    let told = status(&spec);
    assert_eq!((told.started_at(), told.uptime()), (None, None));
    assert_eq!(told.state().to_string(), "absent");
}

#[test]
fn status_shows_a_record_only_for_its_own_instance() {
    let scene = scene!();
    let log = scene.root().join("its log");
    let spec = scene.unique(scene.command("recorded"));
    let mut spec = spec.with_fingerprint("v1", Mismatch::Refuse);
    spec.command.as_mut().expect("the spec has a command").log = Some((log.clone(), 1 << 20));
    let (holder, key) = scene.holder(&spec);
    let told = status(&spec);
    let instance = told.instance().expect("an instance is published");
    let (pid, port) = (instance.pid(), instance.port().to_string());
    let service = Identity::of(pid).expect("the process is alive");
    let words = told.command_line().iter();
    let words: String = words
        .map(|word| word.replace("{port}", &port) + "\0")
        .collect();
    assert_eq!(words.into_bytes(), service.command_line());
    assert_eq!(told.log_path(), Some(&*log));
    assert_eq!(told.fingerprint(), Some("v1"));

    // A record that says otherwise whose it is.
    let record = scene.records().remove(0);
    let text = fs::read_to_string(&record).expect("read");
    let other = text.replace(&pid.to_string(), &std::process::id().to_string());
    assert_ne!(other, text);
    fs::write(record, other).expect("write");
    let told = status(&spec);
    assert!(told.command_line().is_empty());
    assert_eq!((told.log_path(), told.fingerprint()), (None, None));
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
        let going = scene.client(&spec);
        let held = going.acquire();
        let told = status(&spec);
        assert_eq!((told.linger(), told.linger_left()), (LINGER, None));
        if killed {
            going.kill();
        } else {
            going.release(&held);
        }
        let left = deadline::until("its supervisor keeps it", || status(&spec).linger_left());
        assert!(left <= LINGER && left > LINGER - Duration::from_secs(60));
        assert_eq!(status(&spec).state(), State::Ready);
    }
    // Looking at it does not keep it longer.
    let left = status(&spec).linger_left();
    deadline::until_true("the time passes", || status(&spec).linger_left() < left);
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
    let told = status(&spec);
    assert_eq!((told.state(), told.clients()), (State::Absent, 0));
    assert!(kernel::find(key).is_none());
    let pending = client.begin_acquire(Via::Pollster);
    client.event(&Event::Running(Callback::Start));
    let told = status(&spec);
    assert_eq!(told.state().to_string(), "starting");
    assert_eq!(told.transition(), Some(client.pid()));
    assert_eq!(pids(&told), [client.pid()]);
    client.proceed(Gate::Before(Callback::Start));
    let held = client.finish_acquire(pending).expect("acquire");
    assert_eq!(status(&spec).transition(), None);
    client.release(&held);
    assert!(kernel::find(key).is_none());
}
