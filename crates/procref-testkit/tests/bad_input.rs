//! Unusual names, broken records, and limits of the machine. Each of them works fully, or causes a clear
//! error before anything is started.

#![cfg(target_os = "linux")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use procref_testkit::kernel::{self, Set};
use procref_testkit::namespace::{self, Wanted};
use procref_testkit::protocol::{Command, Failure, Reply, Via};
use procref_testkit::scene::write_private;
use procref_testkit::{Actor, Scene, scene};

#[track_caller]
fn assert_contains(failure: &Failure, parts: &[&str]) {
    for part in parts {
        assert!(failure.whole().contains(part), "{part:?} in {failure:#?}");
    }
}

/// Lists all paths below `dir`, except the files that the scene itself creates.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("list").flatten() {
        let path = entry.path();
        let ending = path.extension().and_then(|it| it.to_str());
        if !matches!(ending, Some("err" | "sock")) && !kernel::is_object_file(&path) {
            if path.is_dir() {
                found.extend(tree(&path));
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn unusual_service_names_work() {
    let long = "x".repeat(255);
    let wide = "🦀".repeat(63);
    let names = [
        " ",
        "with space",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "../../escape",
        "a/b",
        "a_b",
        "a-b",
        "a\\b",
        "line\nbreak",
        "\t\r\u{1b}[31m",
        "--help",
        "🦀 émoji ✨",
        "e\u{301}",
        "%s%n",
        "$(id)",
        "*",
        "nul-free\u{7f}",
        &long,
        &wide,
    ];
    let scene = scene!();
    fs::write(scene.log_path(), "").expect("create");
    fs::write(scene.root().join("witness"), "").expect("create");
    let (one, two) = (scene.actor(), scene.actor());
    let before = tree(scene.root());
    let mut keys = Vec::new();
    for name in names {
        let mut spec = scene.service(name);
        spec.metadata = vec![("name".to_owned(), name.to_owned())];
        keys.push(one.build(&spec));
        two.build(&spec);
        let held = one.acquire();
        let joined = two.acquire();
        assert_eq!(joined.got.pid, held.got.pid, "{name:?}");
        assert_eq!(joined.got.metadata, spec.metadata, "{name:?}");
        assert_eq!(scene.files().len(), 1, "{name:?}");
        assert_eq!(tree(scene.root()).len(), before.len() + 1, "{name:?}");
        one.release(&held);
        two.release(&joined);
        assert_eq!(tree(scene.root()), before, "{name:?}");
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), names.len(), "each name is a separate service");
}

#[test]
fn invalid_service_names_are_refused() {
    let scene = scene!();
    let actor = scene.actor();
    let too_wide = "🦀".repeat(64);
    let names = [
        ("", "empty"),
        ("with\0nul", "NUL"),
        ("\0", "NUL"),
        (&"x".repeat(256), "255"),
        (&"x".repeat(300), "255"),
        (&too_wide, "255"),
    ];
    for (name, part) in names {
        let failure = actor
            .try_build_as(0, &scene.service(name))
            .expect_err("the call is refused");
        assert_contains(&failure, &["name", part]);
        let reply = actor.call(Command::Counter {
            counter: 0,
            name: name.to_owned(),
            dir: None,
        });
        assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
    }
    assert!(scene.files().is_empty());
}

/// The objects that the tests put in place of the record.
const RECORDS: [&str; 15] = [
    "empty",
    "truncated",
    "garbage",
    "not utf-8",
    "other version",
    "older version",
    "other namespace",
    "other name",
    "deep",
    "sparse",
    "directory",
    "full directory",
    "dangling symlink",
    "symlink to a device",
    "fifo",
];

/// Puts a hostile file in place of the record. `good` is the content of a valid record.
fn replace_record(kind: &str, record: &Path, good: &[u8]) {
    let _ = fs::remove_file(record);
    let text = String::from_utf8_lossy(good);
    let write = |bytes: &[u8]| write_private(record, bytes);
    match kind {
        "empty" => write(b""),
        "truncated" => write(&good[..good.len() / 2]),
        "garbage" => write(b"\x00\x01]{\"version\""),
        "not utf-8" => write(b"{\"version\": 2, \"name\": \"\xff\xfe\"}"),
        "other version" => write(with_field(&text, "version", "99").as_bytes()),
        "older version" => write(with_field(&text, "version", "1").as_bytes()),
        "other namespace" => {
            write(with_field(&text, "namespace", "\"0123456789abcde\"").as_bytes())
        }
        "other name" => write(text.replace("hostile", "another").as_bytes()),
        "deep" => write("[".repeat(500_000).as_bytes()),
        "sparse" => {
            write(b"{");
            let file = File::options().write(true).open(record).expect("open");
            file.set_len(1 << 30).expect("set the length");
        }
        "directory" => fs::create_dir(record).expect("create"),
        "full directory" => {
            fs::create_dir(record).expect("create");
            fs::write(record.join("file"), "").expect("write");
        }
        "dangling symlink" => symlink("/nonexistent/nowhere", record).expect("create the link"),
        "symlink to a device" => symlink("/dev/zero", record).expect("create the link"),
        "fifo" => {
            let made = Process::new("mkfifo").arg(record).status().expect("mkfifo");
            assert!(made.success());
        }
        _ => unreachable!("{kind}"),
    }
}

/// Returns the record with another value of `field`, which must be on its own line.
fn with_field(record: &str, field: &str, value: &str) -> String {
    let start = format!("  \"{field}\": ");
    let changed = record.lines().map(|line| match line.starts_with(&start) {
        true => format!("{start}{value},\n"),
        false => format!("{line}\n"),
    });
    let changed: String = changed.collect();
    assert_ne!(changed, record, "there is no {field}");
    changed
}

/// Acquires and releases. If that fails, asserts that the error names the record and that no
/// instance runs.
fn assert_works_or_names_record(scene: &Scene, client: &Actor, kind: &str, record: &Path) {
    match client.try_acquire(Via::TokioMulti) {
        Ok(held) => {
            let reply = client.try_release(&held, Via::TokioMulti);
            if let Err(failure) = reply {
                assert_contains(&failure, &[&record.display().to_string()]);
            }
        }
        Err(failure) => {
            assert!(kind.contains("directory"), "{kind}: {failure:#?}");
            assert_contains(&failure, &["hostile", &record.display().to_string()]);
        }
    }
    assert_eq!(scene.living(), [], "{kind}");
    if record.is_dir() {
        // procref deletes only its own files, so the test removes the directory.
        fs::remove_dir_all(record).expect("remove");
    }
    scene.assert_clean();
}

fn spec_with_metadata(scene: &Scene) -> procref_testkit::protocol::ServiceSpec {
    let mut spec = scene.service("hostile");
    spec.metadata = vec![("key".to_owned(), "value".to_owned())];
    spec
}

#[test]
fn hostile_record_before_a_start_is_replaced_or_reported() {
    let scene = scene!();
    let client = scene.client(&spec_with_metadata(&scene));
    let held = client.acquire();
    let record = scene.files().remove(0);
    let good = fs::read(&record).expect("read");
    client.release(&held);
    for kind in RECORDS {
        let started = scene.started().len();
        replace_record(kind, &record, &good);
        assert_works_or_names_record(&scene, &client, kind, &record);
        if kind.contains("directory") {
            assert_eq!(
                scene.started().len(),
                started,
                "the directory is detected before the start"
            );
        }
    }
}

#[test]
fn hostile_record_of_a_running_service_does_no_harm() {
    for kind in RECORDS {
        let scene = scene!();
        let spec = spec_with_metadata(&scene);
        let (one, two) = (scene.client(&spec), scene.client(&spec));
        let held = one.acquire();
        let record = scene.files().remove(0);
        let good = fs::read(&record).expect("read");
        replace_record(kind, &record, &good);

        match two.try_acquire(Via::TokioMulti) {
            Ok(joined) => {
                assert_eq!(joined.got.pid, held.got.pid, "{kind}");
                assert_eq!(
                    joined.got.metadata,
                    [],
                    "{kind}: a broken record gives no metadata"
                );
                assert_eq!(one.count(), 2);
                two.release(&joined);
            }
            Err(failure) => {
                assert_contains(&failure, &["hostile", &record.display().to_string()]);
                assert_eq!(one.count(), 1);
            }
        }
        let memory = two.identity().peak_memory() >> 20;
        assert!(
            memory < 100,
            "{kind}: the client used {memory} MiB to read the record"
        );
        // The service itself does not depend on the record.
        if let Err(failure) = one.try_release(&held, Via::TokioMulti) {
            assert!(kind.contains("directory"), "{kind}: {failure:#?}");
            assert_contains(&failure, &["hostile", &record.display().to_string()]);
        }
        assert_eq!(scene.living(), [], "{kind}");
        if record.is_dir() {
            fs::remove_dir_all(&record).expect("remove");
        }
        let held = two.acquire();
        assert_eq!(
            held.got.metadata, spec.metadata,
            "{kind}: the next start writes a valid record"
        );
        two.release(&held);
    }
}

#[test]
fn hostile_record_without_a_set_does_no_harm() {
    for kind in RECORDS {
        let scene = scene!();
        let spec = spec_with_metadata(&scene).with_orphans_kept();
        let client = scene.client(&spec);
        let key = client.build_as(1, &spec);
        client.acquire();
        let record = scene.files().remove(0);
        let good = fs::read(&record).expect("read");
        scene.kill_only_instance();
        client.kill();
        kernel::find(key)
            .expect("the semaphore set exists")
            .remove()
            .expect("remove");
        replace_record(kind, &record, &good);
        assert_works_or_names_record(&scene, &scene.client(&spec), kind, &record);
    }
}

#[test]
fn metadata_beyond_1_mib_is_an_error_and_stops_the_service() {
    let scene = scene!();
    let mut spec = scene.service("huge");
    spec.metadata = vec![("key".to_owned(), "x".repeat(2 << 20))];
    let client = scene.client(&spec);
    let failure = client
        .try_acquire(Via::TokioMulti)
        .expect_err("the call is refused");
    assert_contains(&failure, &["huge", "1 MiB"]);
    // The service was running when the error was found, and has been stopped.
    assert_eq!(scene.started().len(), 1);
    scene.assert_clean();
}

#[test]
fn unusable_runtime_directories_are_refused() {
    let scene = scene!();
    let file = scene.root().join("file");
    fs::write(&file, "").expect("write");
    let actor = scene.actor();
    let paths = [
        file.clone(),
        file.join("below"),
        PathBuf::from("/proc/nowhere"),
        PathBuf::from("/dev/null"),
        PathBuf::new(),
        scene.root().join("x".repeat(300)),
    ];
    for path in paths {
        let mut spec = scene.service("homeless");
        spec.dir = Some(path.clone());
        let failure = actor
            .try_build_as(0, &spec)
            .expect_err("the call is refused");
        assert_contains(&failure, &["runtime directory"]);
        assert_contains(&failure, &[&path.display().to_string()]);
    }
}

#[test]
fn unwritable_directory_is_an_error_before_the_start() {
    let scene = scene!();
    let root = rustix::process::geteuid().is_root();
    // Root may write everywhere, so another user must try.
    let actor = if root {
        scene.actor_of_user(65534)
    } else {
        scene.actor()
    };
    let dir = scene.root().join("theirs");
    fs::create_dir(&dir).expect("create");
    if root {
        std::os::unix::fs::chown(&dir, Some(65534), None).expect("chown");
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o500)).expect("chmod");
    let mut spec = scene.service("read-only");
    if root {
        spec.fake.program = scene.service_copy();
    }
    spec.dir = Some(dir.clone());
    match actor.try_build_as(0, &spec) {
        Err(failure) => assert_contains(&failure, &[&dir.display().to_string()]),
        Ok(key) => {
            let failure = actor
                .try_acquire(Via::TokioMulti)
                .expect_err("the call is refused");
            assert_contains(&failure, &[&dir.display().to_string()]);
            assert_eq!(kernel::find(key), None);
        }
    }
    assert_eq!(scene.calls("on_first_acquire"), 0);
    let mut command = scene.command("read-only");
    command.fake = spec.fake.clone();
    command.dir = Some(dir.clone());
    let failure = match actor.try_build_as(0, &command) {
        Err(failure) => failure,
        Ok(_) => actor
            .try_acquire(Via::TokioMulti)
            .expect_err("the call is refused"),
    };
    assert_contains(&failure, &[&dir.display().to_string()]);
    assert_eq!(scene.started(), []);

    fs::set_permissions(&dir, Permissions::from_mode(0o700)).expect("chmod");
    actor.build(&spec);
    let held = actor.acquire();
    actor.release(&held);
}

#[test]
fn client_beyond_the_kernels_count_is_refused() {
    let scene = scene!();
    let spec = scene.service("crowded");
    let (one, two) = (scene.client(&spec), scene.client(&spec));
    let key = one.build_as(1, &spec);
    let held = one.acquire();
    let set = kernel::find(key).expect("the semaphore set exists");
    set.set_value(0, 32_767).expect("set the value");
    let failure = two
        .try_acquire(Via::TokioMulti)
        .expect_err("the count is at its limit");
    assert_contains(&failure, &["crowded", "32767"]);
    assert_eq!(set.value(0).expect("read"), 32_767);
    set.set_value(0, 1).expect("set the value");
    let joined = two.acquire();
    assert_eq!(joined.got.pid, held.got.pid);
    two.release(&joined);
    one.release(&held);
}

/// Runs `body` with a client in an IPC namespace, once for each value of `kernel.sem` in `limits`.
/// The numbers are the semaphores per set, semaphores in total, operations per call, and sets.
fn with_kernel_limits(test: &str, limits: &[&str], body: impl Fn(&Scene, &Actor)) {
    namespace::run(Wanted::Ipc, test, None, || {
        for limits in limits {
            fs::write("/proc/sys/kernel/sem", limits).expect("set kernel.sem");
            let scene = scene!();
            let client = scene.client(&scene.service("limited"));
            body(&scene, &client);
        }
    });
}

#[track_caller]
fn assert_refused_before_start(scene: &Scene, client: &Actor, parts: &[&str]) {
    for via in [Via::TokioMulti, Via::Blocking] {
        let failure = client.try_acquire(via).expect_err("the call is refused");
        assert_contains(&failure, &["limited"]);
        assert_contains(&failure, parts);
    }
    assert_eq!(
        scene.calls("on_first_acquire"),
        0,
        "acquire fails before anything starts"
    );
    scene.assert_clean();
}

#[test]
fn kernel_limit_on_sets_is_an_error_before_the_start() {
    with_kernel_limits(
        "kernel_limit_on_sets_is_an_error_before_the_start",
        &["32000 1024000000 500 1"],
        |scene, client| {
            let other = Set::create(1234, 1, 0o600).expect("create");
            assert_refused_before_start(scene, client, &["kernel.sem"]);
            other.remove().expect("remove");
            let held = client.acquire();
            client.release(&held);
        },
    );
}

#[test]
fn kernel_limit_on_semaphores_is_an_error_before_the_start() {
    with_kernel_limits(
        "kernel_limit_on_semaphores_is_an_error_before_the_start",
        &["32000 25 500 10"],
        |scene, client| {
            assert_refused_before_start(scene, client, &["kernel.sem"]);
        },
    );
}

#[test]
fn kernel_limit_on_set_size_is_an_error_before_the_start() {
    with_kernel_limits(
        "kernel_limit_on_set_size_is_an_error_before_the_start",
        &["10 1000 500 10"],
        |scene, client| {
            assert_refused_before_start(scene, client, &["kernel.sem"]);
        },
    );
}

/// procref needs a minimum number of operations per call. With each limit, the service either works fully, or
/// the client gets an error before anything starts.
#[test]
fn kernel_limit_on_operations_works_or_is_an_error() {
    let limits: Vec<_> = (1..=20).map(|n| format!("32000 1000 {n} 10")).collect();
    let limits: Vec<_> = limits.iter().map(String::as_str).collect();
    with_kernel_limits(
        "kernel_limit_on_operations_works_or_is_an_error",
        &limits,
        |scene, client| {
            match client.try_acquire(Via::TokioMulti) {
                Ok(held) => client.release(&held),
                Err(failure) => {
                    assert_contains(&failure, &["limited", "kernel.sem"]);
                    assert_eq!(scene.calls("on_first_acquire"), 0, "{failure:?}");
                }
            }
            scene.assert_clean();
        },
    );
}
