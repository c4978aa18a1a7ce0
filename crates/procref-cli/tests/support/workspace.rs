//! A project with a configuration, and a machine's corner of its own around it.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use procref_testkit::deadline;
use procref_testkit::observe::Identity;
use tempfile::TempDir;

pub const PROCREF: &str = env!("CARGO_BIN_EXE_procref");

/// A home, a runtime directory, and any number of projects. When it is dropped, no service may be left.
pub struct Corner {
    root: TempDir,
}

impl Corner {
    pub fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("procref-cli-")
            .tempdir()
            .expect("a temporary directory");
        let corner = Self { root };
        for dir in ["run", "home"] {
            fs::create_dir(corner.path(dir)).expect("a directory");
        }
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(corner.path("run"), private).expect("a private directory");
        corner
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The common runtime directory.
    pub fn runtime_dir(&self) -> PathBuf {
        self.path("run/procref")
    }

    /// A directory with this `procref.toml`.
    pub fn project(&self, name: &str, config: &str) -> Project<'_> {
        let dir = self.path(name);
        fs::create_dir_all(&dir).expect("a directory");
        let project = Project { corner: self, dir };
        project.configure(config);
        project
    }

    /// `procref` with nothing of this machine's in its environment.
    pub fn procref(&self, dir: &Path) -> Command {
        let mut command = Command::new(PROCREF);
        command
            .current_dir(dir)
            .env_remove("PROCREF_RUNTIME_DIR")
            .env_remove("PROCREF_CONFIG")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("RUST_LOG")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .stdin(Stdio::null());
        command
    }

    /// The user's own configuration.
    pub fn configure_user(&self, config: &str) {
        let dir = self.path("home/.config/procref");
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("config.toml"), config).expect("a file");
    }

    /// Everything in runtime directories but the directories and their links: records, logs, sockets.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.runtime_dir()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(entry.path()),
                    Ok(kind) if kind.is_symlink() && entry.file_name() == "project" => {}
                    _ => found.push(entry.path()),
                }
            }
        }
        found
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            deadline::until_true("nothing to be left in the runtime directories", || {
                self.leftovers().is_empty()
            });
        }
    }
}

pub struct Project<'a> {
    pub corner: &'a Corner,
    pub dir: PathBuf,
}

impl Project<'_> {
    pub fn configure(&self, config: &str) {
        fs::write(self.dir.join("procref.toml"), config).expect("a file");
    }

    pub fn procref(&self, args: &[&str]) -> Command {
        let mut command = self.corner.procref(&self.dir);
        command.args(args);
        command
    }

    /// What a command prints that succeeds.
    #[track_caller]
    pub fn output(&self, args: &[&str]) -> String {
        let output = self.procref(args).output().expect("run procref");
        let (out, err) = texts(&output);
        assert!(
            output.status.success(),
            "{args:?}: {}\n{out}\n{err}",
            output.status
        );
        out
    }

    /// How a command fails: its exit code, and what it says.
    #[track_caller]
    pub fn failure(&self, args: &[&str]) -> (i32, String) {
        let output = self.procref(args).output().expect("run procref");
        let (out, err) = texts(&output);
        let code = output.status.code().expect("an exit code");
        assert_ne!(code, 0, "{args:?} should fail: {out}");
        (code, err)
    }

    /// Runs a client that holds a service until it is told to end, and prints what the script does first.
    #[track_caller]
    pub fn hold(&self, service: &str, script: &str) -> Client {
        let script = format!("{script}; echo held; read -r line");
        let mut child = self
            .procref(&["run", service, "--", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run procref");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            let length = lines.read_line(&mut line).expect("a line");
            assert_ne!(length, 0, "the client has ended, after {said:?}");
            match line.trim_end() {
                "held" => break,
                line => said.push(line.to_owned()),
            }
        }
        Client {
            orders: child.stdin.take(),
            child,
            said,
            _lines: lines,
        }
    }
}

/// A client that holds a service.
pub struct Client {
    pub child: Child,
    /// The lines that its script has printed.
    pub said: Vec<String>,
    orders: Option<ChildStdin>,
    _lines: BufReader<ChildStdout>,
}

impl Client {
    /// Lets go, and waits for its end.
    pub fn leave(mut self) {
        self.orders = None;
        self.child.wait().expect("wait");
    }

    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind, either.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The process that a client has printed the pid of.
#[track_caller]
pub fn process(pid: &str) -> Identity {
    Identity::of(pid.parse().expect("a pid")).expect("a process")
}

/// Whether a program is installed.
pub fn find_program(name: &str, more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(more.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|file| file.is_file())
}
