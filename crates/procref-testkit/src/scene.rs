//! A test's own corner of the machine, and the look around when it is over.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod supervision;
#[cfg(windows)]
mod windows;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::actor::Actor;
use crate::log::{self, Line};
use crate::observe::Identity;
use crate::protocol::{CommandSpec, FakeService, Outcome, ServiceSpec};

#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(windows)]
use windows as sys;

#[cfg(target_os = "linux")]
pub use linux::write_private;
pub use sys::Key;
pub(crate) use sys::parse_key;

/// Where the programs of this package are.
#[derive(Debug)]
struct Programs {
    actor: PathBuf,
    service: PathBuf,
}

/// What a scene and its actors know together.
#[derive(Debug)]
pub(crate) struct Shared {
    root: TempDir,
    programs: Programs,
    /// Every process that was started or forked for the test.
    pub(crate) cast: Mutex<Vec<Identity>>,
    /// Bystanders. Their zombies stay until the end: a test may want to see
    /// one.
    bystanders: Mutex<Vec<Child>>,
    /// Every service that was built, by its kernel object: its name and its runtime directory.
    pub(crate) keys: Mutex<BTreeMap<Key, (String, PathBuf)>>,
    counter: AtomicU32,
}

/// A test that failed with a lock in its hands is cleaned up after as well.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A path in the scene that nobody had before.
    pub(crate) fn fresh_path(&self, stem: &str, suffix: &str) -> PathBuf {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        self.root.path().join(format!("{stem}-{number}.{suffix}"))
    }
}

/// A test's own namespace. When it is dropped, everything of it must be gone.
#[derive(Debug)]
pub struct Scene {
    shared: Arc<Shared>,
}

impl Scene {
    /// With these programs as actor and as fake service. In a test of this package use the macro
    /// [`crate::scene!`].
    ///
    /// # Panics
    ///
    /// When there is no temporary directory to be had.
    #[must_use]
    pub fn new(actor: impl AsRef<Path>, service: impl AsRef<Path>) -> Self {
        // Where the compiler has run on another system, a path that is whole there need not be so here.
        let here = |path: &Path| std::path::absolute(path).expect("a working directory");
        let programs = Programs {
            actor: here(actor.as_ref()),
            service: here(service.as_ref()),
        };
        let root = tempfile::Builder::new()
            .prefix("procref-scene-")
            .tempdir()
            .expect("a temporary directory");
        sys::create_private(&root.path().join("run")).expect("a runtime directory");
        let shared = Shared {
            root,
            programs,
            cast: Mutex::default(),
            bystanders: Mutex::default(),
            keys: Mutex::default(),
            counter: AtomicU32::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A directory for the test's own use, outside the runtime directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.shared.root.path()
    }

    /// The runtime directory.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        self.root().join("run")
    }

    /// The log of this scene's services and callbacks.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.root().join("log")
    }

    /// The usual service: started by a callback, stopped by procref, judged by
    /// being alive.
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

    /// The service that procref executes itself: the fake one, on a free port.
    #[must_use]
    pub fn command(&self, name: &str) -> ServiceSpec {
        ServiceSpec {
            start: Vec::new(),
            command: Some(CommandSpec::default()),
            ..self.service(name)
        }
    }

    /// Makes the instance of this pid unhealthy; 0 means every instance.
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn make_unhealthy(&self, pid: u32) {
        let file = self.root().join("unhealthy");
        fs::write(file, pid.to_string()).expect("write the file of ill health");
    }

    /// A client process that is ready for commands.
    #[must_use]
    #[track_caller]
    pub fn actor(&self) -> Actor {
        self.spawn(&self.shared.programs.actor, |_| {})
    }

    /// Many of them, which start side by side.
    #[must_use]
    #[track_caller]
    pub fn actors(&self, count: usize) -> Vec<Actor> {
        let actors: Vec<_> = (0..count)
            .map(|_| self.start(&self.shared.programs.actor, |_| {}))
            .collect();
        actors.iter().for_each(Actor::wait_ready);
        actors
    }

    /// [`Scene::actor`] with a service of its own built already, as number 0.
    #[must_use]
    #[track_caller]
    pub fn client(&self, spec: &ServiceSpec) -> Actor {
        let actor = self.actor();
        actor.build(spec);
        actor
    }

    /// Many of them.
    #[must_use]
    #[track_caller]
    pub fn clients(&self, count: usize, spec: &ServiceSpec) -> Vec<Actor> {
        let actors = self.actors(count);
        for actor in &actors {
            actor.build(spec);
        }
        actors
    }

    /// A client that works in this directory.
    #[must_use]
    #[track_caller]
    pub fn actor_in(&self, dir: &Path) -> Actor {
        self.spawn(&self.shared.programs.actor, |command| {
            command.current_dir(dir);
        })
    }

    /// A client that dies at a step of procref's.
    #[must_use]
    #[track_caller]
    pub fn actor_crashing_at(&self, point: &str) -> Actor {
        self.actor_with_env(&[("PROCREF_CRASH_POINT", point)])
    }

    /// A client with these variables in its environment.
    #[must_use]
    #[track_caller]
    pub fn actor_with_env(&self, variables: &[(&str, &str)]) -> Actor {
        self.spawn(&self.shared.programs.actor, |command| {
            command.envs(variables.iter().copied());
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
            // Tests suspend supervisors, and continue them themselves.
            .env("PROCREF_LEAVE_SUSPENDED", "1")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).expect("create a file for errors"));
        prepare(&mut command);
        let child = command.spawn().expect("spawn an actor");
        Actor::of_child(child, Arc::clone(&self.shared))
    }

    /// A process that has nothing to do with any of this, and dies of any
    /// signal.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
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
        lock(&self.shared.cast).push(identity);
        lock(&self.shared.bystanders).push(child);
        identity
    }

    /// Everything the services and the callbacks have logged.
    #[must_use]
    pub fn log(&self) -> Vec<Line> {
        log::read(&self.log_path())
    }

    /// Every instance that ever started, in order.
    #[must_use]
    pub fn started(&self) -> Vec<Identity> {
        let started = |line| match line {
            Line::Start(identity) => Some(identity),
            _ => None,
        };
        self.log().into_iter().filter_map(started).collect()
    }

    /// The instances that live now.
    #[must_use]
    pub fn living(&self) -> Vec<Identity> {
        let mut living = self.started();
        living.retain(|identity| identity.is_live());
        living
    }

    /// Every process that an instance has started, in order.
    #[must_use]
    pub fn workers(&self) -> Vec<Identity> {
        let worker = |line| match line {
            Line::Worker(identity) => Some(identity),
            _ => None,
        };
        self.log().into_iter().filter_map(worker).collect()
    }

    /// Why each instance that ended in an orderly way did so, in order.
    #[must_use]
    pub fn stopped(&self) -> Vec<(u32, String)> {
        let stopped = |line| match line {
            Line::Stop(pid, why) => Some((pid, why)),
            _ => None,
        };
        self.log().into_iter().filter_map(stopped).collect()
    }

    /// How often a callback of this name ran, in all clients together.
    #[must_use]
    pub fn calls(&self, name: &str) -> usize {
        let is_call = |line: &&Line| matches!(line, Line::Callback(_, which) if which == name);
        self.log().iter().filter(is_call).count()
    }

    /// The verdict of the witness lock: no two instances lived at once.
    ///
    /// # Panics
    ///
    /// When two did.
    #[track_caller]
    pub fn assert_single_instance(&self) {
        let log = self.log();
        let overlaps = log.iter().filter(|line| matches!(line, Line::Overlap(_)));
        assert_eq!(overlaps.count(), 0, "two instances at once: {log:#?}");
        let living = self.living();
        assert!(living.len() <= 1, "two live instances: {living:?}");
    }

    /// The files in the runtime directory, but for what stays there for ever.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.runtime_dir()).expect("read the runtime directory");
        let mut files: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| !sys::stays(path))
            .collect();
        files.sort();
        files
    }

    /// The digest of the scene's namespace, which stands in the names of its files.
    ///
    /// # Panics
    ///
    /// When the runtime directory cannot be used.
    #[must_use]
    #[track_caller]
    pub fn namespace_id(&self) -> String {
        let services = procref::Services::in_dir(self.runtime_dir()).expect("open the directory");
        services.namespace_id().expect("a namespace")
    }

    /// Those that are records.
    ///
    /// # Panics
    ///
    /// When the directory cannot be read.
    #[must_use]
    pub fn records(&self) -> Vec<PathBuf> {
        let mut records = self.files();
        records.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
        records
    }

    /// The only instance that lives now.
    ///
    /// # Panics
    ///
    /// When there is none, or more than one.
    #[must_use]
    #[track_caller]
    pub fn only_instance(&self) -> Identity {
        let living = self.living();
        assert_eq!(living.len(), 1, "{living:?}");
        living[0]
    }

    /// Nothing of the scene exists: no kernel object, no file, no instance.
    ///
    /// # Panics
    ///
    /// When something does.
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

    /// Whether that is the lock's and the references' state: nobody is in the middle of a transition, and so many
    /// clients hold the service.
    ///
    /// # Panics
    ///
    /// When it is not.
    #[track_caller]
    pub fn assert_free(&self, key: Key, clients: u32) {
        let seen = (self.is_locked(key), self.references(key));
        assert_eq!(seen, (false, clients), "locked, references");
    }

    /// Ends every actor, removes everything the scene's services have left,
    /// and tells what that was.
    ///
    /// A test whose point is what remains calls it itself; for all others a
    /// scene that is dropped insists on an empty answer.
    ///
    /// # Panics
    ///
    /// When a process survives being killed.
    pub fn sweep(&self) -> Vec<String> {
        let cast = std::mem::take(&mut *lock(&self.shared.cast));
        for identity in &cast {
            identity.kill();
        }
        cast.iter().for_each(|identity| identity.wait_exit());
        for mut bystander in lock(&self.shared.bystanders).drain(..) {
            let _ = bystander.wait();
        }

        let mut left = Vec::new();
        for identity in self.living().into_iter().chain(self.workers()) {
            if !identity.is_live() {
                continue;
            }
            left.push(format!("service process {identity}"));
            identity.kill();
            identity.wait_exit();
        }
        let services = lock(&self.shared.keys).clone();
        let names = services.values().map(|(name, _)| name);
        left.extend(sys::sweep_supervisors(self.root(), names));
        let keys: Vec<_> = services.into_keys().collect();
        left.extend(sys::sweep_objects(&keys));
        // Not `files`: a second panic in a destructor would hide the first.
        let entries = fs::read_dir(self.runtime_dir()).into_iter().flatten();
        let paths = entries.flatten().map(|entry| entry.path());
        for path in paths.filter(|path| !sys::stays(path)) {
            left.push(format!("file {}", path.display()));
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
        left
    }

    /// For a test that failed: what its actors said.
    #[expect(clippy::print_stderr, reason = "shown by the test harness")]
    fn tell(&self) {
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
            self.tell();
        }
        let left = self.sweep();
        if !std::thread::panicking() && !left.is_empty() {
            self.tell();
            panic!("left behind:\n{}", left.join("\n"));
        }
    }
}
