//! `Services::gc` removes the leftovers of crashes, and nothing else.

#![cfg(target_os = "linux")]

use std::fs::{self, Permissions};
use std::future::Future;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::thread;

use procref::{Collected, PlatformRefCounter, RefCounter as _, Removed, Services};
use procref_testkit::deadline;
use procref_testkit::kernel;
use procref_testkit::observe::{Identity, supervisors_of};
use procref_testkit::protocol::{
    Callback, Command, CounterOp, Event, Gate, Outcome, Reply, ServiceSpec, Via,
};
use procref_testkit::scene::write_private;
use procref_testkit::{Actor, Scene, scene};

/// Slot of the pin, which keeps a service without clients.
const PIN: usize = 4;

fn unique_service(scene: &Scene, name: &str) -> ServiceSpec {
    scene.unique(scene.service(name))
}

fn gc(scene: &Scene) -> Collected {
    let services = Services::in_dir(scene.runtime_dir()).expect("open");
    services.gc_blocking().expect("gc")
}

/// Runs `gc`, asserts that it reports no failure, and returns what it removed.
#[track_caller]
fn collect(scene: &Scene) -> Vec<Removed> {
    let collected = gc(scene);
    assert!(collected.failures().is_empty(), "{collected:?}");
    collected.removed().to_vec()
}

#[track_caller]
fn assert_nothing_to_collect(scene: &Scene) {
    assert_eq!(collect(scene), []);
}

fn kill(process: Identity) {
    process.kill();
    process.wait_exit();
}

/// Starts a service, kills its supervisor and then its only client. Returns the service and its
/// key.
fn orphan(scene: &Scene, spec: &ServiceSpec) -> (Identity, i32) {
    let client = scene.actor();
    let key = client.build(spec);
    let held = client.acquire();
    supervisors_of(&spec.name).into_iter().for_each(kill);
    client.kill();
    let service = Identity::of(held.got.pid).expect("the process is alive");
    (service, key)
}

#[test]
fn g6_gc_stops_an_orphan_and_removes_its_set_and_files() {
    let scene = scene!();
    let spec = unique_service(&scene, "orphan");
    let (service, key) = orphan(&scene, &spec);
    let object = kernel::name_of(key);
    let files = scene.files();
    let removed = collect(&scene);
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].name(), Some(&*spec.name));
    assert_eq!(removed[0].stopped(), Some(service.pid));
    assert_eq!(removed[0].kernel_object(), Some(&*object));
    assert_eq!(removed[0].files(), files);
    scene.assert_clean();
    assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
    assert_nothing_to_collect(&scene);
    scene.assert_clean();

    let next = scene.client(&spec);
    let held = next.acquire();
    assert_ne!(held.got.pid, service.pid);
    next.release(&held);
}

#[test]
fn gc_leaves_held_kept_lingering_and_pinned_services() {
    let scene = scene!();
    // This service is held, and its supervisor was killed.
    let spec = unique_service(&scene, "held");
    let holder = scene.client(&spec);
    let held = holder.acquire();
    supervisors_of(&spec.name).into_iter().for_each(kill);
    // This service is kept without clients.
    let kept = scene.service("kept").with_orphans_kept();
    orphan(&scene, &kept);
    // This service lingers longer than the test takes.
    let lingering = unique_service(&scene, "warm").with_linger_ms(1_000_000);
    let last = scene.client(&lingering);
    let handle = last.acquire();
    last.release(&handle);
    // This service is pinned.
    let pinned = unique_service(&scene, "pinned");
    let client = scene.actor();
    let key = client.build(&pinned);
    client.acquire();
    let set = kernel::find(key).expect("the semaphore set exists");
    set.set_value(PIN, 1).expect("pin");
    client.kill();
    supervisors_of(&pinned.name).into_iter().for_each(kill);

    let (living, files) = (scene.living(), scene.files());
    assert_eq!((living.len(), files.len()), (4, 4));
    for _ in 0..3 {
        assert_nothing_to_collect(&scene);
    }
    assert_eq!((scene.living(), scene.files()), (living, files));
    assert_eq!(holder.count(), 1);

    // Unpin one service and kill the supervisor of the lingering one. `gc` must stop both.
    set.set_value(PIN, 0).expect("unpin");
    supervisors_of(&lingering.name).into_iter().for_each(kill);
    let mut removed = collect(&scene);
    removed.sort_by_key(|removed| removed.name().map(str::to_owned));
    let names: Vec<_> = removed.iter().filter_map(Removed::name).collect();
    assert_eq!(names, [pinned.name.as_str(), lingering.name.as_str()]);
    holder.release(&held);
    let adopter = scene.client(&kept);
    let held = adopter.acquire();
    adopter.release(&held);
    scene.assert_clean();
}

#[test]
fn gc_leaves_services_that_are_starting_or_locked() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let (client, _, pending) =
        scene.client_at_gate(&scene.service("starting"), gate, Via::Pollster);
    let counter = scene.client(&scene.service("locked"));
    counter.counter(0, "locked");
    assert_eq!(counter.counter_op(0, CounterOp::TryLock), Reply::Flag(true));
    assert_nothing_to_collect(&scene);
    client.proceed(gate);
    let held = client.finish_acquire(pending).expect("acquire");
    assert_eq!(client.count(), 1);
    client.release(&held);
    assert_eq!(counter.counter_op(0, CounterOp::Unlock), Reply::Done);
}

#[test]
fn g6_gc_stops_a_service_whose_set_was_removed() {
    let scene = scene!();
    let spec = scene.service("cut off");
    let client = scene.actor();
    let key = client.build(&spec);
    let held = client.acquire();
    kernel::find(key)
        .expect("the semaphore set exists")
        .remove()
        .expect("remove");
    client.kill();
    let removed = collect(&scene);
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].stopped(), Some(held.got.pid));
    assert_eq!(removed[0].kernel_object(), None);
    assert_eq!(removed[0].files().len(), 1);
    scene.assert_clean();
    assert_eq!(scene.stopped(), [(held.got.pid, "signal 15".to_owned())]);
}

#[test]
fn g5_gc_does_not_signal_a_hosting_client() {
    let scene = scene!();
    let spec = scene.service("hosted").with_starts([Outcome::OwnPid]);
    let client = scene.actor();
    let key = client.build(&spec);
    client.acquire();
    assert_nothing_to_collect(&scene);
    kernel::find(key)
        .expect("the semaphore set exists")
        .remove()
        .expect("remove");
    let removed = collect(&scene);
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].stopped(), None);
    assert!(client.identity().is_live());
    let other = scene.client(&scene.service("hosted"));
    let held = other.acquire();
    assert!(client.identity().is_live());
    other.release(&held);
}

#[test]
fn g6_gc_removes_the_remains_of_dead_services() {
    let scene = scene!();
    // The service, its supervisor and its client were killed.
    let spec = unique_service(&scene, "dead");
    let (service, _) = orphan(&scene, &spec);
    kill(service);
    // This client was killed in its start, which had no supervisor and has left no record.
    let gate = Gate::Before(Callback::Start);
    let spec = scene
        .service("begun")
        .with_orphans_kept()
        .with_gates([gate]);
    let client = scene.client(&spec);
    let _ = client.begin_acquire(Via::Pollster);
    client.event(&Event::Running(Callback::Start));
    client.kill();

    let removed = collect(&scene);
    assert_eq!(removed.len(), 2);
    assert!(
        removed
            .iter()
            .all(|it| it.stopped().is_none() && it.kernel_object().is_some())
    );
    let mut names: Vec<_> = removed.iter().map(Removed::name).collect();
    names.sort_unstable();
    assert!(names[0].is_none() && names[1].is_some_and(|name| name.starts_with("dead")));
    scene.assert_clean();
}

#[test]
fn g6_gc_removes_a_lingering_service_that_died() {
    let scene = scene!();
    let spec = unique_service(&scene, "warm").with_linger_ms(1_000_000);
    let client = scene.actor();
    let key = client.build(&spec);
    let held = client.acquire();
    client.release(&held);
    assert_nothing_to_collect(&scene);
    kill(scene.only_instance());
    // The supervisor has had the lock since the release. On a busy machine, it may notice the death late.
    let set = kernel::find(key).expect("the semaphore set exists");
    deadline::until_true("the supervisor has noticed the death", || {
        set.value(1).is_ok_and(|lock| lock == 0)
    });
    let removed = collect(&scene);
    assert_eq!((removed.len(), removed[0].stopped()), (1, None));
    scene.assert_clean();
    deadline::until_true("the supervisor exits", || {
        supervisors_of(&spec.name).is_empty()
    });
}

#[test]
fn g3_gc_finishes_the_stop_of_a_killed_collector() {
    let scene = scene!();
    let mut spec = unique_service(&scene, "slow");
    spec.fake.slow_stop_ms = 500;
    let (service, _) = orphan(&scene, &spec);
    let collector = scene.actor();
    let dir = scene.runtime_dir();
    let _ = collector.begin(Command::Gc { dir, rounds: 1 });
    let stopping = || {
        let listed = Services::in_dir(scene.runtime_dir()).and_then(|it| it.list());
        listed.expect("list")[0].status().state() == procref::State::Stopping
    };
    deadline::until_true("the service is stopping", stopping);
    collector.kill();
    assert!(service.is_live());
    let removed = collect(&scene);
    assert_eq!(removed[0].stopped(), Some(service.pid));
    scene.assert_clean();
}

#[test]
fn g9_dropped_gc_finishes_in_the_background() {
    let scene = scene!();
    let mut spec = unique_service(&scene, "slow");
    spec.fake.slow_stop_ms = 300;
    let (service, _) = orphan(&scene, &spec);
    {
        let services = Services::in_dir(scene.runtime_dir()).expect("open");
        let mut collection = pin!(services.gc());
        let mut context = Context::from_waker(Waker::noop());
        assert!(collection.as_mut().poll(&mut context).is_pending());
        assert!(service.is_live(), "the service stops slowly");
    }
    deadline::until_true("the service and its files are gone", || {
        !service.is_live() && scene.files().is_empty()
    });
    deadline::until_true("the set is gone", || collect(&scene).is_empty());
    scene.assert_clean();
    assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
}

#[test]
fn gc_reports_a_service_that_it_cannot_stop_and_keeps_it() {
    let scene = scene!();
    // The set names the process that runs `gc`, which `gc` does not signal.
    let spec = unique_service(&scene, "stuck");
    let (service, key) = orphan(&scene, &spec);
    let set = kernel::find(key).expect("the semaphore set exists");
    set.write_instance(Identity::own());
    let collected = gc(&scene);
    assert!(collected.removed().is_empty());
    let failure = collected.failures()[0].to_string();
    assert!(failure.contains(&spec.name), "{failure}");
    assert!(failure.contains("calling process"), "{failure}");
    assert_eq!(
        set.value(1).expect("the set still exists"),
        0,
        "the set is unlocked"
    );
    assert_eq!(scene.files().len(), 1);
    set.remove().expect("remove");
    assert_eq!(collect(&scene)[0].stopped(), Some(service.pid));
}

/// Returns the path of another file that belongs to the service of this record.
fn beside(record: &Path, ending: &str) -> PathBuf {
    record.with_extension(ending)
}

#[test]
fn g6_gc_removes_files_without_a_service() {
    let scene = scene!();
    let spec = scene.service("logged");
    let client = scene.client(&spec);
    let held = client.acquire();
    let record = scene.files().remove(0);
    let belongings = ["tmp", "log", "log.1"].map(|ending| beside(&record, ending));
    for path in &belongings {
        write_private(path, "text");
    }
    assert_nothing_to_collect(&scene);
    assert_eq!(
        scene.files().len(),
        4,
        "gc keeps the files of a running service"
    );
    client.release(&held);
    assert_eq!(scene.files().len(), 0, "the last release removes all files");
    for path in &belongings {
        write_private(path, "text");
    }
    let space = scene.namespace_id();
    let at = |name: String| scene.runtime_dir().join(name);
    let broken = at(format!("web-0123456789abcde.{space}.json"));
    write_private(&broken, "{\"version\":");
    let huge = at(format!("web-1123456789abcde.{space}.json"));
    write_private(&huge, vec![b' '; 2 << 20]);

    let removed = collect(&scene);
    let mut files: Vec<_> = removed.iter().flat_map(Removed::files).cloned().collect();
    files.sort();
    let mut expected = belongings.to_vec();
    expected.extend([broken, huge]);
    expected.sort();
    assert_eq!(files, expected);
    assert!(removed.iter().all(|it| it.kernel_object().is_none()));
    scene.assert_clean();
}

#[test]
fn gc_leaves_files_that_are_not_procrefs() {
    let scene = scene!();
    let client = scene.client(&scene.service("real"));
    let held = client.acquire();
    let good = fs::read(&scene.files()[0]).expect("read");
    client.release(&held);
    let at = |name: &str| scene.runtime_dir().join(name);
    for name in [
        "notes.txt",
        "web.json",
        "web.log",
        "web-0123456789ABCDE.json",
        "web-0123456789abcde.txt",
        "web-0123456789abcde.log.2",
        "web-0123456789abcde0.json",
    ] {
        write_private(&at(name), "");
    }
    let space = scene.namespace_id();
    let ours = |stem: &str, ending: &str| at(&format!("{stem}.{space}.{ending}"));
    // These names have procref's pattern, but the files do not belong to this service. They are
    // records of another service and of another version, directories, links, and a file that others
    // can read.
    write_private(&ours("copy-1123456789abcde", "json"), &good);
    write_private(&ours("next-2123456789abcde", "json"), "{\"version\": 77}");
    fs::create_dir(ours("dir-3123456789abcde", "json")).expect("create");
    fs::create_dir(ours("dir-3123456789abcde", "log")).expect("create");
    let private = Permissions::from_mode(0o700);
    fs::set_permissions(ours("dir-3123456789abcde", "log"), private).expect("chmod");
    symlink(at("notes.txt"), ours("link-4123456789abcde", "json")).expect("create the link");
    symlink(at("notes.txt"), ours("link-4123456789abcde", "log")).expect("create the link");
    write_private(&ours("open-5123456789abcde", "log"), "");
    fs::set_permissions(
        ours("open-5123456789abcde", "log"),
        Permissions::from_mode(0o644),
    )
    .expect("chmod");

    let before = scene.files();
    assert_nothing_to_collect(&scene);
    assert_eq!(scene.files(), before);
    assert_eq!(scene.sweep().len(), before.len());
}

#[test]
fn gc_leaves_services_of_another_directory() {
    let (one, two) = (scene!(), scene!());
    let spec = unique_service(&two, "elsewhere");
    let (service, key) = orphan(&two, &spec);
    // This set has procref's size and mode, but belongs to no service.
    let blank =
        0x7e58_0000 | i32::try_from(std::process::id() & 0xffff).expect("the number is small");
    let blank = kernel::Set::create(blank, 130, 0o600).expect("create");
    assert_nothing_to_collect(&one);
    assert!(service.is_live() && kernel::find(key).is_some());
    assert_eq!(kernel::find(blank.key).as_ref(), Some(&blank));
    blank.remove().expect("remove");
    assert_eq!(collect(&two).len(), 1);
    two.assert_clean();
}

#[test]
fn concurrent_gc_stops_each_orphan_once() {
    let scene = scene!();
    let specs = ["one", "two", "three"].map(|name| unique_service(&scene, name));
    let mut services: Vec<_> = specs
        .iter()
        .map(|spec| orphan(&scene, spec).0.pid)
        .collect();
    let actors = scene.actors(6);
    let requests: Vec<_> = actors
        .iter()
        .map(|actor| {
            let dir = scene.runtime_dir();
            actor.begin(Command::Gc { dir, rounds: 20 })
        })
        .collect();
    let mut stopped = Vec::new();
    for (actor, pending) in actors.iter().zip(requests) {
        match actor.reply(pending) {
            Reply::Collected {
                stopped: pids,
                failures,
                ..
            } => {
                assert_eq!(failures, [] as [String; 0]);
                stopped.extend(pids);
            }
            reply => panic!("{reply:?}"),
        }
    }
    stopped.sort_unstable();
    services.sort_unstable();
    assert_eq!(stopped, services);
    assert_eq!(scene.stopped().len(), 3, "each service stopped gracefully");
    scene.assert_clean();
}

/// A client may take a reference after `gc` has checked the service and before `gc` has its lock.
#[test]
fn gc_keeps_a_reference_taken_between_its_check_and_its_lock() {
    let scene = scene!();
    let dir = scene.runtime_dir();
    let counter = PlatformRefCounter::in_dir("quick", &dir).expect("counter");
    let services = Services::in_dir(&dir).expect("open");
    let done = AtomicBool::new(false);
    let lost = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut lost = 0;
            for _ in 0..20_000 {
                counter.acquire().expect("acquire");
                // Check for about as long as a removal takes.
                let held = (0..30).all(|_| counter.count().expect("count") == 1);
                lost += u32::from(!held);
                counter.release().expect("release");
            }
            done.store(true, Ordering::Relaxed);
            lost
        });
        while !done.load(Ordering::Relaxed) {
            let collected = services.gc_blocking().expect("gc");
            assert!(collected.failures().is_empty(), "{collected:?}");
        }
        client.join().expect("the thread has not panicked")
    });
    assert_eq!(lost, 0, "gc removed references");
    scene.assert_clean();
}

#[test]
fn g1_gc_beside_busy_and_killed_clients_never_causes_two() {
    let scene = scene!();
    let spec = unique_service(&scene, "busy");
    let collectors = scene.actors(2);
    for collector in &collectors {
        let dir = scene.runtime_dir();
        let rounds = 1_000_000;
        let _ = collector.begin(Command::Gc { dir, rounds });
    }
    let clients = scene.clients(4, &spec);
    let storms: Vec<_> = clients
        .iter()
        .map(|client| {
            client.begin(Command::Storm {
                service: 0,
                rounds: 150,
                pause_us: 3000,
            })
        })
        .collect();
    // While they run, other clients leave orphans.
    for _ in 0..10 {
        let victim = scene.client(&spec);
        victim.acquire();
        supervisors_of(&spec.name).into_iter().for_each(kill);
        victim.kill();
        scene.assert_single_instance();
    }
    for (client, pending) in clients.iter().zip(storms) {
        let report = client.finish_storm(pending);
        assert_eq!((report.good, report.wrong), (150, vec![]));
    }
    scene.assert_single_instance();
    collectors.iter().for_each(Actor::kill);
    clients.iter().for_each(Actor::kill);
    collect(&scene);
    scene.assert_clean();
}
