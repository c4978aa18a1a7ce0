//! What a service inherits from the client that starts it, as `docs/cli/inheritance.md` describes.

#![cfg(target_os = "linux")]

mod support;

use std::fs;

use procref_testkit::kernel;
use support::{
    PROCREF,
    sandbox::{Running, Sandbox},
    signal_mask, user_namespace,
};

/// Runs shell code and then, in the same shell, a client that starts the service. Returns the client and the
/// service's pid.
fn start_after(sandbox: &Sandbox, before: &str) -> (Running, u32) {
    sandbox.register("db");
    let words = [PROCREF, "run", "db"].map(str::to_owned);
    let client = ["--", "sh", "-c", "echo $PROCREF_PID; read -r line"].map(str::to_owned);
    let run = shell_words::join(words.into_iter().chain(sandbox.service("db")).chain(client));
    let mut command = sandbox.command("sh");
    let running = Running::new(command.args(["-c", &format!("{before} {run}")]));
    let pid = running.line().parse().expect("a pid");
    (running, pid)
}

fn read(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a live process")
}

#[track_caller]
fn field(pid: u32, name: &str) -> String {
    let status = read(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.strip_prefix(':'));
    value.expect("a field").trim().to_owned()
}

/// Returns the nice value, which is field 19 of `/proc/PID/stat`.
fn nice(pid: u32) -> i64 {
    let stat = read(pid, "stat");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let nice = fields.split_whitespace().nth(16).expect("a field");
    nice.parse().expect("a number")
}

fn link(pid: u32, name: &str) -> String {
    let target = fs::read_link(format!("/proc/{pid}/{name}")).expect("a live process");
    target.to_string_lossy().into_owned()
}

#[test]
fn service_keeps_process_attributes_of_its_first_client() {
    let sandbox = Sandbox::new();
    let first = "umask 027; ulimit -n 777; echo 300 >/proc/self/oom_score_adj; echo 70000 >/proc/self/timerslack_ns; \
                 cd /usr; COLOR=red; export COLOR; exec taskset -c 0 nice -n 5 setpriv --no-new-privs";
    let (mut one, pid) = start_after(&sandbox, first);
    let second = "umask 077; ulimit -n 555; cd /; COLOR=blue; export COLOR; exec nice -n 9";
    let (mut two, same) = start_after(&sandbox, second);
    assert_eq!(pid, same);
    one.send("end\n");
    assert_eq!(one.wait().code(), Some(0));
    assert_eq!(field(pid, "Umask"), "0027");
    assert_eq!(field(pid, "Cpus_allowed_list"), "0");
    assert_eq!(field(pid, "NoNewPrivs"), "1");
    assert_eq!(nice(pid), nice(std::process::id()) + 5);
    assert_eq!(read(pid, "oom_score_adj").trim(), "300");
    assert_eq!(read(pid, "timerslack_ns").trim(), "70000");
    let limits = read(pid, "limits");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    assert_eq!(
        files.and_then(|line| line.split_whitespace().nth(3)),
        Some("777"),
        "{limits}"
    );
    assert_eq!(link(pid, "cwd"), "/usr");
    let environment = read(pid, "environ");
    assert!(environment.split('\0').any(|it| it == "COLOR=red"));
    let client = two.identity().pid;
    assert_eq!(read(pid, "cgroup"), read(client, "cgroup"));
    for namespace in ["mnt", "net", "uts", "ipc", "pid", "user", "cgroup"] {
        let name = format!("ns/{namespace}");
        assert_eq!(link(pid, &name), link(client, &name));
    }
    two.send("end\n");
    two.wait();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn service_inherits_no_signals_terminal_or_descriptors() {
    let sandbox = Sandbox::new();
    let first =
        "exec 7</dev/null; exec env --ignore-signal=HUP,INT,TERM,CHLD --block-signal=USR1,TSTP";
    let (mut client, pid) = start_after(&sandbox, first);
    let lowest_31 = |name: &str| signal_mask(&field(pid, name)) & 0x7fff_ffff;
    assert_eq!((lowest_31("SigIgn"), lowest_31("SigBlk")), (0, 0));
    let session = read(pid, "stat");
    let (_, fields) = session.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // The fields are the process group, the session and the terminal.
    assert_eq!(fields[2..5], [&pid.to_string(), &pid.to_string(), "0"]);
    assert_eq!(link(pid, "fd/0"), "/dev/null");
    assert!(fs::read_link(format!("/proc/{pid}/fd/7")).is_err());
    let client_blocks = client.identity().status("SigBlk").expect("a live process");
    let client_blocks = signal_mask(&client_blocks);
    assert_ne!(
        client_blocks & 1 << (libc::SIGUSR1 - 1),
        0,
        "the client's own mask is unchanged"
    );
    client.send("end\n");
    client.wait();
    sandbox.assert_stopped("db", 1);
}

/// The kernel applies the undo adjustments of a process when the process leaves its IPC namespace. A keeper counts the
/// process in any IPC namespace.
#[test]
fn client_leaving_its_ipc_namespace_loses_its_reference() {
    let unshare = [&["unshare", "--ipc"][..], user_namespace()].concat();
    let script = ["sh", "-c", "echo out; read -r line"];
    for (mode, holds) in [
        (&["run", "db"][..], false),
        (&["run", "db", "--watch-client"], true),
    ] {
        let sandbox = Sandbox::new();
        let mut command = sandbox.procref("db");
        command.args(mode).args(sandbox.service("db")).arg("--");
        let mut client = Running::new(command.args(&unshare).args(script));
        assert_eq!(client.line(), "out");
        if holds || kernel::is_keeper() {
            // The watcher, and its client.
            let clients = if holds && kernel::is_keeper() { 2 } else { 1 };
            let status = sandbox.json("db", &["status", "db", "--json"]);
            assert_eq!(status["clients"], clients);
            assert!(sandbox.instance("db").is_live());
        } else {
            sandbox.assert_stopped("db", 1);
        }
        client.send("end\n");
        client.wait();
        sandbox.assert_stopped("db", 1);
    }
}
