//! A runtime directory for one test, a service that records its starts and stops, and a check for leftovers.

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

use super::{
    OUTPUT_VARIABLES, PROCREF, is_kept_log, is_kernel_choice, live_process, output_text, path_text,
};

/// A time limit that no step of a test reaches.
const LONG: Duration = Duration::from_secs(60);

/// The script of a client that holds its service until its input ends or has a line.
pub const HOLD: &str = "echo held; read -r line";

/// Shell code of a service with a child: prints `ready`, and waits for signals.
///
/// The child executes `sleep` before `ready` is printed. A child that the shell has only forked may lose a `SIGTERM`,
/// because it still has the handler of the shell.
pub const SERVE: &str = "sleep 3600 & until grep -q sleep /proc/$!/comm; do :; done; \
                         echo ready; while :; do wait; done";

/// A temporary directory with a working directory and a runtime directory.
///
/// Dropping it asserts that every service has stopped.
pub struct Sandbox {
    root: TempDir,
    names: RefCell<BTreeSet<String>>,
}

/// The exit code and the output of a command.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Sandbox {
    pub fn new() -> Self {
        let prefix = "procref-cli-";
        let root = tempfile::Builder::new().prefix(prefix).tempdir();
        let sandbox = Self {
            root: root.expect("create a temporary directory"),
            names: RefCell::default(),
        };
        for dir in ["run", "here"] {
            fs::create_dir(sandbox.path(dir)).expect("create a directory");
        }
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn runtime_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// Adds a service to those that the sandbox checks at its end.
    pub fn register(&self, name: &str) {
        self.names.borrow_mut().insert(name.to_owned());
    }

    /// Returns a `procref` command about the service `name`.
    pub fn procref(&self, name: &str) -> Command {
        self.register(name);
        self.command(PROCREF)
    }

    /// Returns a `procref` command that does not ignore SIGINT and SIGQUIT, even if the test does.
    ///
    /// A script starts its background processes with both signals ignored, and children inherit that.
    pub fn interruptible_procref(&self, name: &str) -> Command {
        self.register(name);
        let mut command = self.command("env");
        command.arg("--default-signal=INT,QUIT").arg(PROCREF);
        command
    }

    /// Returns a command whose environment names no directory outside the sandbox.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for variable in OUTPUT_VARIABLES {
            command.env_remove(variable);
        }
        command
            .env_remove("PROCREF_CONFIG")
            .current_dir(self.path("here"))
            .env("PROCREF_RUNTIME_DIR", self.runtime_dir())
            .env("HOME", self.path("here"))
            .env("XDG_CONFIG_HOME", self.path("here"))
            .stdin(Stdio::null());
        command
    }

    /// Runs `procref` and waits until it exits.
    #[track_caller]
    pub fn run(&self, name: &str, args: &[&str]) -> Finished {
        finish(self.procref(name).args(args))
    }

    /// Runs a command that must succeed, and returns its standard output.
    #[track_caller]
    pub fn stdout(&self, name: &str, args: &[&str]) -> String {
        let done = self.run(name, args);
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        done.out
    }

    #[track_caller]
    pub fn json(&self, name: &str, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.stdout(name, args)).expect("JSON")
    }

    /// Returns the options of `run`, `hold` and `pin` that start the service.
    ///
    /// The service records its start and its stop in [`history`](Self::history). It has a child that outlives it
    /// unless the supervisor stops the child.
    pub fn service(&self, name: &str) -> Vec<String> {
        self.service_after(name, ":")
    }

    /// Returns the options of [`service`](Self::service) with shell code that runs before the start is recorded.
    pub fn service_after(&self, name: &str, code: &str) -> Vec<String> {
        let log = self.history_path(name);
        let quoted = log.to_string_lossy();
        let script = format!(
            "{code}; echo \"start $$\" >>{quoted}; trap 'echo \"stop $$\" >>{quoted}; exit 0' TERM; \
             {SERVE}"
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

    /// Returns the recorded starts and stops of a service, as `start PID` and `stop PID`.
    pub fn history(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.history_path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Returns the process of the instance that was started last.
    #[track_caller]
    pub fn instance(&self, name: &str) -> Identity {
        let history = self.history(name);
        let started = history
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix("start "));
        live_process(started.expect("a recorded start"))
    }

    /// Returns the process in a line that a command has printed: `NAME: pid 12, …`.
    #[track_caller]
    pub fn instance_in(&self, line: &str) -> Identity {
        let pid = line
            .split("pid ")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        live_process(pid.unwrap_or_else(|| panic!("{line:?} has no pid")))
    }

    /// Returns the process of the service's supervisor.
    #[track_caller]
    pub fn supervisor(&self, name: &str) -> Identity {
        deadline::until("the service has a supervisor", || {
            let done = self.run(name, &["status", name, "--json"]);
            let status: serde_json::Value = serde_json::from_str(&done.out).unwrap_or_default();
            let pid = u32::try_from(status["supervisor"].as_u64()?).ok()?;
            Identity::of(pid)
        })
    }

    pub fn key(&self, name: &str) -> i32 {
        let service = SharedService::builder(name)
            .base_dir(self.runtime_dir())
            .build();
        kernel::parse_key(&service.expect("a service").kernel_object())
    }

    /// Asserts that nothing is left, and that each of the `starts` was followed by a graceful stop.
    #[track_caller]
    pub fn assert_stopped(&self, name: &str, starts: usize) {
        self.assert_nothing_left();
        let history = self.history(name);
        let count = |event| {
            history
                .iter()
                .filter(|line| line.starts_with(event))
                .count()
        };
        assert_eq!(
            (count("start"), count("stop")),
            (starts, starts),
            "{history:?}"
        );
    }

    /// Waits until no semaphore set and no file of the services is left.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let names = self.names.borrow();
        deadline::until_true("no semaphore set and no file is left", || {
            let sets = names
                .iter()
                .filter(|name| !name.is_empty() && name.len() < 256);
            let set = sets
                .map(|name| self.key(name))
                .any(|key| kernel::find(key).is_some());
            !set && self.files().is_empty()
        });
    }

    /// Returns all files in the runtime directory, except the logs that stay until the next start or `gc`, and the choice
    /// of the kernel.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.runtime_dir()).expect("list the runtime directory");
        entries
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| !is_kept_log(path) && !is_kernel_choice(path))
            .collect()
    }

    /// Returns the path of the log that stays after the service has stopped.
    pub fn kept_log(&self, name: &str) -> PathBuf {
        let service = SharedService::builder(name)
            .base_dir(self.runtime_dir())
            .build();
        service.expect("a service").kept_log()
    }

    /// Starts `procref run NAME` with these options and a script as its client.
    #[track_caller]
    pub fn run_client(&self, name: &str, options: &[String], script: &str) -> Running {
        let mut command = self.procref(name);
        command.args(["run", name]).args(options);
        Running::new(command.args(["--", "sh", "-c", script]))
    }

    /// Runs a client that holds the service until [`Holder::leave`] or [`Holder::kill`].
    #[track_caller]
    pub fn hold(&self, name: &str, options: &[String]) -> Holder {
        Holder::new(self.run_client(name, options, PRINT_PID_AND_HOLD))
    }

    /// Starts the service and pins it.
    #[track_caller]
    pub fn pin(&self, name: &str, options: &[String]) {
        let mut command = self.procref(name);
        let done = finish(command.args(["pin", name]).args(options));
        assert_eq!(done.code, Some(0), "{done:?}");
    }

    /// Waits until the service has stopped.
    ///
    /// The service may be gone before the command looks up its name, so an unknown name is allowed.
    #[track_caller]
    pub fn wait_stopped(&self, name: &str) {
        let wait = ["wait", name, "--allow-unknown", "--stopped"];
        self.stdout(name, &[&wait[..], &["--timeout", "60s"]].concat());
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.assert_nothing_left();
            let names = self.names.borrow().clone();
            let names = names.iter().filter(|it| !it.is_empty() && it.len() < 256);
            let logs: Vec<PathBuf> = names.map(|name| self.kept_log(name)).collect();
            if logs.iter().any(|log| log.exists()) {
                let _ = finish(self.command(PROCREF).args(["--no-config", "gc"]));
            }
            let left: Vec<_> = logs.iter().filter(|log| log.exists()).collect();
            assert!(left.is_empty(), "gc removes the logs: {left:?}");
            return;
        }
        // A failed test must not leave services to other tests.
        let _ = self.command(PROCREF).args(["gc"]).status();
    }
}

/// Waits until a command exits, and returns its exit code and its output.
#[track_caller]
pub fn finish(command: &mut Command) -> Finished {
    let output = command.output().expect("run the command");
    let (out, err) = output_text(&output);
    Finished {
        code: output.status.code(),
        out,
        err,
    }
}

/// A running program with its input and its output in pipes.
pub struct Running {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Running {
    #[track_caller]
    pub fn new(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("run the command");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
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

    #[track_caller]
    pub fn identity(&self) -> Identity {
        Identity::of(self.child.id()).expect("the program is alive")
    }

    /// Returns the next line that the program prints.
    #[track_caller]
    pub fn line(&self) -> String {
        let line = self.lines.recv_timeout(LONG);
        line.expect("a line before the program exits, and within the time limit")
    }

    /// Reads lines until one of them contains this text.
    #[track_caller]
    pub fn line_containing(&self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Returns the process whose pid the program prints next.
    #[track_caller]
    pub fn process_in_line(&self) -> Identity {
        live_process(&self.line())
    }

    /// Writes text to the program's input.
    pub fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("an open input");
        stdin
            .write_all(text.as_bytes())
            .expect("write to the program");
    }

    /// Sends a line to a client that waits for one, and asserts that the client succeeds.
    #[track_caller]
    pub fn release(mut self) {
        self.send("end\n");
        assert_eq!(self.wait().code(), Some(0));
    }

    /// Closes the program's input, and waits until the program exits.
    #[track_caller]
    pub fn close_stdin_and_wait(mut self) -> ExitStatus {
        self.stdin = None;
        self.child.wait().expect("wait for the program")
    }

    /// Waits until the program exits.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("wait for the program")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The child has not been waited for, so no other process has its pid.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A script that prints its pid, and holds the service until its input ends.
pub const PRINT_PID_AND_HOLD: &str = "echo \"held $$\"; read -r line";

/// A client that holds a service.
pub struct Holder {
    /// `procref run`. Without `--watch-client` it is the client itself.
    pub running: Running,
    /// The process that runs [`PRINT_PID_AND_HOLD`].
    pub client: Identity,
}

impl Holder {
    #[track_caller]
    pub fn new(running: Running) -> Self {
        let line = running.line();
        let pid = line
            .strip_prefix("held ")
            .unwrap_or_else(|| panic!("the client printed {line:?}"));
        let client = live_process(pid);
        Self { running, client }
    }

    /// Closes the client's input, and waits until the client exits.
    #[track_caller]
    pub fn leave(self) {
        let status = self.running.close_stdin_and_wait();
        // `read` fails at the end of its input.
        assert_eq!(status.code(), Some(1));
    }

    #[track_caller]
    pub fn kill(mut self) {
        self.client.kill();
        self.running.wait();
    }
}

/// Returns the command line of a `procref` that starts the service `name`, quoted for a shell.
pub fn shell_command(sandbox: &Sandbox, args: &[&str], name: &str) -> String {
    let service = sandbox.service(name);
    let args = args
        .iter()
        .copied()
        .chain(service.iter().map(String::as_str));
    shell_words::join([PROCREF].into_iter().chain(args))
}

/// A script with a child that exits at `SIGTERM` and leaves another child.
pub const LEAVES_ORPHANS: &str =
    "sh -c 'trap \"exit 0\" TERM; sleep 3600 & echo here; wait' & wait; echo no";

/// Returns shell code that waits until the gate is opened.
pub fn wait_at_gate(gate: &Path) -> String {
    format!("read x <{}", path_text(gate))
}
