//! A runtime directory of a test's own, a service that tells what happens to it, and the look around when
//! the test is over.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use procref::SharedService;
use procref_testkit::observe::Identity;
use procref_testkit::{deadline, kernel};
use tempfile::TempDir;

pub const PROCREF: &str = env!("CARGO_BIN_EXE_procref");

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

pub struct Stage {
    root: TempDir,
    names: RefCell<BTreeSet<String>>,
}

/// What a command has come to.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Stage {
    pub fn new() -> Self {
        let prefix = "procref-cli-";
        let root = tempfile::Builder::new().prefix(prefix).tempdir();
        let stage = Self {
            root: root.expect("a temporary directory"),
            names: RefCell::default(),
        };
        for dir in ["run", "here"] {
            fs::create_dir(stage.path(dir)).expect("a directory");
        }
        stage
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn runtime_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// `procref` with nothing of this machine's in its environment. `name` is the service that it is
    /// about.
    pub fn procref(&self, name: &str) -> Command {
        self.names.borrow_mut().insert(name.to_owned());
        self.bare(PROCREF)
    }

    /// Another program in the same surroundings.
    pub fn bare(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for variable in [
            "PROCREF_CONFIG",
            "RUST_LOG",
            "NO_COLOR",
            "CLICOLOR_FORCE",
            "COLUMNS",
        ] {
            command.env_remove(variable);
        }
        command
            .current_dir(self.path("here"))
            .env("PROCREF_RUNTIME_DIR", self.runtime_dir())
            .env("HOME", self.path("here"))
            .env("XDG_CONFIG_HOME", self.path("here"))
            .stdin(Stdio::null());
        command
    }

    /// What a command about a service comes to.
    #[track_caller]
    pub fn done(&self, name: &str, args: &[&str]) -> Done {
        finish(self.procref(name).args(args))
    }

    /// What a command prints that succeeds.
    #[track_caller]
    pub fn out(&self, name: &str, args: &[&str]) -> String {
        let done = self.done(name, args);
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        done.out
    }

    #[track_caller]
    pub fn json(&self, name: &str, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.out(name, args)).expect("JSON")
    }

    /// The options for `run`, `hold` and `pin` that start the service: it tells its beginning and its end in
    /// [`history`](Self::history), and has a child that outlives it unless somebody sees to that.
    pub fn service(&self, name: &str) -> Vec<String> {
        self.service_that(name, ":")
    }

    /// The same, after some shell code.
    pub fn service_that(&self, name: &str, code: &str) -> Vec<String> {
        let log = self.history_path(name);
        let quoted = log.to_string_lossy();
        let script = format!(
            "{code}; echo \"start $$\" >>{quoted}; trap 'echo \"stop $$\" >>{quoted}; exit 0' TERM; \
             echo ready; while :; do sleep 3600 & wait $!; done"
        );
        let start = format!("sh -c '{}'", script.replace('\'', "'\\''"));
        ["--start", &start, "--ready", "log:^ready$"]
            .map(str::to_owned)
            .to_vec()
    }

    fn history_path(&self, name: &str) -> PathBuf {
        let plain: String = name
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(40)
            .collect();
        self.path(&format!("history-{plain}"))
    }

    /// What has happened to a service: `start PID`, `stop PID`.
    pub fn history(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.history_path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The process of the instance that was started last.
    #[track_caller]
    pub fn instance(&self, name: &str) -> Identity {
        let history = self.history(name);
        let started = history
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix("start "));
        let pid = started.expect("it was started").parse().expect("a pid");
        Identity::of(pid).unwrap_or_else(|| panic!("process {pid} of {name} lives"))
    }

    /// The process of an instance that a command has told of: `NAME: pid 12, …`.
    #[track_caller]
    pub fn instance_of(&self, line: &str) -> Identity {
        let pid = line
            .split("pid ")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        let pid = pid.and_then(|pid| pid.trim().parse().ok());
        let pid = pid.unwrap_or_else(|| panic!("{line:?} tells a pid"));
        Identity::of(pid).expect("it lives")
    }

    pub fn key(&self, name: &str) -> i32 {
        let service = SharedService::builder(name)
            .base_dir(self.runtime_dir())
            .build();
        kernel::parse_key(&service.expect("a service").kernel_object())
    }

    /// The service was stopped in an orderly way, once for each time it was started, and nothing is left.
    #[track_caller]
    pub fn ends(&self, name: &str, starts: usize) {
        self.all_is_gone();
        let history = self.history(name);
        let count = |what| history.iter().filter(|line| line.starts_with(what)).count();
        assert_eq!(
            (count("start"), count("stop")),
            (starts, starts),
            "{history:?}"
        );
    }

    #[track_caller]
    pub fn all_is_gone(&self) {
        let names = self.names.borrow();
        deadline::until_true("no set and no file is left", || {
            let sets = names
                .iter()
                .filter(|name| !name.is_empty() && name.len() < 256);
            let set = sets
                .map(|name| self.key(name))
                .any(|key| kernel::find(key).is_some());
            !set && self.files().is_empty()
        });
    }

    /// All files in the runtime directory.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.runtime_dir()).expect("the directory");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }

    /// Runs a client that holds the service until it is told to end, or is killed.
    #[track_caller]
    pub fn hold(&self, name: &str, options: &[String]) -> Holder {
        let mut command = self.procref(name);
        command.args(["run", name]).args(options);
        Holder::new(command.args(["--", "sh", "-c", "echo \"held $$\"; read -r line"]))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.all_is_gone();
            return;
        }
        // What the test has left behind, so that no other one meets it.
        let _ = self.bare(PROCREF).args(["gc"]).status();
    }
}

#[track_caller]
pub fn finish(command: &mut Command) -> Done {
    let output = command.output().expect("it is executed");
    Done {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A running program that is spoken to by lines.
pub struct Running {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Running {
    #[track_caller]
    pub fn new(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it is executed");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
        }
    }

    pub fn identity(&self) -> Identity {
        Identity::of(self.child.id()).expect("it lives")
    }

    #[track_caller]
    pub fn line(&self) -> String {
        let line = self.lines.recv_timeout(LONG);
        line.expect("a line comes before its end, and in time")
    }

    /// Lines until one has this in it.
    #[track_caller]
    pub fn line_with(&self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.write_all(text.as_bytes()).expect("it listens");
    }

    /// Ends its input, and waits for its end.
    #[track_caller]
    pub fn end(mut self) -> ExitStatus {
        self.stdin = None;
        self.child.wait().expect("it ends")
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its own child, not waited for: nobody else has its pid.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that holds a service.
pub struct Holder {
    pub running: Running,
    /// The client itself.
    pub client: Identity,
}

impl Holder {
    #[track_caller]
    pub fn new(command: &mut Command) -> Self {
        let running = Running::new(command);
        let line = running.line();
        let pid = line
            .strip_prefix("held ")
            .unwrap_or_else(|| panic!("it said {line:?}"));
        let client = Identity::of(pid.parse().expect("a pid")).expect("it lives");
        Self { running, client }
    }

    /// Lets it end in an orderly way.
    #[track_caller]
    pub fn leave(self) {
        let status = self.running.end();
        // `read` at the end of its input is what ends it.
        assert_eq!(status.code(), Some(1));
    }

    #[track_caller]
    pub fn kill(mut self) {
        self.client.kill();
        self.running.wait();
    }
}

/// The path as a text.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The words of a `procref` that starts a service of its own, for the shell.
pub fn shell_words(stage: &Stage, words: &[&str], name: &str) -> String {
    let service = stage.service(name);
    let words = words
        .iter()
        .copied()
        .chain(service.iter().map(String::as_str));
    shell_words::join([PROCREF].into_iter().chain(words))
}

/// A client with a child that ends at SIGTERM without its own child.
pub const LEAVES_ORPHANS: &str =
    "sh -c 'trap \"exit 0\" TERM; sleep 3600 & echo here; wait' & wait; echo no";
