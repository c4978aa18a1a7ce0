//! The environment of a test: a runtime directory, actors, services, and the check that nothing is left.

#[cfg(target_os = "linux")]
mod linux;
mod setup;
#[cfg(target_os = "linux")]
mod supervision;
#[cfg(windows)]
mod windows;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use crate::actor::Actor;
use crate::log::{self, Line};
use crate::observe::Identity;
use crate::protocol::{CommandSpec, FakeService, Outcome, ServiceSpec};
use crate::shared::{Programs, Shared, lock};

#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(windows)]
use windows as sys;

pub use crate::key::Key;
#[cfg(target_os = "linux")]
pub use linux::write_private;

/// The environment of a test. Dropping a scene checks that nothing of it is left.
///
/// `scene/supervision.rs` has the methods about supervisors, `scene/linux.rs` and `scene/windows.rs` those about kernel
/// objects.
#[derive(Debug)]
pub struct Scene {
    shared: Arc<Shared>,
}

impl Scene {
    /// Creates a scene with these programs as actor and fake service. Tests of this package use the macro
    /// [`crate::scene!`].
    ///
    /// # Panics
    ///
    /// Panics if no temporary directory can be created.
    #[must_use]
    pub fn new(actor: impl AsRef<Path>, service: impl AsRef<Path>) -> Self {
        // After a cross compilation, a path that is absolute on the compiler's system can be relative here.
        let absolute = |path: &Path| std::path::absolute(path).expect("a working directory");
        let programs = Programs {
            actor: absolute(actor.as_ref()),
            service: absolute(service.as_ref()),
        };
        let root = tempfile::Builder::new()
            .prefix("procref-scene-")
            .tempdir()
            .expect("a temporary directory");
        sys::create_private(&root.path().join("run")).expect("a runtime directory");
        let shared = Shared {
            root,
            programs,
            processes: Mutex::default(),
            bystanders: Mutex::default(),
            keys: Mutex::default(),
            counter: AtomicU32::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns a directory for the test's own files. The runtime directory is inside it.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.shared.root.path()
    }

    /// Returns the runtime directory.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        self.root().join("run")
    }

    /// Returns the path of the log of this scene's services and callbacks.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.root().join("log")
    }

    /// Returns the usual service: a callback starts it, procref stops it, and there is no health check.
    #[must_use]
    pub fn service(&self, name: &str) -> ServiceSpec {
        ServiceSpec {
            name: name.to_owned(),
            dir: Some(self.runtime_dir()),
            fake: FakeService {
                program: self.shared.programs.service.clone(),
                log: self.log_path(),
                witness: self.root().join("witness"),
                unhealthy_file: Some(self.root().join("unhealthy")),
                guardian: Some(Identity::own()),
                ..FakeService::default()
            },
            start: vec![Outcome::Serve],
            stop: None,
            health: None,
            recover: Vec::new(),
            on_ready: Vec::new(),
            fingerprint: None,
            gates: Vec::new(),
            metadata: Vec::new(),
            start_timeout_ms: None,
            wait_timeout_ms: None,
            stop_timeout_ms: None,
            keep_orphan: false,
            linger_ms: 0,
            command: None,
        }
    }

    /// Returns a service that procref executes: the fake service, on a free port.
    #[must_use]
    pub fn command(&self, name: &str) -> ServiceSpec {
        ServiceSpec {
            start: Vec::new(),
            command: Some(CommandSpec::default()),
            ..self.service(name)
        }
    }

    /// Makes the instance with this pid unhealthy. With 0, makes every instance unhealthy.
    ///
    /// # Panics
    ///
    /// Panics if the file cannot be written.
    pub fn make_unhealthy(&self, pid: u32) {
        let file = self.root().join("unhealthy");
        fs::write(file, pid.to_string()).expect("write the file");
    }

    /// Starts a client process, and waits until it reads commands.
    #[must_use]
    #[track_caller]
    pub fn actor(&self) -> Actor {
        self.spawn(&self.shared.programs.actor, |_| {})
    }

    /// Starts client processes at the same time.
    #[must_use]
    #[track_caller]
    pub fn actors(&self, count: usize) -> Vec<Actor> {
        let actors: Vec<_> = (0..count)
            .map(|_| self.start(&self.shared.programs.actor, |_| {}))
            .collect();
        actors.iter().for_each(Actor::wait_ready);
        actors
    }

    /// Starts a client process that has built the service as number 0.
    #[must_use]
    #[track_caller]
    pub fn client(&self, spec: &ServiceSpec) -> Actor {
        let actor = self.actor();
        actor.build(spec);
        actor
    }

    /// Starts client processes that have built the service as number 0.
    #[must_use]
    #[track_caller]
    pub fn clients(&self, count: usize, spec: &ServiceSpec) -> Vec<Actor> {
        let actors = self.actors(count);
        for actor in &actors {
            actor.build(spec);
        }
        actors
    }

    /// Starts a client process with this working directory.
    #[must_use]
    #[track_caller]
    pub fn actor_in(&self, dir: &Path) -> Actor {
        self.spawn(&self.shared.programs.actor, |command| {
            command.current_dir(dir);
        })
    }

    /// Starts a client process that dies at this crash point of procref.
    #[must_use]
    #[track_caller]
    pub fn actor_crashing_at(&self, point: &str) -> Actor {
        self.actor_with_env(&[("PROCREF_CRASH_POINT", point)])
    }

    /// Starts a client process with these environment variables.
    #[must_use]
    #[track_caller]
    pub fn actor_with_env(&self, variables: &[(&str, &str)]) -> Actor {
        self.spawn(&self.shared.programs.actor, |command| {
            command.envs(variables.iter().copied());
        })
    }

    /// Starts a client process that continues suspended supervisors, as clients do outside of tests.
    #[must_use]
    #[track_caller]
    pub fn actor_resuming_supervisors(&self) -> Actor {
        self.spawn(&self.shared.programs.actor, |command| {
            command.env_remove("PROCREF_LEAVE_SUSPENDED");
        })
    }

    #[track_caller]
    fn spawn(&self, program: &Path, prepare: impl FnOnce(&mut Command)) -> Actor {
        let actor = self.start(program, prepare);
        actor.wait_ready();
        actor
    }

    #[track_caller]
    fn start(&self, program: &Path, prepare: impl FnOnce(&mut Command)) -> Actor {
        let errors = self.shared.fresh_path("actor", "err");
        let mut command = Command::new(program);
        command
            .arg("--guardian")
            .arg(Identity::own().to_string())
            .env("PROCREF_RUNTIME_DIR", self.runtime_dir())
            .env_remove("XDG_RUNTIME_DIR")
            // Tests suspend supervisors and resume them themselves, so clients must not resume them.
            .env("PROCREF_LEAVE_SUSPENDED", "1")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).expect("create a file for errors"));
        prepare(&mut command);
        let child = command.spawn().expect("spawn an actor");
        Actor::of_child(child, Arc::clone(&self.shared))
    }

    /// Starts a process that is unrelated to all services, and that any signal kills.
    ///
    /// # Panics
    ///
    /// Panics if the process cannot be started.
    #[must_use]
    pub fn bystander(&self) -> Identity {
        let child = Command::new(&self.shared.programs.actor)
            .args([
                "--sleep-forever",
                "--guardian",
                &Identity::own().to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("spawn a bystander");
        let identity = Identity::of(child.id()).expect("a bystander");
        lock(&self.shared.processes).push(identity);
        lock(&self.shared.bystanders).push(child);
        identity
    }

    /// Returns all lines of the log.
    #[must_use]
    pub fn log(&self) -> Vec<Line> {
        log::read(&self.log_path())
    }

    /// Returns every instance that has started, in order.
    #[must_use]
    pub fn started(&self) -> Vec<Identity> {
        let started = |line| match line {
            Line::Start(identity) => Some(identity),
            _ => None,
        };
        self.log().into_iter().filter_map(started).collect()
    }

    /// Returns the live instances.
    #[must_use]
    pub fn living(&self) -> Vec<Identity> {
        let mut living = self.started();
        living.retain(|identity| identity.is_live());
        living
    }

    /// Returns every process that an instance has started, in order.
    #[must_use]
    pub fn workers(&self) -> Vec<Identity> {
        let worker = |line| match line {
            Line::Worker(identity) => Some(identity),
            _ => None,
        };
        self.log().into_iter().filter_map(worker).collect()
    }

    /// Returns pid and reason of each orderly exit of an instance, in order.
    #[must_use]
    pub fn stopped(&self) -> Vec<(u32, String)> {
        let stopped = |line| match line {
            Line::Stop(pid, reason) => Some((pid, reason)),
            _ => None,
        };
        self.log().into_iter().filter_map(stopped).collect()
    }

    /// Returns the number of calls of the callback with this name, in all clients together.
    #[must_use]
    pub fn calls(&self, name: &str) -> usize {
        let is_call = |line: &&Line| matches!(line, Line::Callback(_, called) if called == name);
        self.log().iter().filter(is_call).count()
    }

    /// Checks that no two instances were alive at once. The lock of the fake service shows this.
    ///
    /// # Panics
    ///
    /// Panics if two instances were alive at once.
    #[track_caller]
    pub fn assert_single_instance(&self) {
        let log = self.log();
        let overlaps = log.iter().filter(|line| matches!(line, Line::Overlap(_)));
        assert_eq!(overlaps.count(), 0, "two instances at once: {log:#?}");
        let living = self.living();
        assert!(living.len() <= 1, "two live instances: {living:?}");
    }

    /// Returns the files in the runtime directory, except for files that are never removed.
    ///
    /// # Panics
    ///
    /// Panics if the directory cannot be read.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.runtime_dir()).expect("read the runtime directory");
        let mut files: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| !sys::is_permanent(path))
            .collect();
        files.sort();
        files
    }

    /// Returns the digest of the scene's namespace, which is a part of all file names.
    ///
    /// # Panics
    ///
    /// Panics if the runtime directory cannot be used.
    #[must_use]
    #[track_caller]
    pub fn namespace_id(&self) -> String {
        let services = procref::Services::in_dir(self.runtime_dir()).expect("open the directory");
        services.namespace_id().expect("a namespace")
    }

    /// Returns the records in the runtime directory.
    ///
    /// # Panics
    ///
    /// Panics if the directory cannot be read.
    #[must_use]
    pub fn records(&self) -> Vec<PathBuf> {
        let mut records = self.files();
        records.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
        records
    }

    /// Returns the only live instance.
    ///
    /// # Panics
    ///
    /// Panics if there is not exactly one.
    #[must_use]
    #[track_caller]
    pub fn only_instance(&self) -> Identity {
        let living = self.living();
        assert_eq!(living.len(), 1, "{living:?}");
        living[0]
    }

    /// Checks that nothing of the scene exists: no kernel object, file, instance or worker.
    ///
    /// # Panics
    ///
    /// Panics if anything exists.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.living(), [], "live instances");
        let mut workers = self.workers();
        workers.retain(|worker| worker.is_live());
        assert_eq!(workers, [], "live processes of instances");
        assert_eq!(self.files(), [] as [PathBuf; 0], "files");
        let keys: Vec<_> = lock(&self.shared.keys).keys().copied().collect();
        let objects: Vec<_> = keys.into_iter().filter(|key| self.exists(*key)).collect();
        assert_eq!(objects, [] as [Key; 0], "kernel objects");
    }

    /// Checks that no transition is in progress, and that this number of clients holds the service.
    ///
    /// # Panics
    ///
    /// Panics if this is not so.
    #[track_caller]
    pub fn assert_free(&self, key: Key, clients: u32) {
        let state = (self.is_locked(key), self.references(key));
        assert_eq!(state, (false, clients), "locked, references");
    }

    /// Kills every actor, removes all leftovers of the scene's services, and returns a description of each of them.
    ///
    /// A test that expects leftovers calls this method. For all other tests, dropping the scene fails if there are any.
    ///
    /// # Panics
    ///
    /// Panics if a process survives SIGKILL.
    pub fn sweep(&self) -> Vec<String> {
        let processes = std::mem::take(&mut *lock(&self.shared.processes));
        for identity in &processes {
            identity.kill();
        }
        processes.iter().for_each(|identity| identity.wait_exit());
        for mut bystander in lock(&self.shared.bystanders).drain(..) {
            let _ = bystander.wait();
        }

        let mut leftovers = Vec::new();
        for identity in self.living().into_iter().chain(self.workers()) {
            if !identity.is_live() {
                continue;
            }
            leftovers.push(format!("service process {identity}"));
            identity.kill();
            identity.wait_exit();
        }
        let services = lock(&self.shared.keys).clone();
        let names = services.values().map(|(name, _)| name);
        leftovers.extend(sys::remove_supervisors(self.root(), names));
        let keys: Vec<_> = services.into_keys().collect();
        leftovers.extend(sys::remove_objects(&keys));
        leftovers.extend(sys::wait_keepers(self));
        // `files` could panic, and a second panic in a destructor would hide the first one.
        let entries = fs::read_dir(self.runtime_dir()).into_iter().flatten();
        let paths = entries.flatten().map(|entry| entry.path());
        for path in paths.filter(|path| !sys::is_permanent(path)) {
            leftovers.push(format!("file {}", path.display()));
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
        leftovers
    }

    /// Prints the log and the errors of the actors, after a failed test.
    #[expect(clippy::print_stderr, reason = "the test harness shows this output")]
    fn print_diagnostics(&self) {
        eprintln!("log of the scene: {:#?}", self.log());
        let Ok(entries) = fs::read_dir(self.root()) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|ending| ending == "err") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let tail = &lines[lines.len().saturating_sub(40)..];
                eprintln!("{}:\n{}", path.display(), tail.join("\n"));
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_diagnostics();
        }
        let leftovers = self.sweep();
        if !std::thread::panicking() && !leftovers.is_empty() {
            self.print_diagnostics();
            panic!("left behind:\n{}", leftovers.join("\n"));
        }
    }
}
