//! A directory for one test, `procref` in it, and the roles that this program plays as a child process.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::windows::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit, id};
use std::sync::Once;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use procref::process::StopEvent;
use procref_testkit::process::{Key, Window, console_keys, press_ctrl};
use tempfile::TempDir;
use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

/// A time limit that no step of a test reaches.
pub const LONG: Duration = Duration::from_secs(90);

/// Names the file to which the service and the client append their events.
const EVENTS: &str = "TEST_EVENTS";

/// The text that the service prints when it listens.
const MESSAGE: &str = "TEST_MESSAGE";

/// Keeps the service from creating a stop event.
const NO_STOP_EVENT: &str = "TEST_NO_STOP_EVENT";

/// The named pipe that the service serves before it listens.
const PIPE: &str = "TEST_PIPE";

/// The arguments of `procref` on a terminal, one a line.
const TERMINAL_ARGS: &str = "TEST_TERMINAL_ARGS";

/// The key that the terminal role presses.
const KEY: &str = "TEST_KEY";

/// The client's exit code, or [`INTERRUPTED`].
const EXIT_CODE: &str = "TEST_EXIT_CODE";

/// The value of `TEST_EXIT_CODE` with which the client waits until it is interrupted.
pub const INTERRUPTED: &str = "interrupted";

/// A temporary directory with a working directory and a runtime directory.
pub struct Sandbox {
    root: TempDir,
}

/// Has a window for as long as this program runs.
///
/// Under Wine, the first program that uses the desktop starts a process for it, which has the output of that program open, and
/// sometimes does not exit after the last use of the desktop. If a `procref` of a test were that program, the output that the
/// test reads would not end.
fn use_desktop() {
    static BEGIN: Once = Once::new();
    BEGIN.call_once(|| {
        let (sender, created) = channel();
        thread::spawn(move || {
            let window = Window::create("procref-test").unwrap();
            sender.send(()).unwrap();
            // Each program that broadcasts a message waits until all windows have handled it.
            while window.wait_closed().is_ok() {}
        });
        created.recv().expect("a window");
    });
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
        use_desktop();
        let root = tempfile::Builder::new().prefix("procref-cli-").tempdir();
        let sandbox = Self {
            root: root.unwrap(),
        };
        fs::create_dir(sandbox.path("here")).unwrap();
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Returns a `procref` command with the working directory and the runtime directory of this sandbox.
    pub fn procref<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(procref());
        command
            .current_dir(self.path("here"))
            .env("PROCREF_RUNTIME_DIR", self.path("run"))
            .env("APPDATA", self.path("user"))
            .env(EVENTS, self.path("events"))
            .env_remove("RUST_LOG")
            .env_remove("PROCREF_CONFIG")
            .stdin(Stdio::null())
            .args(args);
        command
    }

    /// Runs `procref` and waits until it exits.
    pub fn run<const N: usize>(&self, args: [&str; N]) -> Finished {
        finish(self.procref(args).spawn_piped())
    }

    /// Returns a `procref run db` command that starts the service on a free port.
    pub fn run_db(&self) -> Command {
        let start = service_command();
        self.procref(["run", "db", "--start", &start, "--port", "auto"])
    }

    /// Runs `procref hold db`, which starts the service, and returns when the command has printed its line.
    pub fn hold(&self) -> Running {
        let start = service_command();
        let args = ["hold", "db", "--start", &start, "--port", "auto"];
        let mut holder = self.procref(args).spawn_piped();
        assert!(next_line(&mut holder).starts_with("db: "));
        holder
    }

    /// Runs `procref wait db --stopped` with a time limit, and asserts that it succeeds.
    ///
    /// The service may be gone before the command looks up its name, so an unknown name is allowed.
    #[track_caller]
    pub fn wait_stopped(&self) {
        let limit = ["--timeout", "60s"];
        let args = [
            "wait",
            "db",
            "--allow-unknown",
            "--stopped",
            limit[0],
            limit[1],
        ];
        let done = self.run(args);
        assert_eq!(done.code, Some(0), "{done:?}");
    }

    /// Returns a command that runs `procref` on a new console.
    ///
    /// The only key that is pressed there is `key`, when the test calls [`Running::press`].
    pub fn on_terminal(&self, key: Key, args: &[&str]) -> Command {
        let procref = self.procref([]);
        let mut terminal = Command::new(env::current_exe().unwrap());
        terminal
            .args(role_args(
                "sandbox::terminal_role_runs_when_spawned_by_a_test",
            ))
            .env(TERMINAL_ARGS, args.join("\n"))
            .env(KEY, if key == Key::C { "c" } else { "break" })
            .current_dir(self.path("here"))
            .stdin(Stdio::piped())
            .creation_flags(CREATE_NO_WINDOW);
        for (name, value) in procref.get_envs() {
            match value {
                Some(value) => terminal.env(name, value),
                None => terminal.env_remove(name),
            };
        }
        terminal
    }

    /// Returns the recorded events without the pids.
    pub fn events(&self) -> Vec<String> {
        let events = self.events_with_pids().into_iter();
        events.map(|(event, _)| event).collect()
    }

    /// Returns the recorded events, each with the pid of the process that recorded it.
    pub fn events_with_pids(&self) -> Vec<(String, u32)> {
        let text = fs::read_to_string(self.path("events")).unwrap_or_default();
        let lines = text.lines().map(|line| line.split_once(' ').unwrap());
        lines
            .map(|(event, pid)| (event.to_owned(), pid.parse().unwrap()))
            .collect()
    }
}

/// Returns the path of `procref`.
pub fn procref() -> PathBuf {
    // The path is absolute on the system of the compiler, which may be another system.
    std::path::absolute(env!("CARGO_BIN_EXE_procref")).unwrap()
}

/// A child process that is killed when its test ends.
pub struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("a child that was not waited for")
    }

    pub fn id(&self) -> u32 {
        let child = self.0.as_ref().expect("a child that was not waited for");
        child.id()
    }

    /// Presses the key that was passed to [`Sandbox::on_terminal`].
    pub fn press(&mut self) {
        let mut stdin = self.child().stdin.take().expect("a terminal");
        writeln!(stdin, "now").unwrap();
    }

    /// Kills the process, as a crash does, and waits until it has exited.
    pub fn kill(mut self) {
        let child = self.child();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // The process may have exited.
            let _ = child.kill();
        }
    }
}

pub trait SpawnPiped {
    /// Spawns the command with its output in pipes.
    fn spawn_piped(&mut self) -> Running;
}

impl SpawnPiped for Command {
    fn spawn_piped(&mut self) -> Running {
        self.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(Some(self.spawn().unwrap()))
    }
}

/// Waits until the process exits, and returns its exit code and its output.
pub fn finish(mut running: Running) -> Finished {
    let child = running.0.take().expect("a child that was not waited for");
    let pid = child.id();
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(LONG) else {
        // The thread still waits for this child, so the pid is not reused.
        procref::process::kill(pid);
        panic!("process {pid} has not exited within {LONG:?}");
    };
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Returns the next line that the process prints.
pub fn next_line(running: &mut Running) -> String {
    let child = running.child();
    let mut stdout = child.stdout.take().unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut line = Vec::new();
        let mut byte = [0];
        while stdout.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.extend(byte);
        }
        assert!(byte == *b"\n", "the output ended after {line:?}");
        sender.send((String::from_utf8(line).unwrap(), stdout))
    });
    let (line, stdout) = receiver.recv_timeout(LONG).expect("another line");
    child.stdout = Some(stdout);
    line
}

/// The arguments with which this program runs one role.
pub fn role_args(role: &str) -> [&str; 3] {
    ["--exact", role, "--nocapture"]
}

/// Returns a command line for `--start` that runs one role of this program.
pub fn role_command(role: &str) -> String {
    let program = env::current_exe().unwrap();
    let args = role_args(role).join(" ");
    format!("\"{}\" {args}", program.display())
}

pub fn service_command() -> String {
    role_command("sandbox::service_role_runs_when_spawned_by_a_test")
}

/// Returns the program and the arguments of the client.
pub fn client_command() -> [String; 4] {
    let program = env::current_exe().unwrap().into_os_string();
    let [exact, role, nocapture] = role_args("sandbox::client_role_runs_when_spawned_by_a_test");
    [
        program.into_string().unwrap(),
        exact.to_owned(),
        role.to_owned(),
        nocapture.to_owned(),
    ]
}

/// For `--env`: a service without a stop event.
pub fn no_stop_event() -> String {
    format!("{NO_STOP_EVENT}=yes")
}

/// For `--env`: a service that prints this text when it listens.
pub fn message(text: &str) -> String {
    format!("{MESSAGE}={text}")
}

/// For `--env`: a service that serves this named pipe before it listens.
pub fn pipe(pipe: &str) -> String {
    format!("{PIPE}={pipe}")
}

/// Sets the exit code of the client that the command runs.
pub fn with_exit_code(command: &mut Command, code: impl ToString) -> &mut Command {
    command.env(EXIT_CODE, code.to_string())
}

/// Appends an event and the pid of this process to the sandbox's list of events.
pub fn record_event(event: &str) {
    let path = env::var_os(EVENTS).unwrap();
    let mut events = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    events
        .write_all(format!("{event} {}\n", id()).as_bytes())
        .unwrap();
}

/// Returns the value of a variable, or `None` if it is unset or empty.
pub fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// A role, not a test: a service that answers every line with its pid.
#[test]
fn service_role_runs_when_spawned_by_a_test() {
    let Some(port) = variable("PORT").filter(|_| variable("PROCREF_PORT").is_none()) else {
        return;
    };
    record_event("started");
    if variable(NO_STOP_EVENT).is_none() {
        let stop = StopEvent::create().unwrap();
        thread::spawn(move || {
            stop.wait(Duration::MAX).unwrap();
            record_event("stopping");
            exit(0);
        });
    }
    let port: u16 = port.to_str().unwrap().parse().unwrap();
    if let Some(pipe) = variable(PIPE) {
        procref_testkit::process::serve_pipe(pipe.to_str().unwrap()).unwrap();
        record_event("connected");
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    if let Some(text) = variable(MESSAGE) {
        println!("{}", text.to_str().unwrap());
    }
    for stream in listener.incoming().flatten() {
        answer(stream);
    }
}

/// Answers a line with this process's pid. A readiness probe connects and sends nothing.
fn answer(mut stream: TcpStream) {
    let mut line = String::new();
    let read = BufReader::new(&stream).read_line(&mut line);
    if read.is_ok_and(|length| length > 0) {
        let _ = writeln!(stream, "{}", id());
    }
}

/// Returns the pid of the service that listens on this port.
pub fn query_pid(port: u16) -> std::io::Result<u32> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    writeln!(stream, "pid?")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().parse().unwrap())
}

/// A role, not a test: a client that queries the service and prints the answer.
#[test]
fn client_role_runs_when_spawned_by_a_test() {
    let Some(port) = variable("PROCREF_PORT") else {
        return;
    };
    if env::var(EXIT_CODE).is_ok_and(|code| code == INTERRUPTED) {
        ctrlc::set_handler(|| {
            record_event("interrupted");
            exit(9);
        })
        .unwrap();
        record_event("waiting");
        println!("\nlistens to the keyboard");
        thread::sleep(LONG);
        panic!("no key was pressed");
    }
    let pid = query_pid(port.to_str().unwrap().parse().unwrap()).unwrap();
    let name = env::var("PROCREF_NAME").unwrap();
    println!("\nanswer of {name}: {pid}");
    if let Ok(code) = env::var(EXIT_CODE) {
        exit(code.parse().unwrap());
    }
}

/// A role, not a test: a console without a window, on which this process runs `procref`.
#[test]
fn terminal_role_runs_when_spawned_by_a_test() {
    let Some(args) = variable(TERMINAL_ARGS) else {
        return;
    };
    let key = match env::var(KEY).unwrap().as_str() {
        "c" => Key::C,
        _ => Key::Break,
    };
    // Every process on the console receives the key. This process must survive it to report the exit code.
    let keys = console_keys().unwrap();
    let mut child = Command::new(procref())
        .args(args.to_str().unwrap().split('\n'))
        .env_remove(TERMINAL_ARGS)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    if std::io::stdin().read_line(&mut String::new()).unwrap() > 0 {
        press_ctrl(key).unwrap();
        assert_eq!(keys.recv_timeout(LONG), Ok(key));
    }
    let code = child.wait().unwrap().code().unwrap();
    assert_eq!(keys.try_recv().ok(), None, "no other key was pressed");
    exit(code);
}

/// Returns a path as an argument of a command.
pub fn arg(path: impl AsRef<OsStr>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

pub fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}
