//! procref at a terminal: Ctrl-C, Ctrl-Z, progress and tables.

#![cfg(target_os = "linux")]

mod server;
mod support;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use procref_testkit::deadline;
use pty_process::blocking::{Command, Pty, open};
use support::{
    OUTPUT_VARIABLES, PROCREF, create_gate, live_process, open_gate,
    sandbox::{Sandbox, wait_at_gate},
};

/// A program that runs at its own terminal.
struct AtTerminal {
    pty: Pty,
    child: Child,
    output: Receiver<String>,
    seen: String,
}

impl AtTerminal {
    fn new(sandbox: &Sandbox, args: &[&str], options: &[String], rest: &[&str]) -> Self {
        let options = options.iter().map(String::as_str);
        let words = args
            .iter()
            .copied()
            .chain(options)
            .chain(rest.iter().copied());
        Self::spawn(
            sandbox,
            &[PROCREF].into_iter().chain(words).collect::<Vec<_>>(),
        )
    }

    /// Runs a script in a shell with job control, which continues when a program is suspended.
    fn shell(sandbox: &Sandbox, script: &str) -> Self {
        Self::spawn(sandbox, &["sh", "-c", &format!("set -m; {script}")])
    }

    fn spawn(sandbox: &Sandbox, words: &[&str]) -> Self {
        let (pty, pts) = open().expect("a terminal");
        pty.resize(pty_process::Size::new(24, 100)).expect("a size");
        // A test that runs in the background of a script inherits an ignored SIGINT.
        let command = OUTPUT_VARIABLES
            .iter()
            .fold(Command::new("env"), |command, name| {
                command.env_remove(name)
            });
        let command = command
            .arg("--default-signal=INT,QUIT,TSTP,TTIN,TTOU")
            .args(words)
            .current_dir(sandbox.path("here"))
            .env("TERM", "xterm")
            .env("HOME", sandbox.path("here"))
            .env("PROCREF_RUNTIME_DIR", sandbox.runtime_dir());
        let child = command.spawn(pts).expect("run the command");
        let fd = rustix::io::dup(&pty).expect("a descriptor");
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut reader = std::fs::File::from(fd);
            let mut block = [0; 4096];
            // Reading fails when no program has the terminal open.
            while let Ok(read @ 1..) = reader.read(&mut block) {
                let text = String::from_utf8_lossy(&block[..read]).into_owned();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        Self {
            pty,
            child,
            output,
            seen: String::new(),
        }
    }

    /// Waits until the terminal has shown this text.
    #[track_caller]
    fn wait_shown(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let more = self.output.recv_timeout(Duration::from_secs(60));
            self.seen += &more.unwrap_or_else(|_| panic!("{text:?} is not in {:?}", self.seen));
        }
    }

    #[track_caller]
    fn wait_exit(&mut self) -> ExitStatus {
        deadline::until("the program exits", || {
            self.child.try_wait().expect("read the status")
        })
    }

    fn press(&mut self, keys: &str) {
        self.pty
            .write_all(keys.as_bytes())
            .expect("write to the terminal");
    }
}

const CTRL_C: &str = "\u{3}";
/// A client that prints a line and holds the service.
const HELD: [&str; 4] = ["--", "sh", "-c", "echo held; exec sleep 3600"];

/// Runs a client at a terminal, and waits until the client holds the service.
fn hold(sandbox: &Sandbox, mode: &[&str]) -> AtTerminal {
    sandbox.register("db");
    let mut terminal = AtTerminal::new(sandbox, mode, &sandbox.service("db"), &HELD);
    terminal.wait_shown("held");
    terminal
}

#[test]
fn hold_and_pin_say_what_to_do_next_on_a_terminal_only() {
    let sandbox = Sandbox::new();
    sandbox.register("db");
    let options = sandbox.service("db");
    let mut pin = AtTerminal::new(&sandbox, &["pin", "db"], &options, &[]);
    pin.wait_shown("next: procref run db -- COMMAND; procref unpin db");
    assert!(pin.wait_exit().success());
    let mut hold = AtTerminal::new(&sandbox, &["hold", "db"], &[], &[]);
    hold.wait_shown("next: in another terminal, procref run db -- COMMAND; here, Ctrl-C");
    hold.press(CTRL_C);
    assert!(hold.wait_exit().success());
    let piped = sandbox.run("db", &["pin", "db"]);
    assert!(
        piped.err.starts_with("pinned `db`") && !piped.err.contains("next"),
        "{piped:?}"
    );
    sandbox.stdout("db", &["stop", "db"]);
}

#[test]
fn g3_ctrl_c_ends_the_client_and_stops_an_unshared_service() {
    for mode in [&["run", "db"][..], &["run", "db", "--watch-client"]] {
        let sandbox = Sandbox::new();
        let mut terminal = hold(&sandbox, mode);
        let instance = sandbox.instance("db");
        terminal.press(CTRL_C);
        terminal.wait_exit();
        instance.wait_exit();
        // procref stops the service gracefully. The Ctrl-C does not reach the service.
        sandbox.assert_stopped("db", 1);
    }
}

#[test]
fn ctrl_c_leaves_a_service_that_another_client_holds() {
    let sandbox = Sandbox::new();
    let mut terminal = hold(&sandbox, &["run", "db"]);
    let instance = sandbox.instance("db");
    let other = sandbox.hold("db", &[]);
    terminal.press(CTRL_C);
    terminal.wait_exit();
    assert!(instance.is_live());
    assert_eq!(
        sandbox.json("db", &["status", "db", "--json"])["clients"],
        1
    );
    assert!(instance.is_live());
    other.leave();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn watched_client_receives_ctrl_c_once() {
    let sandbox = Sandbox::new();
    sandbox.register("db");
    let counts = "trap 'echo int' INT; trap 'exit 3' TERM; echo held; while :; do sleep 0.05; done";
    let rest = ["--", "sh", "-c", counts];
    let mut terminal = AtTerminal::new(
        &sandbox,
        &["run", "db", "--watch-client"],
        &sandbox.service("db"),
        &rest,
    );
    terminal.wait_shown("held");
    let watcher = live_process(&terminal.child.id().to_string());
    // The client must handle its own SIGINT before procref handles the other one, because two pending signals are
    // merged.
    watcher.signal(rustix::process::Signal::STOP);
    deadline::until_true("procref is suspended", || watcher.is_suspended());
    terminal.press(CTRL_C);
    terminal.wait_shown("int");
    watcher.signal(rustix::process::Signal::CONT);
    // procref handles SIGTERM after Ctrl-C, so the client's exit shows that Ctrl-C has had its effect.
    watcher.signal(rustix::process::Signal::TERM);
    assert_eq!(terminal.wait_exit().code(), Some(3));
    while let Ok(more) = terminal.output.recv_timeout(Duration::from_secs(60)) {
        terminal.seen += &more;
    }
    assert_eq!(
        terminal.seen.matches("int").count(),
        1,
        "{:?}",
        terminal.seen
    );
    sandbox.assert_stopped("db", 1);
}

const CTRL_Z: &str = "\u{1a}";

/// Returns `procref run db` for a shell, with a service that waits at the gate.
fn gated_start(sandbox: &Sandbox, gate: &Path) -> String {
    let options = sandbox.service_after("db", &wait_at_gate(gate));
    let words = [PROCREF, "run", "db"].map(str::to_owned);
    shell_words::join(words.into_iter().chain(options))
}

#[test]
fn g4_ctrl_z_suspends_the_client_only_after_the_start() {
    let sandbox = Sandbox::new();
    sandbox.register("db");
    let gate = create_gate(sandbox.path("gate"));
    let run = gated_start(&sandbox, &gate);
    let blocked = "grep SigBlk /proc/self/status";
    let script = format!(
        "{run} -- sh -c 'echo held; {blocked}'; echo \"code $?\"; read -r line; fg; echo end"
    );
    let mut terminal = AtTerminal::shell(&sandbox, &script);
    terminal.wait_shown("starting `db` (");
    terminal.press(CTRL_Z);
    // procref still draws. 200 bytes are at least two frames after the key was pressed.
    let drawn = terminal.seen.len();
    while terminal.seen.len() < drawn + 200 {
        let more = terminal.output.recv_timeout(Duration::from_secs(60));
        terminal.seen += &more.expect("more output");
    }
    open_gate(&gate);
    // The code is 128 plus SIGTSTP.
    terminal.wait_shown("code 148");
    assert!(!terminal.seen.contains("held"), "{:?}", terminal.seen);
    // The suspended client does not hold the lock.
    sandbox.hold("db", &sandbox.service("db")).leave();
    terminal.press("go\r");
    terminal.wait_shown("held");
    terminal.wait_shown("SigBlk:\t0000000000000000");
    terminal.wait_shown("end");
    terminal.wait_exit();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn g4_background_output_with_tostop_does_not_suspend_a_start() {
    let sandbox = Sandbox::new();
    sandbox.register("db");
    let gate = create_gate(sandbox.path("gate"));
    // In the background, only log events are printed.
    let run = gated_start(&sandbox, &gate).replacen(" run ", " run -vv ", 1);
    let script = format!("stty tostop; {run} -- true & wait $!; echo \"code $?\"");
    let mut terminal = AtTerminal::shell(&sandbox, &script);
    terminal.wait_shown("launching the service");
    open_gate(&gate);
    terminal.wait_shown("code 0");
    terminal.wait_exit();
    sandbox.assert_stopped("db", 1);
}

/// The user writes the next command line while a background job starts a service.
#[test]
fn background_start_shows_progress_only_in_the_foreground() {
    let sandbox = Sandbox::new();
    sandbox.register("db");
    let gate = create_gate(sandbox.path("gate"));
    let run = gated_start(&sandbox, &gate);
    let script = format!("{run} -- true & read -r line; echo foreground; fg; echo \"code $?\"");
    let mut terminal = AtTerminal::shell(&sandbox, &script);
    let starting = || sandbox.run("db", &["status", "db", "--json"]);
    deadline::until_true("the service starts", || {
        starting().out.contains("\"state\":\"starting\"")
    });
    // Longer than the time before progress is shown. Nothing happens, so there is no event to wait for.
    thread::sleep(Duration::from_millis(900));
    while let Ok(more) = terminal.output.try_recv() {
        terminal.seen += &more;
    }
    assert!(!terminal.seen.contains("starting"), "{:?}", terminal.seen);
    terminal.press("go\r");
    terminal.wait_shown("foreground");
    terminal.wait_shown("starting `db` (");
    open_gate(&gate);
    terminal.wait_shown("code 0");
    terminal.wait_exit();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn long_start_shows_the_last_line_of_its_log() {
    let sandbox = Sandbox::new();
    sandbox.register("db");
    let gate = create_gate(sandbox.path("gate"));
    let options = sandbox.service_after(
        "db",
        &format!("echo recovering the journal; {}", wait_at_gate(&gate)),
    );
    let mut terminal = AtTerminal::new(&sandbox, &["run", "db"], &options, &HELD);
    terminal.wait_shown("starting `db` (");
    terminal.wait_shown("recovering the journal");
    open_gate(&gate);
    terminal.wait_shown("held");
    terminal.press(CTRL_C);
    terminal.wait_exit();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn waiting_client_names_the_process_that_starts_the_service() {
    let sandbox = Sandbox::new();
    sandbox.register("db");
    let gate = create_gate(sandbox.path("gate"));
    let options = sandbox.service_after("db", &wait_at_gate(&gate));
    let mut starter = AtTerminal::new(&sandbox, &["run", "db"], &options, &HELD);
    starter.wait_shown("starting `db` (");
    let mut other = AtTerminal::new(&sandbox, &["run", "db"], &options, &HELD);
    other.wait_shown(&format!(
        "waiting for `db`, which process {} is starting",
        starter.child.id()
    ));
    open_gate(&gate);
    for terminal in [&mut starter, &mut other] {
        terminal.wait_shown("held");
    }
    for terminal in [&mut starter, &mut other] {
        terminal.press(CTRL_C);
        terminal.wait_exit();
    }
    sandbox.assert_stopped("db", 1);
}

#[test]
fn ps_watch_redraws_the_table_in_place_without_a_keyboard() {
    let sandbox = Sandbox::new();
    sandbox.register("db");
    let script = format!("{PROCREF} ps --watch --interval 20ms </dev/null");
    let mut terminal = AtTerminal::shell(&sandbox, &script);
    terminal.wait_shown("no services");
    let holder = sandbox.hold("db", &sandbox.service("db"));
    terminal.wait_shown("ready");
    // The output moves the cursor up and clears the line.
    assert!(
        terminal.seen.contains("\u{1b}[1A") && terminal.seen.contains("\u{1b}[2K"),
        "{:?}",
        terminal.seen
    );
    holder.leave();
    terminal.press(CTRL_C);
    terminal.wait_exit();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn ps_watch_prints_each_change_on_a_dumb_terminal() {
    let sandbox = Sandbox::new();
    sandbox.register("db");
    let script = format!("TERM=dumb {PROCREF} ps --watch --interval 20ms");
    let mut terminal = AtTerminal::shell(&sandbox, &script);
    terminal.wait_shown("no services");
    let holder = sandbox.hold("db", &sandbox.service("db"));
    terminal.wait_shown("ready");
    holder.leave();
    terminal.press(CTRL_C);
    terminal.wait_exit();
    assert!(!terminal.seen.contains('\u{1b}'), "{:?}", terminal.seen);
    sandbox.assert_stopped("db", 1);
}

#[test]
fn ps_watch_shows_the_address_of_a_service_of_a_cluster() {
    let sandbox = Sandbox::new();
    sandbox.register("db");
    let words = [PROCREF, "ps", "--watch", "--interval", "20ms"];
    let mut terminal = AtTerminal::spawn(&sandbox, &words);
    let local = sandbox.hold("db", &sandbox.service("db"));
    terminal.wait_shown("ready");
    assert!(!terminal.seen.contains("ADDRESS"), "{:?}", terminal.seen);
    // A link sends these values.
    let start = format!("{} 0", server::command());
    let env = format!(
        "{}=PROCREF_META_address=gpu-1.example:4711\nPROCREF_META_cluster_host=gpu-1",
        server::NOTIFY_LINES
    );
    let options = ["--start", &start, "--ready", "notify", "--env", &env];
    let link = sandbox.hold("model", &options.map(str::to_owned));
    terminal.wait_shown("ADDRESS");
    terminal.wait_shown("gpu-1.example:4711");
    link.leave();
    local.leave();
    terminal.press("q");
    assert!(terminal.wait_exit().success());
    sandbox.assert_stopped("db", 1);
}

#[test]
fn ps_watch_follows_a_size_that_changes_while_its_screen_begins() {
    let sandbox = Sandbox::new();
    let words = [
        PROCREF,
        "ps",
        "--watch",
        "--interval",
        "1h",
        "--color",
        "never",
    ];
    // The change comes right after the first drawing, at a slightly different moment each time.
    for _ in 0..10 {
        let mut terminal = AtTerminal::spawn(&sandbox, &words);
        terminal.wait_shown("\u{1b}[24;1Hq quit");
        let resized = terminal.pty.resize(pty_process::Size::new(12, 60));
        resized.expect("another size");
        terminal.wait_shown("\u{1b}[12;1Hq quit");
        terminal.press("q");
        assert!(terminal.wait_exit().success());
    }
}
