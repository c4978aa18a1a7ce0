//! At a terminal: Ctrl-C, and what is drawn there.

#![cfg(target_os = "linux")]

mod support;

use std::io::{Read as _, Write as _};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use procref_testkit::deadline;
use pty_process::blocking::{Command, Pty, open};
use support::{PROCREF, path_text, sandbox::Sandbox};

/// A program at a terminal of its own.
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
        Self::of(
            sandbox,
            &[PROCREF].into_iter().chain(words).collect::<Vec<_>>(),
        )
    }

    /// A shell with job control, which is what gets on when a program is suspended.
    fn shell(sandbox: &Sandbox, script: &str) -> Self {
        Self::of(sandbox, &["sh", "-c", &format!("set -m; {script}")])
    }

    fn of(sandbox: &Sandbox, words: &[&str]) -> Self {
        let (pty, pts) = open().expect("a terminal");
        pty.resize(pty_process::Size::new(24, 100)).expect("a size");
        // A test that runs in the background of a script has inherited that Ctrl-C is ignored.
        let command = Command::new("env")
            .arg("--default-signal=INT,QUIT,TSTP,TTIN,TTOU")
            .args(words)
            .current_dir(sandbox.path("here"))
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .env("HOME", sandbox.path("here"))
            .env("PROCREF_RUNTIME_DIR", sandbox.runtime_dir());
        let child = command.spawn(pts).expect("it is executed");
        let fd = rustix::io::dup(&pty).expect("a descriptor");
        let (tell, output) = channel();
        thread::spawn(move || {
            let mut reader = std::fs::File::from(fd);
            let mut block = [0; 4096];
            // A terminal without a program is an error to read from.
            while let Ok(read @ 1..) = reader.read(&mut block) {
                let text = String::from_utf8_lossy(&block[..read]).into_owned();
                if tell.send(text).is_err() {
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

    #[track_caller]
    fn shows(&mut self, what: &str) {
        while !self.seen.contains(what) {
            let more = self.output.recv_timeout(Duration::from_secs(60));
            self.seen += &more.unwrap_or_else(|_| panic!("{what:?} in {:?}", self.seen));
        }
    }

    #[track_caller]
    fn ends(&mut self) -> ExitStatus {
        deadline::until("its end", || self.child.try_wait().expect("its status"))
    }

    fn press(&mut self, keys: &str) {
        self.pty
            .write_all(keys.as_bytes())
            .expect("somebody at the keyboard");
    }
}

const CTRL_C: &str = "\u{3}";
const HELD: [&str; 4] = ["--", "sh", "-c", "echo held; exec sleep 3600"];

#[test]
fn g3_ctrl_c_ends_the_client_and_stops_an_unshared_service() {
    for mode in [&["run", "db"][..], &["run", "db", "--watch-client"]] {
        let sandbox = Sandbox::new();
        sandbox.procref("db");
        let mut terminal = AtTerminal::new(&sandbox, mode, &sandbox.service("db"), &HELD);
        terminal.shows("held");
        let instance = sandbox.instance("db");
        terminal.press(CTRL_C);
        terminal.ends();
        instance.wait_exit();
        // Asked to end, and not struck by the same Ctrl-C.
        sandbox.assert_stopped("db", 1);
    }
}

#[test]
fn ctrl_c_leaves_a_service_that_another_client_holds() {
    let sandbox = Sandbox::new();
    sandbox.procref("db");
    let mut terminal = AtTerminal::new(&sandbox, &["run", "db"], &sandbox.service("db"), &HELD);
    terminal.shows("held");
    let instance = sandbox.instance("db");
    let other = sandbox.hold("db", &[]);
    terminal.press(CTRL_C);
    terminal.ends();
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
    sandbox.procref("db");
    let counts = "trap 'echo int' INT; trap 'exit 3' TERM; echo held; while :; do sleep 0.05; done";
    let rest = ["--", "sh", "-c", counts];
    let mut terminal = AtTerminal::new(
        &sandbox,
        &["run", "db", "--watch-client"],
        &sandbox.service("db"),
        &rest,
    );
    terminal.shows("held");
    let watcher = procref_testkit::observe::Identity::of(terminal.child.id()).expect("it lives");
    // The client has done with its own before procref gets to see the other one: two at the same time
    // would be one.
    watcher.signal(rustix::process::Signal::STOP);
    deadline::until_true("it is suspended", || watcher.is_suspended());
    terminal.press(CTRL_C);
    terminal.shows("int");
    watcher.signal(rustix::process::Signal::CONT);
    // Behind it in the same queue: whatever was to come of Ctrl-C comes before.
    watcher.signal(rustix::process::Signal::TERM);
    assert_eq!(terminal.ends().code(), Some(3));
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

/// `procref run db` for a shell, with a service that waits at the pipe.
fn gated_start(sandbox: &Sandbox, gate: &std::path::Path) -> String {
    rustix::fs::mkfifoat(rustix::fs::CWD, gate, rustix::fs::Mode::RWXU).expect("a pipe");
    let options = sandbox.service_after("db", &format!("read x <{}", path_text(gate)));
    let words = [PROCREF, "run", "db"].map(str::to_owned);
    shell_words::join(words.into_iter().chain(options))
}

#[test]
fn g4_ctrl_z_suspends_the_client_only_after_the_start() {
    let sandbox = Sandbox::new();
    sandbox.procref("db");
    let gate = sandbox.path("gate");
    let run = gated_start(&sandbox, &gate);
    let blocked = "grep SigBlk /proc/self/status";
    let script = format!(
        "{run} -- sh -c 'echo held; {blocked}'; echo \"code $?\"; read -r line; fg; echo end"
    );
    let mut terminal = AtTerminal::shell(&sandbox, &script);
    terminal.shows("starting `db` (");
    terminal.press(CTRL_Z);
    // It still draws, two times at least after the key was there to be read.
    let drawn = terminal.seen.len();
    while terminal.seen.len() < drawn + 200 {
        let more = terminal.output.recv_timeout(Duration::from_secs(60));
        terminal.seen += &more.expect("it goes on");
    }
    std::fs::write(&gate, "go\n").expect("it is let on");
    // 128 and SIGTSTP.
    terminal.shows("code 148");
    assert!(!terminal.seen.contains("held"), "{:?}", terminal.seen);
    // It holds no lock.
    sandbox.hold("db", &sandbox.service("db")).leave();
    terminal.press("go\r");
    terminal.shows("held");
    terminal.shows("SigBlk:\t0000000000000000");
    terminal.shows("end");
    terminal.ends();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn g4_background_output_with_tostop_does_not_suspend_a_start() {
    let sandbox = Sandbox::new();
    sandbox.procref("db");
    let gate = sandbox.path("gate");
    let run = gated_start(&sandbox, &gate);
    let script = format!("stty tostop; {run} -- true & wait $!; echo \"code $?\"");
    let mut terminal = AtTerminal::shell(&sandbox, &script);
    terminal.shows("starting `db` (");
    std::fs::write(&gate, "go\n").expect("it is let on");
    terminal.shows("code 0");
    terminal.ends();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn long_start_shows_the_last_line_of_its_log() {
    let sandbox = Sandbox::new();
    sandbox.procref("db");
    let gate = sandbox.path("gate");
    rustix::fs::mkfifoat(rustix::fs::CWD, &gate, rustix::fs::Mode::RWXU).expect("a pipe");
    let options = sandbox.service_after(
        "db",
        &format!("echo recovering the journal; read x <{}", path_text(&gate)),
    );
    let mut terminal = AtTerminal::new(&sandbox, &["run", "db"], &options, &HELD);
    terminal.shows("starting `db` (");
    terminal.shows("recovering the journal");
    std::fs::write(&gate, "go\n").expect("it is let on");
    terminal.shows("held");
    terminal.press(CTRL_C);
    terminal.ends();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn waiting_client_names_the_process_that_starts_the_service() {
    let sandbox = Sandbox::new();
    sandbox.procref("db");
    let gate = sandbox.path("gate");
    rustix::fs::mkfifoat(rustix::fs::CWD, &gate, rustix::fs::Mode::RWXU).expect("a pipe");
    let options = sandbox.service_after("db", &format!("read x <{}", path_text(&gate)));
    let mut starter = AtTerminal::new(&sandbox, &["run", "db"], &options, &HELD);
    starter.shows("starting `db` (");
    let mut other = AtTerminal::new(&sandbox, &["run", "db"], &options, &HELD);
    other.shows(&format!(
        "waiting for `db`, which process {} is starting",
        starter.child.id()
    ));
    std::fs::write(&gate, "go\n").expect("it is let on");
    for terminal in [&mut starter, &mut other] {
        terminal.shows("held");
    }
    for terminal in [&mut starter, &mut other] {
        terminal.press(CTRL_C);
        terminal.ends();
    }
    sandbox.assert_stopped("db", 1);
}

#[test]
fn ps_watch_redraws_the_table_in_place() {
    let sandbox = Sandbox::new();
    sandbox.procref("db");
    let mut terminal =
        AtTerminal::new(&sandbox, &["ps", "--watch", "--interval", "20ms"], &[], &[]);
    terminal.shows("no services");
    let holder = sandbox.hold("db", &sandbox.service("db"));
    terminal.shows("ready");
    // Cursor up, and the line cleared.
    assert!(
        terminal.seen.contains("\u{1b}[1A") && terminal.seen.contains("\u{1b}[2K"),
        "{:?}",
        terminal.seen
    );
    holder.leave();
    terminal.press(CTRL_C);
    terminal.ends();
    sandbox.assert_stopped("db", 1);
}
