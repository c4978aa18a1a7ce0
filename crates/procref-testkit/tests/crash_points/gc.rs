//! Crashes and changed files in the middle of `Services::gc`.

use std::fs;
use std::path::PathBuf;

use procref::{Removed, Services};
use procref_testkit::protocol::{Command, Reply, Via};
use procref_testkit::scene::write_private;
use procref_testkit::{Scene, deadline, kernel, scene};
use rustix::process::Signal;

/// Creates a log that a service has left without a set.
fn leftover_log(scene: &Scene) -> PathBuf {
    let client = scene.client(&scene.service("logged"));
    let held = client.acquire();
    let log = scene.files()[0].with_extension("log");
    client.release(&held);
    write_private(&log, "text");
    log
}

/// Runs `gc` and returns the keys of the kernel objects that it removes.
fn gc_removed_objects(scene: &Scene) -> Vec<i32> {
    let services = Services::in_dir(scene.runtime_dir()).expect("open");
    let collected = services.gc_blocking().expect("gc");
    let objects = collected
        .removed()
        .iter()
        .filter_map(Removed::kernel_object);
    objects.map(kernel::parse_key).collect()
}

#[test]
fn gc_reports_a_file_that_it_cannot_remove_as_a_failure() {
    let scene = scene!();
    let log = leftover_log(&scene);
    let collector = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "GcLocked")]);
    let key = collector.build(&scene.service("logged"));
    let dir = scene.runtime_dir();
    let collected = collector.begin(Command::Gc { dir, rounds: 1 });
    deadline::until_true("gc has found the log and holds the lock", || {
        collector.identity().is_suspended()
    });
    // No user, not even root, can remove a directory as a file.
    fs::remove_file(&log).expect("remove");
    fs::create_dir(&log).expect("create");
    collector.identity().signal(Signal::CONT);
    let (services, failures) = match collector.reply(collected) {
        Reply::Collected {
            services, failures, ..
        } => (services, failures),
        reply => panic!("{reply:?}"),
    };
    assert_eq!(services, 0);
    assert_eq!(failures.len(), 1, "{failures:?}");
    let path = log.to_string_lossy();
    assert!(failures[0].contains(&*path), "{failures:?}");
    assert!(
        kernel::find(key).is_none(),
        "gc removes the set that it created for its lock"
    );
    fs::remove_dir(&log).expect("remove");
    scene.assert_clean();
}

/// Leftover files have no set, so `gc` creates a set for its lock. The set must contain the digests
/// of the service.
#[test]
fn g6_gc_removes_the_set_that_a_killed_gc_left() {
    let scene = scene!();
    let log = leftover_log(&scene);
    let collector = scene.actor_crashing_at("GcRemovedFiles");
    let key = collector.build(&scene.service("logged"));
    let dir = scene.runtime_dir();
    let _ = collector.begin(Command::Gc { dir, rounds: 1 });
    collector.wait_end();
    assert!(!log.exists());
    assert!(
        kernel::find(key).is_some(),
        "the killed gc has left its set"
    );
    assert_eq!(gc_removed_objects(&scene), [key]);
    scene.assert_clean();
}

/// The client that created the set died before it wrote the digests of the service.
#[test]
fn g6_stop_claims_an_unclaimed_set_before_any_other_step() {
    let scene = scene!();
    let spec = scene.service("unclaimed");
    let creator = scene.actor_crashing_at("Entered");
    let key = creator.build(&spec);
    let _ = creator.begin_acquire(Via::TokioMulti);
    creator.wait_end();
    assert_eq!(gc_removed_objects(&scene), [] as [i32; 0]);
    assert!(
        kernel::find(key).is_some(),
        "gc keeps a set without digests"
    );
    let stopper = scene.actor_crashing_at("UnpinnedToStop");
    stopper.build(&spec);
    let _ = stopper.begin_stop(false, Via::TokioMulti);
    stopper.wait_end();
    assert_eq!(gc_removed_objects(&scene), [key]);
    scene.assert_clean();
}
