//! `Services::list`: every service of a runtime directory, and nothing else.

#![cfg(target_os = "linux")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use procref::{Holder, Listed, Services, State};
use procref_testkit::protocol::{Callback, Gate, Via};
use procref_testkit::scene::write_private;
use procref_testkit::{Scene, kernel, scene};

fn list(scene: &Scene) -> Vec<Listed> {
    let services = Services::in_dir(scene.runtime_dir()).expect("open");
    services.list().expect("list")
}

fn names(listed: &[Listed]) -> Vec<Option<&str>> {
    listed.iter().map(Listed::name).collect()
}

#[test]
fn list_of_a_missing_directory_is_empty_and_creates_nothing() {
    let scene = scene!();
    let dir = scene.root().join("not/there");
    let services = Services::in_dir(&dir).expect("open");
    assert!(services.list().expect("list").is_empty());
    let collected = services.gc_blocking().expect("gc");
    assert!(collected.removed().is_empty() && collected.failures().is_empty());
    assert_eq!(services.dir(), dir);
    assert!(!scene.root().join("not").exists());

    // The first service creates the directory, and then the list finds it.
    let mut spec = scene.service("first");
    spec.dir = Some(dir);
    let client = scene.client(&spec);
    let held = client.acquire();
    assert_eq!(
        names(&services.list().expect("list")),
        [Some("first")],
        "the directory now exists"
    );
    client.release(&held);
}

#[test]
fn g7_list_refuses_an_unsafe_directory() {
    let scene = scene!();
    let dir = scene.root().join("open");
    fs::create_dir(&dir).expect("create");
    fs::set_permissions(&dir, Permissions::from_mode(0o777)).expect("chmod");
    let link = scene.root().join("link");
    symlink(scene.runtime_dir(), &link).expect("create the link");
    let file = scene.root().join("file");
    fs::write(&file, "").expect("write");
    for (path, message) in [
        (dir, "0777"),
        (link, "symbolic link"),
        (file, "not a directory"),
    ] {
        let error = Services::in_dir(&path).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    assert!(Services::in_dir("").is_err());
}

#[test]
fn list_contains_all_services_by_name_with_their_state() {
    let scene = scene!();
    let other = scene!();
    assert!(list(&scene).is_empty());
    let (one, two) = (scene.actor(), scene.actor());
    let specs = ["b", "../a", "c\n\u{1f418}", "a"].map(|name| scene.service(name));
    let mut held = Vec::new();
    for (number, spec) in (1..).zip(&specs) {
        one.build_as(number, spec);
        let pending = one.begin_acquire_of(number, Via::Pollster);
        held.push(one.finish_acquire(pending).expect("acquire"));
    }
    let foreign = other.client(&other.service("elsewhere"));
    let elsewhere = foreign.acquire();
    two.build(&specs[0]);
    let second = two.acquire();
    let gate = Gate::Before(Callback::Start);
    let (starting, _, pending) = scene.client_at_gate(&scene.service("z"), gate, Via::Pollster);

    let listed = list(&scene);
    // The service that is starting has no record yet.
    let expected = ["../a", "a", "b", "c\n\u{1f418}"].map(Some);
    assert_eq!(names(&listed), [&expected[..], &[None]].concat());
    for (service, pid) in [(&listed[2], held[0].got.pid), (&listed[0], held[1].got.pid)] {
        let status = service.status();
        assert_eq!(status.state(), State::Ready);
        assert_eq!(status.instance().map(|info| info.pid()), Some(pid));
        assert!(kernel::find(kernel::parse_key(service.kernel_object())).is_some());
    }
    let mut clients = [one.pid(), two.pid()];
    clients.sort_unstable();
    let holders = listed[2].status().holders();
    assert!(holders.iter().map(Holder::pid).eq(clients));
    assert_eq!(listed[4].status().transition(), Some(starting.pid()));
    assert_eq!(names(&list(&other)), [Some("elsewhere")]);

    starting.proceed(gate);
    let last = starting.finish_acquire(pending).expect("acquire");
    assert_eq!(names(&list(&scene))[4], Some("z"));
    starting.release(&last);
    two.release(&second);
    for held in &held {
        one.release(held);
    }
    assert!(list(&scene).is_empty());
    foreign.release(&elsewhere);
}

#[test]
fn list_contains_a_service_without_a_record_unnamed() {
    let scene = scene!();
    let client = scene.client(&scene.service("forgotten"));
    let held = client.acquire();
    let record = &scene.files()[0];
    let kept = fs::read(record).expect("read");
    let broken: [&[u8]; 4] = [b"", b"{", b"[]", &kept[..kept.len() / 2]];
    for text in broken {
        write_private(record, text);
        let listed = list(&scene);
        assert_eq!(names(&listed), [None]);
        assert_eq!(listed[0].status().clients(), 1);
    }
    fs::remove_file(record).expect("remove");
    let listed = list(&scene);
    assert_eq!(names(&listed), [None]);
    assert_eq!(listed[0].status().holders()[0].pid(), client.pid());
    write_private(record, &kept);
    assert_eq!(names(&list(&scene)), [Some("forgotten")]);
    client.release(&held);
}

#[test]
fn list_shows_a_leftover_record_as_absent() {
    let scene = scene!();
    let client = scene.client(&scene.service("dead"));
    let key = client.build_as(1, &scene.service("dead"));
    client.acquire();
    let service = scene.only_instance();
    kernel::find(key)
        .expect("the semaphore set exists")
        .remove()
        .expect("remove");
    service.kill();
    service.wait_exit();
    client.kill();
    let listed = list(&scene);
    assert_eq!(names(&listed), [Some("dead")]);
    assert_eq!(listed[0].status().state(), State::Absent);
    assert!(kernel::find(key).is_none(), "the list creates no set");
    fs::remove_file(&scene.files()[0]).expect("remove");
}

#[test]
fn list_ignores_other_files_and_broken_records() {
    let scene = scene!();
    let client = scene.client(&scene.service("real"));
    let held = client.acquire();
    let record = scene.files().remove(0);
    let good = fs::read(&record).expect("read");
    let at = |name: &str| scene.runtime_dir().join(name);
    for name in [
        "notes.txt",
        "real.json",
        "web-0123456789ABCDE.json",
        ".json",
        "\u{1f418}.json",
    ] {
        write_private(&at(name), &good);
    }
    let space = scene.namespace_id();
    let ours = |stem: &str, ending: &str| at(&format!("{stem}.{space}.{ending}"));
    // The file names have procref's pattern, but procref would not write this content or these
    // files.
    write_private(&ours("copy-0123456789abcde", "json"), &good);
    write_private(&ours("huge-1123456789abcde", "json"), vec![b' '; 2 << 20]);
    write_private(&ours("deep-2123456789abcde", "json"), vec![b'['; 100_000]);
    write_private(&ours("next-3123456789abcde", "json"), "{\"version\": 77}");
    fs::create_dir(ours("dir-4123456789abcde", "json")).expect("create");
    symlink(&record, ours("link-5123456789abcde", "json")).expect("create the link");
    fs::write(ours("open-6123456789abcde", "json"), &good).expect("write");
    fs::set_permissions(
        ours("open-6123456789abcde", "json"),
        Permissions::from_mode(0o644),
    )
    .expect("chmod");

    assert_eq!(names(&list(&scene)), [Some("real")]);
    client.release(&held);
    assert!(list(&scene).is_empty());
    let left = scene.sweep();
    assert_eq!(left.len(), 12, "{left:?}");
}
