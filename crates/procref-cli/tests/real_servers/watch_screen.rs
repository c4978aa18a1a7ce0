//! The screen of `ps --watch`, in a real terminal: tmux.

use std::path::PathBuf;
use std::process::Command;

use procref_testkit::deadline;
use procref_testkit::observe::Identity;
use rustix::process::Signal;

use crate::support::sandbox::Sandbox;
use crate::support::workspace::Workspace;
use crate::support::{PROCREF, copy_environment, live_process, output_text, path_text};

/// A tmux server of its own with one window, in which a shell with job control runs.
struct Tmux {
    /// A command with the environment and the working directory of the shell.
    environment: Command,
    socket: PathBuf,
}

impl Tmux {
    fn new(sandbox: &Sandbox) -> Self {
        Self::in_environment(sandbox.command("sh"), sandbox.path("tmux"))
    }

    fn in_environment(environment: Command, socket: PathBuf) -> Self {
        let tmux = Self {
            environment,
            socket,
        };
        tmux.run(&[
            "new-session",
            "-d",
            "-x",
            "110",
            "-y",
            "20",
            "PS1='> ' exec sh -i",
        ]);
        tmux.wait_shown(">");
        tmux
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        copy_environment(&self.environment, &mut command);
        let dir = self.environment.get_current_dir();
        command
            .current_dir(dir.expect("a working directory"))
            .env_remove("TMUX")
            .env_remove("ENV")
            .env("SHELL", "/bin/sh")
            .env("LC_ALL", "C.UTF-8")
            .args(["-u", "-f", "/dev/null", "-S"])
            .arg(&self.socket);
        command
    }

    /// Runs a command of tmux, and returns its output.
    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().expect("run tmux");
        let (out, err) = output_text(&output);
        assert!(output.status.success(), "{args:?}: {out}{err}");
        out
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Types a line in the shell.
    fn enter(&self, line: &str) {
        self.run(&["send-keys", "-l", line]);
        self.press("Enter");
    }

    fn press(&self, key: &str) {
        self.run(&["send-keys", key]);
    }

    /// Waits until the screen fulfills a condition, and returns the screen.
    #[expect(clippy::print_stderr, reason = "a failed test shows what it saw")]
    #[track_caller]
    fn wait(&self, what: &str, is_met: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let caller = std::panic::Location::caller();
        deadline::until(&format!("{what} ({caller})"), || {
            let screen = self.screen();
            if screen != last {
                eprintln!(
                    "---- the screen, while waiting for: {what}\n{}",
                    screen.trim_end()
                );
                last.clone_from(&screen);
            }
            is_met(&screen).then_some(screen)
        })
    }

    /// Waits until the screen shows this text.
    #[track_caller]
    fn wait_shown(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }

    /// Waits until a line of the list begins with the name `db`, and its rest contains these words.
    #[track_caller]
    fn wait_service(&self, words: &[&str]) -> String {
        let screen = self.wait(&format!("db with {words:?}"), |screen| {
            service_line(screen).is_some_and(|line| {
                words
                    .iter()
                    .all(|word| line.split_whitespace().any(|it| it == *word))
            })
        });
        service_line(&screen).expect("a line").to_owned()
    }

    /// Starts `ps --watch` in the shell, and waits until it shows its screen.
    #[track_caller]
    fn watch(&self, interval: &str) {
        self.enter(&format!(
            "{PROCREF} ps --watch --interval {interval}; echo \"code\" $?"
        ));
        self.wait_shown("q quit");
    }

    /// Returns `true` while a program has an own screen.
    fn is_alternate(&self) -> bool {
        self.run(&["display-message", "-p", "#{alternate_on}"])
            .trim()
            == "1"
    }

    /// Asserts that the terminal is as the shell expects it.
    #[track_caller]
    fn assert_restored(&self) {
        assert!(!self.is_alternate());
        assert_eq!(
            self.run(&["display-message", "-p", "#{cursor_flag}"])
                .trim(),
            "1"
        );
        // The quotes keep the command itself from looking like its output.
        self.enter("test \"$(stty -g)\" = \"$modes\" && echo \"same\" modes");
        self.wait_shown("same modes");
        self.enter("clear");
        self.wait("an empty screen", |screen| !screen.contains("modes"));
    }

    /// Returns the process that the shell runs.
    #[track_caller]
    fn foreground(&self) -> Identity {
        let shell = self.run(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = format!("/proc/{shell}/task/{shell}/children");
        let children = std::fs::read_to_string(children).expect("read the children");
        live_process(&children)
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // A server that has already exited is an error that makes no difference.
        let _ = self.command().arg("kill-server").output();
    }
}

fn service_line(screen: &str) -> Option<&str> {
    screen
        .lines()
        .find(|line| line.trim_start_matches(['>', ' ']).starts_with("db "))
}

#[test]
fn screen_shows_a_service_and_its_keys_change_it() {
    let sandbox = Sandbox::new();
    let tmux = Tmux::new(&sandbox);
    let holder = sandbox.hold("db", &sandbox.service("db"));
    let instance = sandbox.instance("db");
    tmux.watch("100ms");
    let line = tmux.wait_service(&["ready", "1"]);
    let heading = tmux.screen().lines().next().unwrap_or_default().to_owned();
    let headings: Vec<&str> = heading.split_whitespace().collect();
    let expected = "NAME STATE CLIENTS CPU MEMORY UP KEPT PID PORT TIME";
    assert_eq!(headings.join(" "), expected);
    let cells: Vec<&str> = line.trim_start_matches('>').split_whitespace().collect();
    assert!(cells.contains(&&*instance.pid.to_string()), "{line}");
    assert!(cells[4].ends_with(['K', 'M']), "{line}");
    assert!(cells[cells.len() - 1].ends_with('s'), "{line}");

    tmux.press("l");
    let screen = tmux.wait_shown("Log of `db`");
    assert!(screen.lines().any(|line| line == "ready"), "{screen}");
    tmux.press("Escape");
    tmux.wait_service(&["ready"]);

    tmux.press("h");
    tmux.wait_shown("Holders of `db`");
    tmux.wait_shown(&format!("pid {}, running for", holder.client.pid));
    tmux.press("Escape");
    tmux.wait_service(&["ready"]);

    // A service that is held is not stopped without a confirmation.
    tmux.press("s");
    tmux.wait_shown("Stop `db` anyway? [y/N]");
    tmux.wait_shown("to stop the service anyway, use --force");
    tmux.press("n");
    tmux.wait("no question", |screen| !screen.contains("[y/N]"));
    assert!(instance.is_live());

    tmux.press("p");
    tmux.wait_shown("pinned `db`");
    tmux.wait_service(&["pinned"]);
    holder.leave();
    tmux.wait_service(&["pinned", "0"]);
    assert!(instance.is_live());
    tmux.press("p");
    tmux.wait_shown("no services");
    instance.wait_exit();

    let holder = sandbox.hold("db", &sandbox.service("db"));
    let instance = sandbox.instance("db");
    tmux.wait_service(&["ready", "1"]);
    tmux.press("s");
    tmux.wait_shown("Stop `db` anyway? [y/N]");
    tmux.press("y");
    tmux.wait_shown("stopped `db`");
    instance.wait_exit();
    holder.leave();
    tmux.wait_shown("no services");
    tmux.press("q");
    tmux.wait_shown("code 0");
    sandbox.assert_stopped("db", 2);
}

#[test]
fn screen_starts_a_described_service_and_shows_its_last_log() {
    let workspace = Workspace::new();
    let config = r#"[services.db]
start = "sh -c 'echo ready; exec sleep 3600'"
ready = "log:^ready$"
"#;
    let project = workspace.project("app", config);
    let environment = workspace.procref(&project.dir);
    let tmux = Tmux::in_environment(environment, workspace.path("tmux"));
    tmux.watch("100ms");
    tmux.wait_service(&["absent", "0"]);
    tmux.press("l");
    tmux.wait_shown("service `db` is not running, and has no log of an earlier run");
    tmux.press("p");
    tmux.wait_shown("pinned `db`");
    tmux.wait_service(&["ready", "pinned"]);
    tmux.press("s");
    tmux.wait_shown("stopped `db`");
    tmux.wait_service(&["absent"]);
    tmux.press("l");
    let screen = tmux.wait_shown("Log of `db`");
    assert!(screen.lines().any(|line| line == "ready"), "{screen}");
    tmux.press("q");
    tmux.wait_shown("code 0");
}

#[test]
fn screen_changes_a_service_that_runs_once_for_each_fingerprint() {
    let sandbox = Sandbox::new();
    let tmux = Tmux::new(&sandbox);
    let mut options = sandbox.service("db");
    let separate = ["--fingerprint=-v 2", "--mismatch=separate"];
    options.extend(separate.map(str::to_owned));
    let holder = sandbox.hold("db", &options);
    let instance = sandbox.instance("db");
    tmux.watch("100ms");
    tmux.wait_service(&["ready", "1"]);
    tmux.press("p");
    tmux.wait_service(&["pinned"]);
    holder.leave();
    tmux.wait_service(&["pinned", "0"]);
    // Without clients, it is stopped without a question.
    tmux.press("s");
    tmux.wait_shown("stopped `db`");
    instance.wait_exit();
    tmux.wait_shown("no services");
    tmux.press("q");
    tmux.wait_shown("code 0");
    sandbox.assert_stopped("db", 1);
}

/// With an interval that the test does not reach, only events update the screen.
#[test]
fn screen_is_updated_by_events_when_services_start_and_stop() {
    let sandbox = Sandbox::new();
    let tmux = Tmux::new(&sandbox);
    tmux.watch("1h");
    tmux.wait_shown("no services");
    let holder = sandbox.hold("db", &sandbox.service("db"));
    tmux.wait_service(&["ready"]);
    holder.leave();
    tmux.wait_shown("no services");
    // The log of a running service is followed.
    let gate = crate::support::create_gate(sandbox.path("gate"));
    let code = format!("(read x <{}; echo opened) &", path_text(&gate));
    let holder = sandbox.hold(
        "db",
        &sandbox.service_after("db", &code.replace('&', "& :")),
    );
    tmux.wait_service(&["ready"]);
    tmux.press("l");
    tmux.wait_shown("Log of `db`");
    crate::support::open_gate(&gate);
    tmux.wait("the new line of the log", |screen| {
        screen.lines().any(|line| line == "opened")
    });
    holder.leave();
    tmux.press("q");
    tmux.wait_shown("code 0");
    sandbox.assert_stopped("db", 2);
}

#[test]
fn screen_restores_the_terminal_when_it_is_suspended_or_ends() {
    let sandbox = Sandbox::new();
    let tmux = Tmux::new(&sandbox);
    tmux.enter("modes=$(stty -g)");
    tmux.watch("1h");
    assert!(tmux.is_alternate());
    tmux.press("C-z");
    tmux.wait_shown("Stopped");
    tmux.assert_restored();
    tmux.enter("fg");
    tmux.wait_shown("q quit");
    let procref = tmux.foreground();
    tmux.press("C-c");
    procref.wait_exit();
    // The shell does not execute the rest of the line after a program that SIGINT has killed.
    tmux.enter("echo \"code\" $?");
    tmux.wait_shown("code 130");
    tmux.assert_restored();

    // SIGSTOP cannot be handled. The terminal stays in raw mode, in which the key Enter does not end a line.
    tmux.watch("1h");
    let procref = tmux.foreground();
    procref.signal(Signal::STOP);
    tmux.wait("a suspended process", |_| procref.is_suspended());
    tmux.wait_shown("Stopped");
    tmux.run(&["send-keys", "-l", "fg; echo \"code\" $?"]);
    tmux.press("C-j");
    tmux.wait("a new screen", |screen| {
        screen.contains("q quit") && !screen.contains("Stopped")
    });
    for (signal, code) in [(Signal::TERM, "code 143"), (Signal::HUP, "code 129")] {
        let procref = tmux.foreground();
        procref.signal(signal);
        tmux.wait_shown(code);
        tmux.assert_restored();
        tmux.watch("1h");
    }
    tmux.press("q");
    tmux.wait_shown("code 0");
    tmux.assert_restored();
}

#[test]
fn screen_follows_the_size_of_the_terminal() {
    let sandbox = Sandbox::new();
    let tmux = Tmux::new(&sandbox);
    let name = "a service with a long name\u{1b}[31m";
    let holder = sandbox.hold(name, &sandbox.service(name));
    tmux.watch("1h");
    tmux.wait_shown("a service with a long name\\u{1b}[31m  ready");
    tmux.run(&["resize-window", "-x", "20", "-y", "5"]);
    tmux.wait("a narrow list", |screen| {
        let lines: Vec<&str> = screen.lines().collect();
        lines
            .iter()
            .any(|line| line.starts_with("> a service …  ready"))
            && screen.contains("q quit  l log")
    });
    tmux.run(&["resize-window", "-x", "2", "-y", "2"]);
    tmux.wait("a tiny screen", |screen| {
        screen.trim() == "…" || screen.contains("q…")
    });
    tmux.run(&["resize-window", "-x", "110", "-y", "20"]);
    tmux.wait_shown("a service with a long name\\u{1b}[31m  ready");
    holder.leave();
    tmux.wait_shown("no services");
    tmux.press("q");
    tmux.wait_shown("code 0");
    sandbox.assert_stopped(name, 1);
}
