//! Processes in different namespaces that use the same runtime directory.
//!
//! They see different pids, clocks or kernel objects, or the directory under different paths. Each namespace has its
//! own services and does not touch the services of another namespace.

#![cfg(target_os = "linux")]

mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use procref_testkit::kernel;
use procref_testkit::observe::Identity;
use procref_testkit::scene::write_private;
use support::{
    PROCREF, path_text,
    sandbox::{Finished, Holder, Sandbox, finish},
    user_namespace,
};

/// The tests are skipped if this variable is set. Set it on machines on which users cannot create namespaces.
const SKIP: &str = "PROCREF_TESTKIT_SKIP_NAMESPACES";

#[expect(clippy::print_stderr, reason = "a skipped test reports itself")]
fn is_skipped() -> bool {
    let skipped = env::var_os(SKIP).is_some();
    if skipped {
        eprintln!("SKIPPED: {SKIP} is set");
    }
    skipped
}

/// Returns a shell in new namespaces that runs a script with these arguments and `$PROCREF`.
fn inside(sandbox: &Sandbox, namespaces: &[&str], script: &str, words: &[&str]) -> Command {
    let mut command = sandbox.command("unshare");
    command.args(["--fork", "--kill-child"]).args(namespaces);
    command.args(user_namespace());
    command.args(["sh", "-c", script, "sh"]).args(words);
    command.env("PROCREF", PROCREF);
    command
}

/// Returns the output of a command that must have succeeded.
#[track_caller]
fn successful(done: Finished) -> String {
    assert_eq!(done.code, Some(0), "{done:?}");
    done.out
}

/// Returns the files of the runtime directory with their content, except the objects of keepers. A keeper of another
/// namespace exits, and removes its files, a moment after its last client.
fn contents(sandbox: &Sandbox) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = sandbox.files();
    files.retain(|path| !kernel::is_object_file(path));
    // Services of other namespaces leave logs, too.
    let own = sandbox.kept_log("db");
    files.extend(own.exists().then_some(own));
    files.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("read a file");
        (path, bytes)
    };
    files.into_iter().map(read).collect()
}

/// Starts a client that holds a service, and returns the files of the runtime directory.
fn hold_service(sandbox: &Sandbox) -> (Holder, Identity, Vec<(PathBuf, Vec<u8>)>) {
    let holder = sandbox.hold("db", &sandbox.service("db"));
    let instance = sandbox.instance("db");
    let files = contents(sandbox);
    assert!(!files.is_empty());
    (holder, instance, files)
}

/// A client in another namespace: it finds no service, starts and stops its own services, and runs `gc`.
const ANOTHER_CLIENT: &str = r#"
    "$PROCREF" ps; "$PROCREF" gc
    "$PROCREF" run db "$@" -- sh -c 'echo "own $PROCREF_PID"' || exit 1
    "$PROCREF" wait db --stopped --timeout 60s
    "$PROCREF" pin db "$@" || exit 1
    "$PROCREF" stop --force db || exit 1
    "$PROCREF" wait db --stopped --timeout 60s
    "$PROCREF" gc
    "$PROCREF" ps
"#;

#[test]
fn g1_other_namespaces_have_services_of_their_own() {
    if is_skipped() {
        return;
    }
    for namespaces in [
        &["--ipc"][..],
        &["--time", "--boottime", "1000"],
        &["--pid", "--mount-proc"],
        &[
            "--ipc",
            "--pid",
            "--mount-proc",
            "--time",
            "--boottime",
            "1000",
        ],
    ] {
        let sandbox = Sandbox::new();
        let options = sandbox.service("db");
        let (holder, instance, files) = hold_service(&sandbox);
        let words: Vec<&str> = options.iter().map(String::as_str).collect();
        let out = successful(finish(&mut inside(
            &sandbox,
            namespaces,
            ANOTHER_CLIENT,
            &words,
        )));
        assert!(out.contains("own "), "{namespaces:?}: {out}");
        // `gc` removes the log of the other namespace's own service.
        let own = format!("removed {}", path_text(&sandbox.kept_log("db")));
        assert!(!out.contains(&own), "{namespaces:?}: {out}");
        let mut removed = out.lines().filter(|line| line.contains("removed"));
        assert!(
            removed.all(|line| line.ends_with(".kept.log")),
            "{namespaces:?}: {out}"
        );
        assert!(instance.is_live(), "{namespaces:?}: {out}");
        assert_eq!(contents(&sandbox), files, "{namespaces:?}");
        let status = sandbox.json("db", &["status", "db", "--json"]);
        assert_eq!(status["pid"], instance.pid, "{namespaces:?}");
        assert_eq!(status["clients"], 1, "{namespaces:?}");
        holder.leave();
        instance.wait_exit();
        // This namespace has started one instance and the other one has started two.
        sandbox.assert_stopped("db", 3);
    }
}

#[test]
fn g3_pinned_service_survives_gc_in_other_namespaces() {
    if is_skipped() {
        return;
    }
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    sandbox.pin("db", &options);
    let instance = sandbox.instance("db");
    let files = contents(&sandbox);
    let script = r#""$PROCREF" gc; "$PROCREF" stop --force db; "$PROCREF" unpin db; "$PROCREF" gc"#;
    for namespaces in [
        &["--ipc"][..],
        &["--time", "--boottime", "1000"],
        &["--pid", "--mount-proc"],
    ] {
        let done = finish(&mut inside(&sandbox, namespaces, script, &[]));
        assert!(instance.is_live(), "{namespaces:?}: {done:?}");
        assert_eq!(contents(&sandbox), files, "{namespaces:?}: {done:?}");
    }
    sandbox.stdout("db", &["stop", "db"]);
    sandbox.assert_stopped("db", 1);
}

/// The path is part of the namespace, because file systems reuse the inode of a removed directory at once.
#[test]
fn g1_bind_mount_shares_services_under_the_same_path_only() {
    if is_skipped() {
        return;
    }
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let words: Vec<&str> = options.iter().map(String::as_str).collect();
    let (holder, instance, files) = hold_service(&sandbox);
    let another = sandbox.path("another");
    fs::create_dir(&another).expect("create a directory");

    let same = r#"mount --bind "$PROCREF_RUNTIME_DIR" "$PROCREF_RUNTIME_DIR" || exit 1
        exec "$PROCREF" run db "$@" -- sh -c 'echo "$PROCREF_PID"'"#;
    let out = successful(finish(&mut inside(&sandbox, &["--mount"], same, &words)));
    assert_eq!(out.trim(), instance.pid.to_string());

    let other = format!(
        r#"mount --bind "$PROCREF_RUNTIME_DIR" "$ANOTHER" || exit 1
        export PROCREF_RUNTIME_DIR="$ANOTHER"
        {ANOTHER_CLIENT}"#
    );
    let mut command = inside(&sandbox, &["--mount"], &other, &words);
    let out = successful(finish(command.env("ANOTHER", &another)));
    assert!(out.contains("own "), "{out}");
    assert!(instance.is_live(), "{out}");
    assert_eq!(contents(&sandbox), files);
    holder.leave();
    instance.wait_exit();
    sandbox.assert_stopped("db", 3);
}

/// Layout 2 had no namespaces in its records and in the names of its files.
#[test]
fn g5_files_of_an_older_layout_are_left_alone() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let mut bystander = sandbox
        .command("sleep")
        .arg("1000")
        .spawn()
        .expect("run sleep");
    let innocent = Identity::of(bystander.id()).expect("a live process");
    let (holder, instance, files) = hold_service(&sandbox);
    let is_record = |path: &&PathBuf| path.extension().is_some_and(|it| it == "json");
    let record = files
        .iter()
        .map(|(path, _)| path)
        .find(is_record)
        .expect("a record");
    let name = record
        .file_name()
        .and_then(|it| it.to_str())
        .expect("a text");
    let (stem, _) = name.split_once('.').expect("a stem");
    let mut old: serde_json::Value =
        serde_json::from_slice(&fs::read(record).expect("a record")).expect("JSON");
    old["version"] = 1.into();
    old["pid"] = innocent.pid.into();
    old["start"] = innocent.start.into();
    old.as_object_mut().expect("an object").remove("namespace");
    let at = |ending: &str| sandbox.runtime_dir().join(format!("{stem}.{ending}"));
    let older = ["json", "log", "log.1", "tmp"].map(at);
    write_private(&older[0], old.to_string());
    older[1..]
        .iter()
        .for_each(|path| write_private(path, "text"));
    let is_older = |files: Vec<(PathBuf, Vec<u8>)>| {
        let older = files.into_iter().filter(|(path, _)| older.contains(path));
        older.collect::<Vec<_>>()
    };
    let before = is_older(contents(&sandbox));
    assert_eq!(before.len(), older.len());

    assert_eq!(
        sandbox.json("db", &["status", "db", "--json"])["pid"],
        instance.pid
    );
    holder.leave();
    instance.wait_exit();
    // No service runs, and the older record names a process that is alive.
    sandbox.stdout("db", &["gc"]);
    let words = [
        &["run", "db"][..],
        &options.iter().map(String::as_str).collect::<Vec<_>>(),
        &["--", "true"],
    ];
    sandbox.stdout("db", &words.concat());
    sandbox.wait_stopped("db");
    sandbox.stdout("db", &["gc"]);
    assert!(
        innocent.is_live(),
        "procref stopped the process in an older record"
    );
    assert_eq!(is_older(contents(&sandbox)), before);

    bystander.kill().expect("kill sleep");
    bystander.wait().expect("wait for sleep");
    older
        .iter()
        .for_each(|path: &PathBuf| fs::remove_file(path as &Path).expect("remove a file"));
    sandbox.assert_stopped("db", 2);
}

#[test]
fn g5_foreign_proc_is_reported_as_an_error() {
    if is_skipped() {
        return;
    }
    let sandbox = Sandbox::new();
    for (script, code) in [
        (
            r#"exec "$PROCREF" run db --start "sleep 100" --ready started -- true"#,
            125,
        ),
        (r#"exec "$PROCREF" ps"#, 1),
        (r#"exec "$PROCREF" gc"#, 1),
    ] {
        let done = finish(&mut inside(&sandbox, &["--pid"], script, &[]));
        assert_eq!(done.code, Some(code), "{script}: {done:?}");
        for part in ["/proc", "another pid namespace", "mount -t proc"] {
            assert!(done.err.contains(part), "{script}: {done:?}");
        }
    }
    let script = r#"exec "$PROCREF" doctor --json"#;
    let done = finish(&mut inside(&sandbox, &["--pid"], script, &[]));
    let report: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
    let findings = report["findings"].as_array().expect("a list");
    let proc = findings
        .iter()
        .find(|it| it["check"] == "proc")
        .expect("a finding");
    assert_eq!(proc["severity"], "error", "{proc}");
    let found = proc["found"].as_str().expect("a text");
    assert!(found.contains("another pid namespace"), "{proc}");
    assert!(
        proc["advice"]
            .as_str()
            .expect("a text")
            .contains("mount -t proc"),
        "{proc}"
    );
}
