//! Two views of one runtime directory: processes that do not see the same pids, clock or kernel objects, or the
//! directory under another path. Each has services of its own, and leaves those of the other one alone.

#![cfg(target_os = "linux")]

mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use procref_testkit::observe::Identity;
use procref_testkit::scene::write_private;
use support::{
    PROCREF,
    sandbox::{Finished, Holder, Sandbox, finish},
};

/// Set by those who cannot have namespaces and accept not to run these tests.
const SKIP: &str = "PROCREF_TESTKIT_SKIP_NAMESPACES";

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn is_skipped() -> bool {
    let skipped = env::var_os(SKIP).is_some();
    if skipped {
        eprintln!("SKIPPED: {SKIP} is set");
    }
    skipped
}

/// A shell in namespaces of its own, with `$PROCREF` and the words behind the script.
fn inside(sandbox: &Sandbox, namespaces: &[&str], script: &str, words: &[&str]) -> Command {
    let mut command = sandbox.command("unshare");
    command.args(["--fork", "--kill-child"]).args(namespaces);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["sh", "-c", script, "sh"]).args(words);
    command.env("PROCREF", PROCREF);
    command
}

#[track_caller]
fn well(done: Finished) -> String {
    assert_eq!(done.code, Some(0), "{done:?}");
    done.out
}

/// Everything that has a name in the runtime directory, with its content.
fn contents(sandbox: &Sandbox) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = sandbox.files();
    files.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("a file");
        (path, bytes)
    };
    files.into_iter().map(read).collect()
}

/// A held service, and what it has in the runtime directory.
fn held(sandbox: &Sandbox) -> (Holder, Identity, Vec<(PathBuf, Vec<u8>)>) {
    let holder = sandbox.hold("db", &sandbox.service("db"));
    let instance = sandbox.instance("db");
    let files = contents(sandbox);
    assert!(!files.is_empty());
    (holder, instance, files)
}

/// What a client does in another view: it finds no service, has one of its own, stops it, and collects.
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
        let (holder, instance, files) = held(&sandbox);
        let words: Vec<&str> = options.iter().map(String::as_str).collect();
        let out = well(finish(&mut inside(
            &sandbox,
            namespaces,
            ANOTHER_CLIENT,
            &words,
        )));
        assert!(out.contains("own "), "{namespaces:?}: {out}");
        assert!(!out.contains("removed"), "{namespaces:?}: {out}");
        assert!(instance.is_live(), "{namespaces:?}: {out}");
        assert_eq!(contents(&sandbox), files, "{namespaces:?}");
        let status = sandbox.json("db", &["status", "db", "--json"]);
        assert_eq!(status["pid"], instance.pid, "{namespaces:?}");
        assert_eq!(status["clients"], 1, "{namespaces:?}");
        holder.leave();
        instance.wait_exit();
        // One here and two there, each stopped once.
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
    sandbox.stdout(
        "db",
        &[
            &["pin", "db"][..],
            &options.iter().map(String::as_str).collect::<Vec<_>>(),
        ]
        .concat(),
    );
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

/// The path is part of the namespace: file systems give a removed directory's inode to the next one at once.
#[test]
fn g1_bind_mount_shares_services_under_the_same_path_only() {
    if is_skipped() {
        return;
    }
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let words: Vec<&str> = options.iter().map(String::as_str).collect();
    let (holder, instance, files) = held(&sandbox);
    let another = sandbox.path("another");
    fs::create_dir(&another).expect("a directory");

    let same = r#"mount --bind "$PROCREF_RUNTIME_DIR" "$PROCREF_RUNTIME_DIR" || exit 1
        exec "$PROCREF" run db "$@" -- sh -c 'echo "$PROCREF_PID"'"#;
    let out = well(finish(&mut inside(&sandbox, &["--mount"], same, &words)));
    assert_eq!(out.trim(), instance.pid.to_string());

    let other = format!(
        r#"mount --bind "$PROCREF_RUNTIME_DIR" "$ANOTHER" || exit 1
        export PROCREF_RUNTIME_DIR="$ANOTHER"
        {ANOTHER_CLIENT}"#
    );
    let mut command = inside(&sandbox, &["--mount"], &other, &words);
    let out = well(finish(command.env("ANOTHER", &another)));
    assert!(out.contains("own "), "{out}");
    assert!(instance.is_live(), "{out}");
    assert_eq!(contents(&sandbox), files);
    holder.leave();
    instance.wait_exit();
    sandbox.assert_stopped("db", 3);
}

/// Layout 2 had no namespace, neither in its records nor in the names of its files.
#[test]
fn g5_files_of_an_older_layout_are_left_alone() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let mut bystander = sandbox.command("sleep").arg("1000").spawn().expect("sleep");
    let innocent = Identity::of(bystander.id()).expect("it lives");
    let (holder, instance, files) = held(&sandbox);
    let is_record = |path: &&PathBuf| path.extension().is_some_and(|it| it == "json");
    let record = files
        .iter()
        .map(|(path, _)| path)
        .find(is_record)
        .expect("a record");
    let name = record.file_name().and_then(|it| it.to_str()).expect("text");
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
    // Nothing runs, and there is a record of a process that lives.
    sandbox.stdout("db", &["gc"]);
    let words = [
        &["run", "db"][..],
        &options.iter().map(String::as_str).collect::<Vec<_>>(),
        &["--", "true"],
    ];
    sandbox.stdout("db", &words.concat());
    // The service may be gone before the command has looked for its name.
    sandbox.stdout(
        "db",
        &[
            "wait",
            "db",
            "--allow-unknown",
            "--stopped",
            "--timeout",
            "60s",
        ],
    );
    sandbox.stdout("db", &["gc"]);
    assert!(
        innocent.is_live(),
        "it was stopped for an older layout's record"
    );
    assert_eq!(is_older(contents(&sandbox)), before);

    bystander.kill().expect("kill");
    bystander.wait().expect("wait");
    older
        .iter()
        .for_each(|path: &PathBuf| fs::remove_file(path as &Path).expect("remove"));
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
    let found = proc["found"].as_str().expect("text");
    assert!(found.contains("another pid namespace"), "{proc}");
    assert!(
        proc["advice"]
            .as_str()
            .expect("text")
            .contains("mount -t proc"),
        "{proc}"
    );
}
