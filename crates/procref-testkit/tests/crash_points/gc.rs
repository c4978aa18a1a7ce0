//! What becomes of a collection when something happens in the middle of it.

use std::fs;
use std::path::PathBuf;

use procref::{Removed, Services};
use procref_testkit::protocol::{Command, Reply, Via};
use procref_testkit::scene::write_private;
use procref_testkit::{Scene, deadline, kernel, scene};
use rustix::process::Signal;

/// The log of a service, which was left without a set.
fn forgotten_log(scene: &Scene) -> PathBuf {
    let client = scene.client(&scene.service("logged"));
    let held = client.acquire();
    let log = scene.files()[0].with_extension("log");
    client.release(&held);
    write_private(&log, "text");
    log
}

/// The kernel objects that the next collection removes.
fn collected_objects(scene: &Scene) -> Vec<String> {
    let services = Services::in_dir(scene.runtime_dir()).expect("open");
    let collected = services.gc_blocking().expect("gc");
    let objects = collected
        .removed()
        .iter()
        .filter_map(Removed::kernel_object);
    objects.map(str::to_owned).collect()
}

#[test]
fn gc_reports_a_file_that_it_cannot_remove_as_a_failure() {
    let scene = scene!();
    let log = forgotten_log(&scene);
    let collector = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "GcLocked")]);
    let key = collector.build(&scene.service("logged"));
    let dir = scene.runtime_dir();
    let collected = collector.begin(Command::Gc { dir, rounds: 1 });
    deadline::until_true("it has found the log", || {
        collector.identity().is_suspended()
    });
    // Nobody can remove that as a file, root included.
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
        "its lock is not needed any more"
    );
    fs::remove_dir(&log).expect("remove");
    scene.assert_clean();
}

/// Files alone have no set, so one is made for its lock. It must say whose it is.
#[test]
fn g6_gc_removes_the_set_that_a_killed_gc_left() {
    let scene = scene!();
    let log = forgotten_log(&scene);
    let collector = scene.actor_crashing_at("GcRemovedFiles");
    let key = collector.build(&scene.service("logged"));
    let dir = scene.runtime_dir();
    let _ = collector.begin(Command::Gc { dir, rounds: 1 });
    collector.wait_end();
    assert!(!log.exists());
    assert!(kernel::find(key).is_some(), "nobody was there to remove it");
    assert_eq!(collected_objects(&scene), [format!("{key:#010x}")]);
    scene.assert_clean();
}

/// Whoever made it died before he had said whose it was.
#[test]
fn g6_stop_claims_an_unclaimed_set_before_any_other_step() {
    let scene = scene!();
    let spec = scene.service("nobody's");
    let maker = scene.actor_crashing_at("Entered");
    let key = maker.build(&spec);
    let _ = maker.begin_acquire(Via::TokioMulti);
    maker.wait_end();
    assert_eq!(collected_objects(&scene), [] as [String; 0]);
    assert!(
        kernel::find(key).is_some(),
        "nobody can tell that it is ours"
    );
    let stopper = scene.actor_crashing_at("UnpinnedToStop");
    stopper.build(&spec);
    let _ = stopper.begin_stop(false, Via::TokioMulti);
    stopper.wait_end();
    assert_eq!(collected_objects(&scene), [format!("{key:#010x}")]);
    scene.assert_clean();
}
