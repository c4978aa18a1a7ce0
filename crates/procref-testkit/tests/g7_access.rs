//! G7: no other user gets in. An object or file that another user has created under a service's
//! name is an error and is not used.

#![cfg(target_os = "linux")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use procref_testkit::kernel::{self, Set};
use procref_testkit::protocol::{CounterOp, Failure, Reply, Via};
use procref_testkit::{Scene, scene};

/// The user ID of `nobody`, who is not root and owns nothing.
const NOBODY: u32 = 65534;

/// Number of semaphores in procref's sets.
const SLOTS: usize = 130;

#[track_caller]
fn assert_contains(failure: &Failure, parts: &[&str]) {
    for part in parts {
        assert!(failure.whole().contains(part), "{part:?} in {failure:#?}");
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn g7_objects_files_and_directories_are_private_for_any_umask() {
    for mask in [0, 0o777] {
        let scene = scene!();
        let client = scene.actor_with_umask(mask);
        let mut spec = scene.service("private");
        let dir = scene.root().join("new/run");
        if mask == 0 {
            spec.dir = Some(dir.clone());
        }
        // With a mask of 0777 the service could not open its own log, so the test creates the log.
        for path in [scene.log_path(), scene.root().join("witness")] {
            fs::write(path, "").expect("create");
        }
        let key = client.build(&spec);
        let held = client.acquire();
        let dir = spec.dir.as_ref().expect("the spec has a directory");
        assert_eq!(
            kernel::find(key).expect("the semaphore set exists").mode,
            0o600
        );
        let mode =
            |path: &std::path::Path| fs::metadata(path).expect("read the metadata").mode() & 0o7777;
        assert_eq!(mode(dir), 0o700);
        let files: Vec<_> = fs::read_dir(dir).expect("list").flatten().collect();
        let is_object = |it: &fs::DirEntry| kernel::is_object_file(&it.path());
        assert_eq!(files.iter().filter(|it| !is_object(it)).count(), 1);
        for path in files.iter().map(fs::DirEntry::path) {
            // The mask may remove more permissions than procref does. To execute a socket is not possible.
            let is_socket = path.extension().is_some_and(|it| it == "s");
            let allowed = if is_socket { 0o700 } else { 0o600 };
            assert_eq!(mode(&path) & !allowed, 0, "{path:?}");
        }
        client.release(&held);
        let left = fs::read_dir(dir).expect("list").flatten();
        assert_eq!(left.filter(|it| !is_object(it)).count(), 0);
    }
}

/// Asserts that every operation refuses the squatter's set, that nothing is started, and that the
/// set does not change.
fn assert_refused(scene: &Scene, set: &Set, parts: &[&str]) {
    let client = scene.client(&scene.service("squatted"));
    let object = format!("{:#010x}", set.key);
    for via in [Via::TokioMulti, Via::Blocking] {
        let failure = client
            .try_acquire(via)
            .expect_err("the call is assert_refused");
        assert_contains(&failure, &["squatted", &object]);
        assert_contains(&failure, parts);
    }
    assert!(client.try_join().is_err());
    client.counter(0, "squatted");
    for op in [CounterOp::Count, CounterOp::Acquire, CounterOp::TryLock] {
        let reply = client.counter_op(0, op);
        assert!(matches!(reply, Reply::Failed(_)), "{op:?}: {reply:?}");
    }
    assert_eq!(scene.calls("on_first_acquire"), 0);
    assert_eq!(kernel::find(set.key).as_ref(), Some(set));
    if set.uid == rustix::process::geteuid().as_raw() || is_root() {
        for slot in 0..set.len.min(2) {
            assert_eq!(set.value(slot).expect("the set still exists"), 0);
        }
    }
    assert!(scene.files().is_empty());
    set.remove().expect("remove");
    let held = client.acquire();
    client.release(&held);
}

fn squatted_key(scene: &Scene) -> i32 {
    scene.actor().build(&scene.service("squatted"))
}

#[test]
fn g7_set_of_another_owner_is_refused() {
    let scene = scene!();
    let key = squatted_key(&scene);
    // The creator of a set can change its owner without being root.
    let set = Set::create(key, SLOTS, 0o600).expect("create");
    set.set_owner(NOBODY, 0o600).expect("change the owner");
    let set = kernel::find(key).expect("the set still exists");
    assert_eq!(set.uid, NOBODY);
    assert_refused(&scene, &set, &["65534"]);
}

#[test]
fn g7_set_of_another_owner_open_to_all_is_refused() {
    let scene = scene!();
    let key = squatted_key(&scene);
    let set = Set::create(key, SLOTS, 0o666).expect("create");
    set.set_owner(NOBODY, 0o666).expect("change the owner");
    let set = kernel::find(key).expect("the set still exists");
    assert_refused(&scene, &set, &["65534"]);
}

#[test]
fn g7_set_that_other_users_may_access_is_refused() {
    for mode in [0o660, 0o606, 0o640, 0o604] {
        let scene = scene!();
        let set = Set::create(squatted_key(&scene), SLOTS, mode).expect("create");
        assert_refused(&scene, &set, &[&format!("{mode:o}")]);
    }
}

#[test]
fn g7_set_with_too_few_semaphores_is_refused() {
    let scene = scene!();
    let set = Set::create(squatted_key(&scene), 3, 0o600).expect("create");
    assert_refused(&scene, &set, &["semaphores"]);
}

#[test]
fn g7_set_with_too_many_semaphores_is_refused() {
    // `GETALL` writes as many values as the set has, so a larger set would overflow the buffer.
    for len in [SLOTS + 1, 250, 32_000] {
        let scene = scene!();
        let set = Set::create(squatted_key(&scene), len, 0o600).expect("create");
        assert_refused(&scene, &set, &["semaphores"]);
    }
}

#[test]
fn g7_set_with_other_digests_is_refused() {
    let scene = scene!();
    let set = Set::create(squatted_key(&scene), SLOTS, 0o600).expect("create");
    // Another program, or another service with the same key, has filled these slots.
    for slot in 6..14 {
        set.set_value(slot, 1234).expect("set the value");
    }
    assert_refused(&scene, &set, &[]);
}

#[test]
fn g7_blank_set_of_the_same_user_is_used() {
    let scene = scene!();
    let key = squatted_key(&scene);
    // A process that dies right after it creates the set leaves such a set.
    let set = Set::create(key, SLOTS, 0o600).expect("create");
    let client = scene.client(&scene.service("squatted"));
    let held = client.acquire();
    assert_eq!(
        kernel::find(key).expect("the semaphore set exists").id,
        set.id
    );
    client.release(&held);
}

#[test]
fn g7_directory_behind_a_symlink_is_refused() {
    let scene = scene!();
    let target = scene.root().join("target");
    fs::create_dir(&target).expect("create");
    fs::set_permissions(&target, Permissions::from_mode(0o700)).expect("chmod");
    for (name, leads_to) in [("link", "target"), ("dangling", "nowhere")] {
        let link = scene.root().join(name);
        symlink(scene.root().join(leads_to), &link).expect("create the link");
        for path in [link.clone(), scene.root().join(format!("{name}/"))] {
            let mut spec = scene.service("linked");
            spec.dir = Some(path);
            let actor = scene.actor();
            let failure = actor
                .try_build_as(0, &spec)
                .expect_err("the call is assert_refused");
            assert_contains(&failure, &[&link.display().to_string()]);
        }
    }
    assert_eq!(fs::read_dir(&target).expect("list").count(), 0);
    assert!(!scene.root().join("nowhere").exists());
}

#[test]
fn g7_directory_writable_by_others_is_refused() {
    for mode in [0o777, 0o1777, 0o720, 0o702] {
        let scene = scene!();
        let dir = scene.runtime_dir();
        fs::set_permissions(&dir, Permissions::from_mode(mode)).expect("chmod");
        let failure = scene
            .actor()
            .try_build_as(0, &scene.service("open"))
            .expect_err("the call is assert_refused");
        assert_contains(&failure, &[&dir.display().to_string(), "chmod"]);
        assert_eq!(
            fs::metadata(&dir).expect("read the metadata").mode() & 0o7777,
            mode
        );
    }
}

#[test]
fn g7_directory_of_another_user_is_refused() {
    let scene = scene!();
    let mut spec = scene.service("foreign");
    if is_root() {
        // Root could write there, but procref must refuse it.
        std::os::unix::fs::chown(scene.runtime_dir(), Some(NOBODY), None).expect("chown");
    } else {
        spec.dir = Some("/usr".into());
    }
    let failure = scene
        .actor()
        .try_build_as(0, &spec)
        .expect_err("the call is assert_refused");
    let owner = if is_root() { "65534" } else { "uid 0" };
    assert_contains(&failure, &["belongs to", owner]);
    assert!(scene.files().is_empty());
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn g7_other_user_cannot_use_the_directory() {
    if !is_root() {
        eprintln!("SKIPPED: only root can run a client as another user");
        return;
    }
    let scene = scene!();
    let ours = scene.client(&scene.service("ours"));
    let held = ours.acquire();
    let theirs = scene.actor_of_user(NOBODY);
    let mut spec = scene.service("ours");
    spec.fake.program = scene.service_copy();
    for mode in [0o700, 0o755] {
        let dir = scene.runtime_dir();
        fs::set_permissions(dir, Permissions::from_mode(mode)).expect("chmod");
        assert!(theirs.try_build_as(0, &spec).is_err());
    }
    assert_eq!(ours.count(), 1);
    ours.release(&held);
}

#[test]
fn g7_symlink_in_place_of_the_record_is_not_followed() {
    let scene = scene!();
    let mut spec = scene.service("linked");
    spec.metadata = vec![("key".to_owned(), "value".to_owned())];
    let (one, two) = (scene.client(&spec), scene.client(&spec));
    let held = one.acquire();
    let record = scene.files().remove(0);
    let text = fs::read(&record).expect("read");

    // The content of the record is right, but the file is in the wrong place.
    let elsewhere = scene.root().join("elsewhere.json");
    fs::rename(&record, &elsewhere).expect("move");
    symlink(&elsewhere, &record).expect("create the link");
    match two.try_acquire(Via::TokioMulti) {
        Ok(joined) => {
            assert_eq!(joined.got.pid, held.got.pid);
            assert_eq!(
                joined.got.metadata,
                [],
                "no metadata is read through a link"
            );
            two.release(&joined);
        }
        Err(failure) => assert_contains(&failure, &["linked"]),
    }
    one.release(&held);
    // A new instance replaces the link and does not write through it.
    symlink(&elsewhere, &record).expect("create the link");
    let held = one.acquire();
    assert!(
        fs::symlink_metadata(&record)
            .expect("read the metadata")
            .is_file()
    );
    one.release(&held);
    assert_eq!(fs::read(&elsewhere).expect("read"), text);
}
