//! Projects with a configuration, and the home and the runtime directory around them.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use procref_testkit::deadline;
use tempfile::TempDir;

use super::{OUTPUT_VARIABLES, PROCREF, is_kept_log, is_kernel_choice, output_text, stdout_of};

/// A temporary directory with a home, a runtime directory, and any number of projects.
///
/// Dropping it asserts that every service has stopped.
pub struct Workspace {
    root: TempDir,
}

impl Workspace {
    pub fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("procref-cli-")
            .tempdir()
            .expect("create a temporary directory");
        let workspace = Self { root };
        for dir in ["run", "home"] {
            fs::create_dir(workspace.path(dir)).expect("create a directory");
        }
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(workspace.path("run"), private).expect("chmod");
        workspace
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The runtime directory of services that are shared between projects.
    pub fn runtime_dir(&self) -> PathBuf {
        self.path("run/procref")
    }

    /// Creates a directory with this `procref.toml`.
    pub fn project(&self, name: &str, config: &str) -> Project<'_> {
        let dir = self.path(name);
        fs::create_dir_all(&dir).expect("create a directory");
        let project = Project {
            workspace: self,
            dir,
        };
        project.configure(config);
        project
    }

    /// Creates a directory without a `procref.toml`.
    pub fn empty_project(&self, name: &str) -> Project<'_> {
        let project = self.project(name, "");
        fs::remove_file(project.dir.join("procref.toml")).expect("remove procref.toml");
        project
    }

    /// Returns a `procref` command whose environment names no directory outside the workspace.
    pub fn procref(&self, dir: &Path) -> Command {
        let mut command = self.command(PROCREF);
        command.current_dir(dir);
        command
    }

    /// Returns a command whose environment names no directory outside the workspace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for variable in OUTPUT_VARIABLES {
            command.env_remove(variable);
        }
        command
            .env_remove("PROCREF_RUNTIME_DIR")
            .env_remove("PROCREF_CONFIG")
            .env_remove("XDG_CONFIG_HOME")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .stdin(Stdio::null());
        command
    }

    /// Writes the user's configuration file.
    pub fn configure_user(&self, config: &str) {
        let dir = self.path("home/.config/procref");
        fs::create_dir_all(&dir).expect("create a directory");
        fs::write(dir.join("config.toml"), config).expect("write config.toml");
    }

    /// Returns the records, logs and sockets in the runtime directories.
    ///
    /// The directories themselves and their links to projects stay there. The logs stay until the next start or `gc`.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let files = self.files().into_iter();
        files.filter(|path| !is_kept_log(path)).collect()
    }

    /// Returns the leftovers, and the logs that stay until the next start or `gc`.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.runtime_dir()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(entry.path()),
                    Ok(kind) if kind.is_symlink() && entry.file_name() == "project" => {}
                    Ok(_) if is_kernel_choice(&entry.path()) => {}
                    _ => found.push(entry.path()),
                }
            }
        }
        found
    }

    /// Waits until the runtime directories have no leftovers, which means that every service has stopped.
    #[track_caller]
    pub fn wait_no_leftovers(&self) {
        deadline::until_true("the runtime directories have no leftovers", || {
            self.leftovers().is_empty()
        });
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.wait_no_leftovers();
        // A supervisor has the lock until it has removed the kernel object.
        deadline::until_true("gc removes the logs", || {
            self.files().is_empty() || {
                let gc = self
                    .procref(self.root.path())
                    .args(["gc", "--all"])
                    .output();
                let _ = gc.expect("run gc");
                self.files().is_empty()
            }
        });
    }
}

/// A directory with a `procref.toml`.
pub struct Project<'a> {
    pub workspace: &'a Workspace,
    pub dir: PathBuf,
}

impl Project<'_> {
    pub fn configure(&self, config: &str) {
        fs::write(self.dir.join("procref.toml"), config).expect("write procref.toml");
    }

    pub fn procref(&self, args: &[&str]) -> Command {
        let mut command = self.workspace.procref(&self.dir);
        command.args(args);
        command
    }

    /// Runs a command that must succeed, and returns its standard output.
    #[track_caller]
    pub fn output(&self, args: &[&str]) -> String {
        stdout_of(&mut self.procref(args))
    }

    /// Runs a command that must fail, and returns its exit code and its standard error.
    #[track_caller]
    pub fn failure(&self, args: &[&str]) -> (i32, String) {
        let output = self.procref(args).output().expect("run procref");
        let (out, err) = output_text(&output);
        let code = output.status.code().expect("an exit code");
        assert_ne!(code, 0, "{args:?} should fail: {out}");
        (code, err)
    }

    /// Runs clients of `db` at the same time, and asserts that each of them succeeds.
    #[track_caller]
    pub fn run_together(&self, clients: impl Iterator<Item = Command>) {
        let spawned: Vec<Child> = clients
            .map(|mut client| {
                let client = client.stderr(Stdio::piped());
                client.spawn().expect("run procref")
            })
            .collect();
        for client in spawned {
            let output = client.wait_with_output().expect("wait for procref");
            assert!(output.status.success(), "{}", output_text(&output).1);
        }
    }

    /// Runs `script` in a client that then holds the service until [`Client::leave`] or [`Client::kill`].
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
        let mut printed = Vec::new();
        loop {
            let mut line = String::new();
            let length = lines.read_line(&mut line).expect("a line");
            assert_ne!(length, 0, "the client has exited after {printed:?}");
            match line.trim_end() {
                "held" => break,
                line => printed.push(line.to_owned()),
            }
        }
        Client {
            stdin: child.stdin.take(),
            child,
            printed,
            _lines: lines,
        }
    }
}

/// A client that holds a service.
pub struct Client {
    pub child: Child,
    /// The lines that the client's script has printed.
    pub printed: Vec<String>,
    stdin: Option<ChildStdin>,
    _lines: BufReader<ChildStdout>,
}

impl Client {
    /// Closes the client's input, and waits until the client exits.
    pub fn leave(mut self) {
        self.stdin = None;
        self.child.wait().expect("wait for the client");
    }

    pub fn kill(mut self) {
        self.child.kill().expect("kill the client");
        self.child.wait().expect("wait for the client");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A failed test must not leave the client behind either.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
