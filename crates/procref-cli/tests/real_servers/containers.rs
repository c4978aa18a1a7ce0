//! The recipes `docker` and `podman`: a container ends with its last client, whatever is killed.
//!
//! Docker's daemon is a service of the machine, so `docker.py` stands in for it. Podman is the real one. It runs without an
//! image: the root directory of the container is a directory of the test.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use procref_testkit::deadline;
use procref_testkit::observe::Identity;
use tempfile::TempDir;

use crate::served::{Held, Recipe, stand_in};
use crate::support::{live_process, path_text, stdout_of};

/// The containers of a test are those with this name, or with the recipe's label.
const NAME: &str = "tests-container";

/// An engine, and a project with its recipe.
struct Engine {
    recipe: Recipe,
    /// The stand-in's daemon, which exits with its standard input, and the directory of its socket. Neither belongs to
    /// the service, so the directory is outside the workspace.
    daemon: Option<(Child, TempDir)>,
}

impl Engine {
    fn docker() -> Self {
        let mut recipe = Recipe::new("docker");
        let dir = stand_in(&recipe.workspace, "docker");
        let outside = tempfile::tempdir().expect("create a temporary directory");
        let socket = outside.path().join("docker.sock");
        let script = fs::canonicalize(dir.join("docker")).expect("the stand-in");
        let mut daemon = Command::new(script)
            .arg("daemon")
            .env("FAKE_DOCKER", &socket)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the daemon");
        let mut ready = [0; 5];
        io::Read::read_exact(daemon.stdout.as_mut().expect("a pipe"), &mut ready).expect("a line");
        recipe.path.push(dir);
        recipe.env.push(("FAKE_DOCKER", socket));
        Self::named(recipe, Some((daemon, outside)))
    }

    /// Returns `None` if this machine cannot run a container of Podman, for example because it is one itself.
    fn podman() -> Option<Self> {
        let mut recipe = Recipe::new("podman");
        let path = |name: &str| path_text(&recipe.workspace.path(name));
        let root = recipe.workspace.path("root");
        for dir in ["usr", "etc", "dev", "proc", "sys", "tmp", "run"] {
            fs::create_dir_all(root.join(dir)).expect("create a directory");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{link}"), root.join(link)).expect("a link");
        }
        let storage = format!(
            "[storage]\ndriver = 'vfs'\ngraphroot = '{}'\nrunroot = '{}'\n",
            path("graph"),
            path("runroot")
        );
        fs::write(path("storage.conf"), storage).expect("write a file");
        recipe.env.extend([
            (
                "CONTAINERS_STORAGE_CONF",
                recipe.workspace.path("storage.conf"),
            ),
            ("CONTAINERS_CONF", recipe.workspace.path("containers.conf")),
        ]);
        // Limits that every user may set, also in a container.
        let options = [
            "--network=host",
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
            "--volume=/usr:/usr:ro",
            "--rootfs",
            &path_text(&root),
        ];
        let mut reasons = String::new();
        for runtime in ["crun", "runc"] {
            let config = format!(
                "[engine]\nruntime = '{runtime}'\ncgroup_manager = 'cgroupfs'\nevents_logger = 'file'\ntmp_dir = '{}'\n",
                path("libpod")
            );
            fs::write(path("containers.conf"), config).expect("write a file");
            let mut command = Command::new("podman");
            command
                .args(["run", "--rm"])
                .args(options)
                .arg("true")
                .envs(recipe.env.clone());
            let output = command.output().expect("run podman, see .ci/run");
            if output.status.success() {
                let words = options.map(|option| format!("{option:?}")).join(", ");
                recipe.edit(|text| {
                    let image = "\"docker.io/library/redis:7\"";
                    let server = "\"redis-server\", \"--port\", \"{port}\", \"--save\", \"\"";
                    text.replace(image, &format!("{words}, {server}"))
                });
                return Some(Self::named(recipe, None));
            }
            reasons += &String::from_utf8_lossy(&output.stderr);
        }
        // Not captured, so that the output of the tests shows it.
        let _ = writeln!(
            io::stderr(),
            "NOT RUN: Podman cannot run a container here, so only the stand-in for Docker was tested: {reasons}"
        );
        None
    }

    fn named(recipe: Recipe, daemon: Option<(Child, TempDir)>) -> Self {
        recipe.edit(|text| {
            text.replace(
                "\"--publish\"",
                &format!("\"--name\", {NAME:?}, \"--publish\""),
            )
        });
        Self { recipe, daemon }
    }

    fn command(&self) -> Command {
        let program = self.recipe.path.first().map(|dir| dir.join("docker"));
        let mut command = Command::new(program.unwrap_or_else(|| PathBuf::from("podman")));
        command.envs(self.recipe.env.clone());
        command
    }

    /// Returns the containers with the test's name and with the recipe's label, running or not.
    fn containers(&self) -> String {
        let filters = [
            format!("name={NAME}"),
            format!("label=procref={}", self.label()),
        ];
        let found = filters.map(|filter| {
            let mut command = self.command();
            stdout_of(command.args(["ps", "--all", "--quiet", "--filter", &filter]))
        });
        found.concat()
    }

    /// Returns the recipe's label. The file with the container's id has the same name and `.id`.
    fn label(&self) -> String {
        let projects = self.recipe.workspace.runtime_dir().join("projects");
        let mut dirs = fs::read_dir(projects).expect("list the projects");
        let dir = dirs.next().expect("a project").expect("an entry").path();
        path_text(&dir.join(self.recipe.name))
    }

    /// Starts the service, and returns the process of its container, too.
    fn hold(&self) -> (Held, Identity) {
        let script = r#"
redis-cli -u "$REDIS_URL" ping
redis-cli -u "$REDIS_URL" info server | sed -n 's/^process_id:\([0-9]*\).*/\1/p'
cat "$CONTAINER_ID_FILE"; echo
"#;
        let client = self.recipe.hold(script);
        let mut printed = client.printed.lines();
        assert_eq!(printed.next(), Some("PONG"));
        let mut pid = printed.next().expect("a pid").to_owned();
        let id = printed.next().expect("an id");
        assert_eq!(
            self.containers().matches(&id[..12]).count(),
            2,
            "found by name and by label"
        );
        if self.daemon.is_none() {
            // Redis knows only its pid in the container.
            pid = stdout_of(
                self.command()
                    .args(["inspect", "--format", "{{.State.Pid}}", id]),
            );
        }
        (client, live_process(&pid))
    }

    /// Waits until the service has stopped, and asserts that it has no container.
    #[track_caller]
    fn assert_nothing_left(&self, container: Identity) -> String {
        container.wait_exit();
        let log = self.recipe.wait_stopped();
        deadline::until_true("the engine has no container", || {
            self.containers().is_empty()
        });
        let id = PathBuf::from(self.label() + ".id");
        assert!(!id.exists(), "the file with the container's id");
        log
    }

    fn container_ends_with_its_last_client(&self) {
        let (client, container) = self.hold();
        client.leave();
        let log = self.assert_nothing_left(container);
        assert!(log.contains("Redis is now ready to exit, bye bye"), "{log}");
        let (client, container) = self.hold();
        client.kill();
        let log = self.assert_nothing_left(container);
        assert!(log.contains("Redis is now ready to exit, bye bye"), "{log}");
    }

    /// `docker run` only shows the output of the container, which does not end with it.
    fn container_ends_when_the_process_of_the_engine_is_killed(&self) {
        let (client, container) = self.hold();
        self.run_of(client.service).kill();
        container.wait_exit();
        client.service.wait_exit();
        client.leave();
        // Of a service that died while a client held it, the record stays until the next start or `gc`.
        let workspace = &self.recipe.workspace;
        deadline::until_true("gc removes the record", || {
            stdout_of(workspace.procref(&self.recipe.dir).arg("gc"));
            workspace.leftovers().is_empty()
        });
        self.assert_nothing_left(container);
    }

    fn next_start_removes_the_container_when_everything_is_killed(&self) {
        let (client, container) = self.hold();
        let run = self.run_of(client.service);
        let supervisor = client.service.status("PPid").expect("a field");
        // Otherwise it would stop the rest.
        live_process(&supervisor).kill();
        client.service.kill();
        run.kill();
        client.kill();
        assert!(container.is_live(), "the engine keeps it");
        let (client, next) = self.hold();
        assert!(!container.is_live());
        client.leave();
        self.assert_nothing_left(next);
    }

    /// Returns the process of `docker run`.
    fn run_of(&self, service: Identity) -> Identity {
        let mut children = service.children().into_iter();
        let run = children.find(|child| {
            let command = child.command_line();
            command.windows(5).any(|part| part == b"\0run\0")
        });
        run.expect("the engine's process")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        match self.daemon.take() {
            Some((mut daemon, _outside)) => {
                drop(daemon.stdin.take());
                let _ = daemon.wait();
            }
            // A failed test must not leave a container behind either.
            None => {
                let _ = self.command().args(["rm", "--all", "--force"]).output();
            }
        }
    }
}

#[test]
fn docker_container_ends_with_its_last_client() {
    Engine::docker().container_ends_with_its_last_client();
}

#[test]
fn docker_container_ends_when_docker_run_is_killed() {
    Engine::docker().container_ends_when_the_process_of_the_engine_is_killed();
}

#[test]
fn docker_container_is_removed_by_the_next_start_when_all_are_killed() {
    Engine::docker().next_start_removes_the_container_when_everything_is_killed();
}

/// One test, because the first start of Podman in a directory takes seconds.
#[test]
fn podman_container_ends_with_its_last_client_whatever_is_killed() {
    let Some(engine) = Engine::podman() else {
        return;
    };
    engine.container_ends_with_its_last_client();
    engine.container_ends_when_the_process_of_the_engine_is_killed();
    engine.next_start_removes_the_container_when_everything_is_killed();
}
