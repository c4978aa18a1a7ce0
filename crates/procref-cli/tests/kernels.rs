//! The kernel of a runtime directory: System V semaphores, or keepers. The tests choose it themselves.

#![cfg(target_os = "linux")]

mod support;

use std::env;
use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use procref_testkit::observe::Identity;
use support::{
    PROCREF, live_process, path_text,
    sandbox::{Finished, Holder, PRINT_PID_AND_HOLD, Running, Sandbox, finish},
    user_namespace,
};

const VARIABLE: &str = "PROCREF_KERNEL";

/// The tests in other namespaces are skipped if this variable is set.
const SKIP: &str = "PROCREF_TESTKIT_SKIP_NAMESPACES";

/// Returns a `procref` command about `db` with this value of `PROCREF_KERNEL`.
fn procref(sandbox: &Sandbox, kernel: Option<&str>, args: &[&str]) -> std::process::Command {
    let mut command = sandbox.procref("db");
    match kernel {
        Some(kernel) => command.env(VARIABLE, kernel),
        None => command.env_remove(VARIABLE),
    };
    command.args(args);
    command
}

/// Runs a client of `db` that prints the pid of the service.
fn client(sandbox: &Sandbox, kernel: Option<&str>) -> Finished {
    let mut command = procref(sandbox, kernel, &["run", "db"]);
    command.args(sandbox.service("db"));
    finish(command.args(["--", "sh", "-c", "echo \"$PROCREF_PID\""]))
}

/// Starts a client that holds `db`.
fn hold(sandbox: &Sandbox, kernel: Option<&str>) -> Holder {
    let mut command = procref(sandbox, kernel, &["run", "db"]);
    command.args(sandbox.service("db"));
    Holder::new(Running::new(command.args([
        "--",
        "sh",
        "-c",
        PRINT_PID_AND_HOLD,
    ])))
}

/// Asserts that a client fails before it starts a service, and that its error contains these texts.
#[track_caller]
fn assert_refused(done: &Finished, texts: &[&str]) {
    assert_eq!(done.code, Some(125), "{done:?}");
    assert_eq!(done.out, "");
    for text in texts {
        assert!(done.err.contains(text), "no {text:?}: {done:?}");
    }
}

fn choice(sandbox: &Sandbox) -> PathBuf {
    sandbox.runtime_dir().join("kernel")
}

/// Returns the state files of keepers.
fn state_files(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut files = sandbox.files();
    files.retain(|path| path.extension().is_some_and(|it| it == "state"));
    files
}

/// Returns the process that supervises `db`.
fn supervisor(sandbox: &Sandbox) -> Identity {
    let out = finish(&mut procref(sandbox, None, &["status", "db", "--json"])).out;
    let status: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    live_process(&status["supervisor"].to_string())
}

/// Stops using keepers, as the documentation describes it, and asserts that nothing else is left.
fn go_back(sandbox: &Sandbox, starts: usize) {
    sandbox.wait_stopped("db");
    fs::remove_file(choice(sandbox)).expect("remove the choice");
    sandbox.assert_stopped("db", starts);
}

#[test]
fn kernel_is_semaphores_if_no_process_chooses_keepers() {
    for kernel in [None, Some("sysv"), Some("")] {
        let sandbox = Sandbox::new();
        let holder = hold(&sandbox, kernel);
        assert!(!choice(&sandbox).exists(), "{kernel:?}");
        assert_eq!(state_files(&sandbox), [""; 0].map(PathBuf::from));
        holder.leave();
        sandbox.assert_stopped("db", 1);
    }
}

#[test]
fn kernel_of_the_first_process_is_used_by_all_others() {
    let sandbox = Sandbox::new();
    let holder = hold(&sandbox, Some("keeper"));
    assert_eq!(
        fs::read_to_string(choice(&sandbox)).expect("read the choice"),
        "keeper\n"
    );
    assert_eq!(state_files(&sandbox).len(), 1);
    let instance = sandbox.instance("db");
    for kernel in [None, Some("sysv"), Some("keeper")] {
        let done = client(&sandbox, kernel);
        assert_eq!(
            done.out.trim(),
            instance.pid.to_string(),
            "{kernel:?}: {done:?}"
        );
    }
    holder.leave();
    instance.wait_exit();
    go_back(&sandbox, 1);
    // Without the file, the next process chooses again.
    let done = client(&sandbox, Some("sysv"));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!choice(&sandbox).exists());
    sandbox.wait_stopped("db");
    sandbox.assert_stopped("db", 2);
}

#[test]
fn kernel_with_an_unknown_name_is_an_error() {
    for typo in ["keepr", "Keeper", "keeper "] {
        let sandbox = Sandbox::new();
        let done = client(&sandbox, Some(typo));
        let value = format!("{typo:?}");
        assert_refused(&done, &[VARIABLE, &value, "`sysv`", "`keeper`"]);
        assert_eq!(sandbox.history("db"), [""; 0]);
        assert_eq!(sandbox.files(), [""; 0].map(PathBuf::from));
    }
}

#[test]
fn keeper_is_refused_while_services_use_semaphores() {
    let sandbox = Sandbox::new();
    let holder = hold(&sandbox, Some("sysv"));
    let instance = sandbox.instance("db");
    let dir = path_text(&sandbox.runtime_dir());
    let done = client(&sandbox, Some("keeper"));
    assert_refused(&done, &[&dir, "System V semaphores", "stop", VARIABLE]);
    assert!(!choice(&sandbox).exists());
    assert!(instance.is_live());
    holder.leave();
    instance.wait_exit();
    sandbox.assert_stopped("db", 1);
    let done = client(&sandbox, Some("keeper"));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(choice(&sandbox).exists());
    go_back(&sandbox, 2);
}

#[test]
fn kernel_file_with_other_contents_is_an_error() {
    let sandbox = Sandbox::new();
    let dir = path_text(&sandbox.runtime_dir());
    for contents in ["", "keeper", "mach\n", "keeper\nkeeper\n"] {
        fs::write(choice(&sandbox), contents).expect("write the file");
        let done = client(&sandbox, None);
        assert_refused(&done, &[&dir, "`kernel`", "`keeper`", "remove the file"]);
    }
    fs::remove_file(choice(&sandbox)).expect("remove the file");
    sandbox.assert_stopped("db", 0);
}

#[test]
fn keeper_executes_the_helper_program() {
    let sandbox = Sandbox::new();
    let helper = sandbox.path("helper");
    fs::copy(PROCREF, &helper).expect("copy the program");
    let mut command = procref(&sandbox, Some("keeper"), &["run", "db"]);
    command
        .args(sandbox.service("db"))
        .env("PROCREF_HELPER", &helper);
    let holder = Holder::new(Running::new(command.args([
        "--",
        "sh",
        "-c",
        PRINT_PID_AND_HOLD,
    ])));
    let exe = format!("/proc/{}/exe", supervisor(&sandbox).pid);
    assert_eq!(fs::read_link(exe).expect("read the link"), helper);
    holder.leave();
    go_back(&sandbox, 1);
}

#[test]
fn keeper_without_a_helper_program_is_an_error_that_names_the_choice() {
    let sandbox = Sandbox::new();
    fs::write(choice(&sandbox), "keeper\n").expect("choose keepers");
    let mut command = procref(&sandbox, None, &["run", "db"]);
    command
        .args(sandbox.service("db"))
        .env("PROCREF_HELPER", sandbox.path("missing"));
    let done = finish(command.args(["--", "true"]));
    let file = path_text(&choice(&sandbox));
    assert_refused(&done, &["keeper", &file, "No such file"]);
    assert_eq!(sandbox.history("db"), [""; 0]);
    let _ = finish(&mut procref(&sandbox, None, &["gc"]));
    go_back(&sandbox, 0);
}

/// Returns `procref run db` with a limit of its descriptors, without a client.
fn limited(sandbox: &Sandbox, descriptors: usize) -> std::process::Command {
    let mut command = sandbox.command("sh");
    command.env(VARIABLE, "keeper");
    let script = format!("ulimit -n {descriptors}; exec \"$@\"");
    command.args(["-c", &script, "sh", PROCREF, "run", "db"]);
    command.args(sandbox.service("db"));
    command
}

fn socket_of_keeper(sandbox: &Sandbox) -> PathBuf {
    let mut files = sandbox.files().into_iter();
    let socket = files.find(|path| path.extension().is_some_and(|it| it == "s"));
    socket.expect("the socket of the keeper")
}

#[test]
fn keeper_with_too_many_connections_ends_killed_clients() {
    /// The keeper inherits it. Each client needs one or two descriptors.
    const LIMIT: usize = 64;

    let sandbox = Sandbox::new();
    sandbox.register("db");
    let mut command = limited(&sandbox, LIMIT);
    command.args(["--", "sh", "-c", PRINT_PID_AND_HOLD]);
    let holder = Holder::new(Running::new(&mut command));
    let socket = socket_of_keeper(&sandbox);

    let connect = |_| UnixStream::connect(&socket).expect("connect");
    let connections: Vec<UnixStream> = (0..=LIMIT).map(connect).collect();
    let mut refused = connections.last().expect("a connection");
    let read = refused.read(&mut [0]).expect("read the connection");
    assert_eq!(read, 0, "the keeper has closed the last connection");
    // The keeper still finds and stops all processes of the service.
    let instance = sandbox.instance("db");
    let children = instance.children();
    assert_eq!(children.len(), 1);
    let has_ended = Arc::new(AtomicBool::new(false));
    // These connections take the descriptors that the killed client frees. The thread is not scoped: if the test failed, it
    // would wait for a connection forever.
    let more = {
        let (socket, has_ended) = (socket.clone(), Arc::clone(&has_ended));
        thread::spawn(move || {
            let mut more = Vec::new();
            while !has_ended.load(Ordering::Relaxed) && more.len() < 4 * LIMIT {
                more.extend(UnixStream::connect(&socket));
            }
        })
    };
    holder.kill();
    for process in children.into_iter().chain([instance]) {
        process.wait_exit();
    }
    has_ended.store(true, Ordering::Relaxed);
    more.join().expect("the thread that connects");
    drop(connections);
    go_back(&sandbox, 1);
}

/// The process of the service begins with all descriptors of the keeper.
#[test]
fn client_with_few_descriptors_starts_a_service_in_a_keeper_with_many() {
    let sandbox = Sandbox::new();
    let holder = hold(&sandbox, Some("keeper"));
    let socket = socket_of_keeper(&sandbox);
    let connect = |_| UnixStream::connect(&socket).expect("connect");
    let connections: Vec<UnixStream> = (0..200).map(connect).collect();
    for _ in 0..10 {
        let instance = sandbox.instance("db");
        instance.kill();
        instance.wait_exit();
        let mut command = limited(&sandbox, 64);
        let script = "grep 'open files' /proc/\"$PROCREF_PID\"/limits";
        let done = finish(command.args(["--", "sh", "-c", script]));
        assert!(
            done.code == Some(0) && done.out.contains(" 64 "),
            "{done:?}"
        );
    }
    drop(connections);
    let last = sandbox.instance("db");
    holder.leave();
    last.wait_exit();
    sandbox.wait_stopped("db");
    fs::remove_file(choice(&sandbox)).expect("remove the choice");
}

/// Returns the process that the state file names as its keeper.
fn keeper(sandbox: &Sandbox) -> Identity {
    const PID: usize = 40;

    let [file] = &state_files(sandbox)[..] else {
        panic!("not one state file");
    };
    let bytes = fs::read(file).expect("read the state file");
    let pid = bytes[PID..].first_chunk().expect("the pid of the keeper");
    Identity::of(u32::from_le_bytes(*pid)).expect("a living keeper")
}

/// The state file of another boot is void. Without the id of the boot, it could be that.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test reports itself")]
fn g2_object_is_kept_if_the_boot_id_cannot_be_read() {
    if env::var_os(SKIP).is_some() {
        eprintln!("SKIPPED: {SKIP} is set");
        return;
    }
    let sandbox = Sandbox::new();
    let holder = hold(&sandbox, Some("keeper"));
    let instance = sandbox.instance("db");
    for hide in [
        "mount -t tmpfs none /proc/sys/kernel/random",
        "mount --bind /dev/null /proc/sys/kernel/random/boot_id",
    ] {
        let hidden = |args: &[&str]| {
            let mut command = sandbox.command("unshare");
            command.arg("--mount").args(user_namespace());
            let script = format!("{hide} && exec \"$PROCREF\" \"$@\"");
            command.args(["sh", "-c", &script, "sh"]).args(args);
            finish(command.env("PROCREF", PROCREF).env_remove(VARIABLE))
        };
        let reason = "could not read the boot id, /proc/sys/kernel/random/boot_id";
        let killed = keeper(&sandbox);
        killed.kill();
        killed.wait_exit();
        let done = hidden(&["gc"]);
        assert!(
            done.code != Some(0) && done.err.contains(reason),
            "{done:?}"
        );
        let options = sandbox.service("db");
        let words = options.iter().map(String::as_str);
        let args: Vec<&str> = ["run", "db"].into_iter().chain(words).collect();
        let done = hidden(&[&args[..], &["--", "true"]].concat());
        let file = path_text(&state_files(&sandbox)[0]);
        assert_refused(&done, &[reason, &file]);
        assert!(instance.is_live(), "{hide}");
        let status = sandbox.json("db", &["status", "db", "--json"]);
        assert_eq!(status["pid"], instance.pid, "{hide}");
        assert_eq!(status["clients"], 1, "{hide}");
    }
    holder.leave();
    // Its supervisor was killed.
    assert!(instance.is_live());
    let children = instance.children();
    let done = finish(&mut procref(&sandbox, None, &["gc"]));
    assert_eq!(done.code, Some(0), "{done:?}");
    instance.wait_exit();
    // Only the supervisor would have stopped them.
    for child in children {
        child.kill();
        child.wait_exit();
    }
    go_back(&sandbox, 1);
}

/// Returns the exit code of `doctor`, and its findings about the kernel and its references.
fn doctor(sandbox: &Sandbox, kernel: Option<&str>) -> (Option<i32>, [String; 2]) {
    let done = finish(&mut procref(sandbox, kernel, &["doctor", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
    let findings = report["findings"].as_array().expect("a list");
    let found = ["kernel", "undo"].map(|check| {
        let finding = findings.iter().find(|it| it["check"] == check);
        let finding = finding.unwrap_or_else(|| panic!("no {check}: {report}"));
        format!("{}: {}", finding["severity"], finding["found"])
    });
    (done.code, found)
}

#[test]
fn doctor_reports_the_kernel_and_the_reason() {
    let sandbox = Sandbox::new();
    let assert_found = |kernel, code, expected: &str, mechanism: &str| {
        let (found_code, [found, undo]) = doctor(&sandbox, kernel);
        assert_eq!(found_code, Some(code), "{kernel:?}: {found}");
        assert!(found.contains(expected), "{kernel:?}: {found}");
        assert!(undo.contains(mechanism), "{kernel:?}: {undo}");
        assert_eq!(undo.starts_with("\"ok\""), code == 0, "{undo}");
    };
    assert_found(None, 0, "System V semaphores, the default", "SEM_UNDO: ");
    let selected = "System V semaphores, which PROCREF_KERNEL selects";
    assert_found(Some("sysv"), 0, selected, "SEM_UNDO: ");
    let selected = "keepers, which PROCREF_KERNEL selects for the first service";
    assert_found(Some("keeper"), 0, selected, "keeper: ");
    assert_found(Some("keepr"), 1, "PROCREF_KERNEL is \\\"keepr\\\"", "");

    let holder = hold(&sandbox, Some("keeper"));
    let recorded = format!("keepers, as {} records", path_text(&choice(&sandbox)));
    for kernel in [None, Some("sysv"), Some("keepr")] {
        assert_found(kernel, 0, &recorded, "keeper: ");
    }
    holder.leave();
    go_back(&sandbox, 1);
}
