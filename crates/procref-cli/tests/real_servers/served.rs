//! Starts, uses and stops the service of a recipe, and judges the result from outside.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use procref_testkit::deadline;
use procref_testkit::observe::Identity;

use crate::support::{PROCREF, is_kept_log, live_process, workspace::Workspace};

/// A project with the service of one recipe, which lingers only for a moment.
pub struct Recipe {
    pub name: &'static str,
    pub workspace: Workspace,
    pub dir: PathBuf,
    /// Directories that are put before `PATH`.
    pub path: Vec<PathBuf>,
    /// Variables of the clients, and so of the service.
    pub env: Vec<(&'static str, PathBuf)>,
}

impl Recipe {
    pub fn new(name: &'static str) -> Self {
        let workspace = Workspace::new();
        // As root, some servers run as another user, which must reach its data.
        let reachable = fs::Permissions::from_mode(0o711);
        fs::set_permissions(workspace.path(""), reachable).expect("change the mode");
        let project = workspace.empty_project("app");
        project.output(&["init", "--recipe", name]);
        let dir = project.dir.clone();
        let temporary = workspace.path("tmp");
        fs::create_dir(&temporary).expect("create a directory");
        // Any user may be the service's.
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777)).expect("chmod");
        let recipe = Self {
            name,
            workspace,
            dir,
            path: Vec::new(),
            // Browsers leave files there if they are killed.
            env: vec![("TMPDIR", temporary)],
        };
        recipe.edit(|text| {
            let lines = text
                .lines()
                .map(|line| match line.strip_prefix("linger = ") {
                    Some(_) => "linger = \"200ms\"\n".to_owned(),
                    None => format!("{line}\n"),
                });
            lines.collect()
        });
        recipe
    }

    /// Changes the project's `procref.toml`.
    pub fn edit(&self, change: impl FnOnce(&str) -> String) {
        let file = self.dir.join("procref.toml");
        let text = fs::read_to_string(&file).expect("read procref.toml");
        let changed = change(&text);
        assert_ne!(changed, text, "the recipe has no such text: {text}");
        fs::write(file, changed).expect("write procref.toml");
    }

    pub fn write(&self, name: &str, content: &str) {
        let file = self.dir.join(name);
        fs::create_dir_all(file.parent().expect("a parent")).expect("create a directory");
        fs::write(file, content).expect("write a file");
    }

    /// Makes a directory that `scripts/recipe-programs.sh` has filled a part of the project.
    pub fn link_programs(&self, name: &str) {
        // The program under test is `TARGET/debug/procref`.
        let target = Path::new(PROCREF).ancestors().nth(2).expect("a directory");
        let programs = target.join("recipes").join(name);
        let shown = programs.display();
        assert!(
            programs.exists(),
            "{shown} is missing: run scripts/recipe-programs.sh"
        );
        std::os::unix::fs::symlink(&programs, self.dir.join(name)).expect("create a link");
    }

    /// Runs a script by bash in a client that then holds the service.
    #[track_caller]
    pub fn hold(&self, script: &str) -> Held {
        let script = format!("echo \"$PROCREF_PID\"; {script}\necho held; read -r line");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = self
            .path
            .iter()
            .cloned()
            .chain(std::env::split_paths(&path));
        let path: OsString = std::env::join_paths(dirs).expect("a path");
        let mut command = self.workspace.procref(&self.dir);
        command.args(["run", self.name, "--", "bash", "-c", &script]);
        command.env("PATH", path).envs(self.env.iter().cloned());
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.expect("run procref");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut printed = String::new();
        while !printed.ends_with("held\n") {
            let length = lines.read_line(&mut printed).expect("a line");
            assert_ne!(length, 0, "the client has exited after {printed:?}");
        }
        let (pid, printed) = printed.split_once('\n').expect("a line with the pid");
        let service = live_process(pid);
        assert!(
            processes_of(&self.workspace).contains(&service),
            "the search for processes does not find the service"
        );
        Held {
            service,
            printed: printed.strip_suffix("held\n").expect("the end").to_owned(),
            stdin: child.stdin.take(),
            child,
            _lines: lines,
        }
    }

    /// Waits until no process of the service or its clients is left, and returns the log of the last run.
    #[track_caller]
    pub fn wait_stopped(&self) -> String {
        deadline::until_true("all processes have exited", || {
            processes_of(&self.workspace).is_empty()
        });
        self.workspace.wait_no_leftovers();
        let files = self.workspace.files().into_iter();
        let logs = files.filter(|file| is_kept_log(file));
        logs.map(|log| fs::read(log).expect("read a log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .collect()
    }

    /// Starts, uses and stops the service twice, and returns what the script has printed.
    ///
    /// The first client exits, and the second one is killed. After both, the log must have this line of an orderly stop.
    #[track_caller]
    pub fn printed(&self, script: &str, orderly: &str) -> String {
        let first = self.hold(script);
        let printed = first.printed.clone();
        let service = first.service;
        first.leave();
        let log = self.wait_stopped();
        assert!(!service.is_live());
        assert!(log.contains(orderly), "{log}");

        let second = self.hold(":");
        let service = second.service;
        second.kill();
        let log = self.wait_stopped();
        assert!(!service.is_live());
        assert!(log.contains(orderly), "{log}");
        printed
    }
}

/// A client that holds the service.
pub struct Held {
    /// The service's process.
    pub service: Identity,
    /// The output of the client's script.
    pub printed: String,
    pub child: Child,
    stdin: Option<ChildStdin>,
    _lines: BufReader<ChildStdout>,
}

impl Held {
    pub fn leave(mut self) {
        self.stdin = None;
        self.child.wait().expect("wait for the client");
    }

    pub fn kill(mut self) {
        self.child.kill().expect("kill the client");
        self.child.wait().expect("wait for the client");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A failed test must not leave the client behind either.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the processes with a path of the workspace in their environment, as an argument, or as working directory.
///
/// Servers replace one or the other: PostgreSQL writes titles over its environment.
pub fn processes_of(workspace: &Workspace) -> Vec<Identity> {
    let root = workspace.path("").into_os_string().into_encoded_bytes();
    let root = root.strip_suffix(b"/").unwrap_or(&root);
    let has_root = |text: &[u8]| text.windows(root.len()).any(|part| part == root);
    let entries = fs::read_dir("/proc").expect("list /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let identities = pids.filter_map(Identity::of);
    let found = identities.filter(|process| {
        let dir = PathBuf::from(format!("/proc/{}", process.pid));
        // A process may exit before its files are read.
        let read = |name| fs::read(dir.join(name)).unwrap_or_default();
        let cwd = fs::read_link(dir.join("cwd")).unwrap_or_default();
        has_root(&read("environ"))
            || has_root(&read("cmdline"))
            || has_root(cwd.as_os_str().as_encoded_bytes())
    });
    found.collect()
}

/// Returns a directory with a program of this name, which stands in for the real one: the script `NAME.py`.
///
/// The program is a link. If this process wrote the file, a child that another test forks could inherit the descriptor, and
/// a file that is open for writing cannot be executed (`ETXTBSY`).
pub fn stand_in(workspace: &Workspace, name: &str) -> PathBuf {
    let dir = workspace.path("stand-ins");
    fs::create_dir(&dir).expect("create a directory");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_servers");
    let script = scripts.join(format!("{name}.py"));
    std::os::unix::fs::symlink(script, dir.join(name)).expect("create a link");
    dir
}
