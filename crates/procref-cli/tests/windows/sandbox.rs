//! A directory of a test's own, `procref` in it, and the parts that this very program plays for it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::windows::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit, id};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use procref::process::StopEvent;
use procref_testkit::process::{Key, console_keys, press_ctrl};
use tempfile::TempDir;
use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

/// Longer than anything takes.
pub const LONG: Duration = Duration::from_secs(90);

/// Names the file where the service writes down its life.
const LIFE: &str = "TEST_LIFE";

/// What the service is to say of itself, before it listens.
const WORDS: &str = "TEST_WORDS";

/// Keeps the service from listening to whoever asks it to stop.
const DEAF: &str = "TEST_DEAF";

/// The named pipe that it makes before it listens.
const PIPE: &str = "TEST_PIPE";

/// The words after `procref` on a terminal, a line each.
const TERMINAL: &str = "TEST_TERMINAL";

/// The key that is typed there.
const KEY: &str = "TEST_KEY";

/// How the client is to end.
const CODE: &str = "TEST_CODE";

/// Not before it was interrupted.
pub const INTERRUPTED: &str = "interrupted";

pub struct Stage {
    root: TempDir,
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
        let root = tempfile::Builder::new().prefix("procref-cli-").tempdir();
        let stage = Self {
            root: root.unwrap(),
        };
        fs::create_dir(stage.path("here")).unwrap();
        stage
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// `procref`, in a working directory and with a runtime directory of this test's own.
    pub fn procref<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(procref());
        command
            .current_dir(self.path("here"))
            .env("PROCREF_RUNTIME_DIR", self.path("run"))
            .env("APPDATA", self.path("user"))
            .env(LIFE, self.path("life"))
            .env_remove("RUST_LOG")
            .env_remove("PROCREF_CONFIG")
            .stdin(Stdio::null())
            .args(args);
        command
    }

    /// Runs it to its end.
    pub fn done<const N: usize>(&self, args: [&str; N]) -> Done {
        finish(self.procref(args).piped())
    }

    /// `procref` on a terminal of its own, where this key is typed when [`Running::press`] says so, and no other.
    pub fn on_terminal(&self, key: Key, args: &[&str]) -> Command {
        let alone = self.procref([]);
        let mut terminal = Command::new(env::current_exe().unwrap());
        terminal
            .args([
                "--exact",
                "sandbox::terminal_role_runs_when_spawned_by_a_test",
                "--nocapture",
            ])
            .env(TERMINAL, args.join("\n"))
            .env(KEY, if key == Key::C { "c" } else { "break" })
            .current_dir(self.path("here"))
            .stdin(Stdio::piped())
            .creation_flags(CREATE_NO_WINDOW);
        for (name, value) in alone.get_envs() {
            match value {
                Some(value) => terminal.env(name, value),
                None => terminal.env_remove(name),
            };
        }
        terminal
    }

    /// What the service has written down, without the pids.
    pub fn life(&self) -> Vec<String> {
        self.lives().into_iter().map(|(word, _)| word).collect()
    }

    /// What the service has written down, and who that was.
    pub fn lives(&self) -> Vec<(String, u32)> {
        let text = fs::read_to_string(self.path("life")).unwrap_or_default();
        let lines = text.lines().map(|line| line.split_once(' ').unwrap());
        lines
            .map(|(word, pid)| (word.to_owned(), pid.parse().unwrap()))
            .collect()
    }
}

pub fn procref() -> PathBuf {
    // The compiler may have run on another system.
    std::path::absolute(env!("CARGO_BIN_EXE_procref")).unwrap()
}

/// A process that does not outlive its test, whatever becomes of that.
pub struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it was not waited for")
    }

    pub fn id(&self) -> u32 {
        self.0.as_ref().expect("it was not waited for").id()
    }

    /// Types the key that [`Stage::on_terminal`] was told.
    pub fn press(&mut self) {
        let mut stdin = self.child().stdin.take().expect("a terminal");
        writeln!(stdin, "now").unwrap();
    }

    /// Ends it as a crash would.
    pub fn crash(mut self) {
        let child = self.child();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended.
            let _ = child.kill();
        }
    }
}

pub trait Piped {
    fn piped(&mut self) -> Running;
}

impl Piped for Command {
    fn piped(&mut self) -> Running {
        self.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(Some(self.spawn().unwrap()))
    }
}

/// Waits for its end, and reads what it has said.
pub fn finish(mut running: Running) -> Done {
    let child = running.0.take().expect("it was not waited for");
    let pid = child.id();
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(LONG) else {
        // It is a child of this process, and has not ended.
        procref::process::kill(pid);
        panic!("process {pid} has not ended in {LONG:?}");
    };
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// The next line that it says.
pub fn line(running: &mut Running) -> String {
    let child = running.child();
    let mut stdout = child.stdout.take().unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut line = Vec::new();
        let mut byte = [0];
        while stdout.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.extend(byte);
        }
        assert!(byte == *b"\n", "it ended after {line:?}");
        sender.send((String::from_utf8(line).unwrap(), stdout))
    });
    let (line, stdout) = receiver.recv_timeout(LONG).expect("another line");
    child.stdout = Some(stdout);
    line
}

/// A command line as a person writes it, for one of the parts below.
fn part(name: &str) -> String {
    let own = env::current_exe().unwrap();
    format!("\"{}\" --exact stage::{name} --nocapture", own.display())
}

pub fn service() -> String {
    part("service_role_runs_when_spawned_by_a_test")
}

/// The words that run the client.
pub fn client() -> [String; 4] {
    let own = env::current_exe().unwrap().into_os_string();
    let own = own.into_string().unwrap();
    [
        own,
        "--exact".into(),
        "sandbox::client_role_runs_when_spawned_by_a_test".into(),
        "--nocapture".into(),
    ]
}

pub fn deaf() -> String {
    format!("{DEAF}=yes")
}

pub fn words(words: &str) -> String {
    format!("{WORDS}={words}")
}

pub fn pipe(pipe: &str) -> String {
    format!("{PIPE}={pipe}")
}

/// For the environment of a command that runs the client.
pub fn ending_with(command: &mut Command, code: impl ToString) -> &mut Command {
    command.env(CODE, code.to_string())
}

pub fn write_down(word: &str) {
    let path = env::var_os(LIFE).unwrap();
    let mut life = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    life.write_all(format!("{word} {}\n", id()).as_bytes())
        .unwrap();
}

pub fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Not a test by itself: a service that answers every line with its pid.
#[test]
fn service_role_runs_when_spawned_by_a_test() {
    let Some(port) = variable("PORT").filter(|_| variable("PROCREF_PORT").is_none()) else {
        return;
    };
    write_down("started");
    if variable(DEAF).is_none() {
        let asked = StopEvent::create().unwrap();
        thread::spawn(move || {
            asked.wait(Duration::MAX).unwrap();
            write_down("asked");
            exit(0);
        });
    }
    let port: u16 = port.to_str().unwrap().parse().unwrap();
    if let Some(pipe) = variable(PIPE) {
        procref_testkit::process::serve_pipe(pipe.to_str().unwrap()).unwrap();
        write_down("connected");
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    if let Some(words) = variable(WORDS) {
        println!("{}", words.to_str().unwrap());
    }
    for stream in listener.incoming().flatten() {
        answer(stream);
    }
}

/// Whoever looks whether it is ready says nothing.
fn answer(mut stream: TcpStream) {
    let mut line = String::new();
    let read = BufReader::new(&stream).read_line(&mut line);
    if read.is_ok_and(|length| length > 0) {
        let _ = writeln!(stream, "{}", id());
    }
}

/// The pid of whoever listens there.
pub fn ask(port: u16) -> std::io::Result<u32> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    writeln!(stream, "who?")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().parse().unwrap())
}

/// Not a test by itself: a client that asks the service, and says what it was told.
#[test]
fn client_role_runs_when_spawned_by_a_test() {
    let Some(port) = variable("PROCREF_PORT") else {
        return;
    };
    if env::var(CODE).is_ok_and(|code| code == INTERRUPTED) {
        ctrlc::set_handler(|| {
            write_down("interrupted");
            exit(9);
        })
        .unwrap();
        write_down("waits");
        println!("\nlistens to the keyboard");
        thread::sleep(LONG);
        panic!("nobody has pressed a key");
    }
    let pid = ask(port.to_str().unwrap().parse().unwrap()).unwrap();
    let name = env::var("PROCREF_NAME").unwrap();
    println!("\nanswer of {name}: {pid}");
    if let Ok(code) = env::var(CODE) {
        exit(code.parse().unwrap());
    }
}

/// Not a test by itself: a console without a window, with `procref` on it.
#[test]
fn terminal_role_runs_when_spawned_by_a_test() {
    let Some(args) = variable(TERMINAL) else {
        return;
    };
    let key = match env::var(KEY).unwrap().as_str() {
        "c" => Key::C,
        _ => Key::Break,
    };
    // It is typed for everybody on it, and this process is to see what comes of it.
    let heard = console_keys().unwrap();
    let mut child = Command::new(procref())
        .args(args.to_str().unwrap().split('\n'))
        .env_remove(TERMINAL)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    if std::io::stdin().read_line(&mut String::new()).unwrap() > 0 {
        press_ctrl(key).unwrap();
        assert_eq!(heard.recv_timeout(LONG), Ok(key));
    }
    let code = child.wait().unwrap().code().unwrap();
    assert_eq!(heard.try_recv().ok(), None, "nobody has typed that");
    exit(code);
}

/// A word on the command line.
pub fn arg(path: impl AsRef<OsStr>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

pub fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}
