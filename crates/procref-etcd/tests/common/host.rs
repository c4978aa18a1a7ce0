//! Hosts with links, on one machine: each has its own runtime directory and identity.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use procref::{SharedService, State};
use rustix::process::{Pid, Signal, kill_process};

use super::netns::within;

/// Longer than any step of a test takes.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A service that writes its start and its stop to a file, with its fencing token and the time. The child of the shell
/// outlives it.
pub const SERVICE: &str = r#"
note() { echo "$1 $PROCREF_FENCE $(date +%s%N)" >>"$LOG"; }
trap 'note stop; exit' TERM
note start
sleep 1000 &
while :; do wait; done
"#;

/// A service that ignores its stop signal. The time of its end is that of its last beat.
pub const STUBBORN: &str = r#"
note() { echo "$1 $PROCREF_FENCE $(date +%s%N)" >>"$LOG"; }
trap '' TERM
note start
while :; do note beat; sleep 0.02; done
"#;

/// A service that writes to the file all the time, and needs a moment to stop.
pub const WRITER: &str = r#"
note() { echo "$1 $PROCREF_FENCE $(date +%s%N)" >>"$LOG"; }
trap 'note stop; exit' TERM
note start
while :; do note beat; sleep 0.05; done
"#;

/// Writes a `procref.toml` with the service `db`, which only the host `at` runs.
pub fn describe(file: &std::path::Path, url: &str, at: &str, script: &str) {
    let text = format!(
        "[services.db]\nshared = true\ncluster = '{url}'\nat = '{at}'\nready = 'started'\ngrace = '500ms'\n\
         start = ['sh', '-c', '''{script}''']\n"
    );
    std::fs::write(file, text).unwrap();
}

/// A host: a runtime directory, and the log of the services of all hosts.
pub struct Host {
    pub name: String,
    /// The network namespace. `None` for that of the test.
    space: Option<String>,
    dir: tempfile::TempDir,
    log: PathBuf,
}

impl Host {
    pub fn new(name: &str, log: &std::path::Path) -> Self {
        Self::in_space(name, None, log)
    }

    /// Returns a host whose links run in this network namespace.
    pub fn in_space(name: &str, space: Option<String>, log: &std::path::Path) -> Self {
        Self {
            name: name.to_owned(),
            space,
            dir: tempfile::tempdir().unwrap(),
            log: log.to_owned(),
        }
    }

    /// Returns the command of a link, with these options.
    pub fn command(&self, url: &str, options: &[&str], script: &str) -> Command {
        let mut command = program_in(self.space.as_deref());
        command
            .args(["link", "--cluster", url, "--host", &self.name])
            .args(["--advertise", &format!("{}.example:7", self.name)])
            .args(["--ready", "started", "--grace", "500ms"])
            .arg("--runtime-dir")
            .arg(self.dir.path())
            .args(options)
            .args(["--", "db", "sh", "-c", script])
            .env("LOG", &self.log)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn start(&self, url: &str, options: &[&str], script: &str) -> Running {
        Running::new(self.command(url, options, script).spawn().unwrap())
    }

    /// Starts `procref-etcd serve` with this file.
    pub fn serve(&self, file: &std::path::Path) -> Running {
        let mut command = program_in(self.space.as_deref());
        command
            .args(["serve", "db", "--config"])
            .arg(file)
            .arg("--runtime-dir")
            .arg(self.dir.path())
            .env("PROCREF_CLUSTER_HOST", &self.name)
            .env("LOG", &self.log)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running::new(command.spawn().unwrap())
    }

    pub fn service(&self, name: &str) -> SharedService {
        let service = SharedService::builder(name)
            .base_dir(self.dir.path())
            .build();
        service.unwrap()
    }

    /// Waits until the local service has no process and no kernel object.
    pub fn wait_stopped(&self) {
        let service = self.service("db@instance");
        assert!(
            service.wait_stopped_blocking(LIMIT).unwrap(),
            "the service of {} lives",
            self.name
        );
        assert_eq!(service.status().unwrap().state(), State::Absent);
    }
}

/// A link that runs.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn new(mut child: Child) -> Self {
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let _ = stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line));
        });
        Self { child, lines }
    }

    /// Returns the values of the line `ready:`. Returns `None` if the link exits before.
    pub fn ready(&mut self) -> Option<Ready> {
        let line = self.lines.recv_timeout(LIMIT).ok()?;
        let value = |name: &str| {
            let (_, rest) = line
                .split_once(&format!(" {name}="))
                .unwrap_or_else(|| panic!("{line}"));
            rest.split(' ').next().unwrap().to_owned()
        };
        Some(Ready {
            address: value("address"),
            fence: value("fence").parse().unwrap(),
            host: value("host"),
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the link has exited. Returns its standard error, too.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < LIMIT, "the link does not exit");
            thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait().unwrap();
        let mut text = String::new();
        // The fuse has the same standard error, and exits after the service is dead.
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        (status, text)
    }

    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let (status, text) = self.wait();
        assert_eq!(status.code(), Some(0), "{text}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that has failed leaves the rest to the supervisor and to the fuse.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a link reports when it is ready.
#[derive(Debug, PartialEq, Eq)]
pub struct Ready {
    pub address: String,
    pub fence: i64,
    pub host: String,
}

/// An entry of the log that the services write.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub what: String,
    pub fence: i64,
    pub time: u128,
}

pub fn entries(log: &std::path::Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let entries = text.lines().map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        let [what, fence, time] = words[..] else {
            panic!("{line}")
        };
        Entry {
            what: what.to_owned(),
            fence: fence.parse().unwrap(),
            time: time.parse().unwrap(),
        }
    });
    entries.collect()
}

/// Returns the program with these arguments.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = program_in(None);
    command.args(arguments);
    command
}

fn program_in(space: Option<&str>) -> Command {
    let mut command = within(space, env!("CARGO_BIN_EXE_procref-etcd"));
    command.env_remove("PROCREF_CLUSTER").stdin(Stdio::null());
    command
}

/// Returns the children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}
