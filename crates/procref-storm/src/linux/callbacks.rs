//! The callbacks of a client's service.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procref::{ServiceCommand, ServiceInfo, SharedService};
use procref_testkit::observe::Identity;
use procref_testkit::query;
use rustix::fs::{FlockOperation, flock};

use crate::Kind;
use crate::linux::client::Voice;
use crate::linux::service::{Site, What};
use crate::linux::workload::{Recover, Settings, Start};

/// How long a stubborn instance is asked to stop.
const GRACE: Duration = Duration::from_millis(400);

/// A service that was started, and ends with this process until it is told that it is known.
struct Leash {
    pid: u32,
    end: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// A start callback that runs. When it comes to its end it says so before it lets the next one begin.
struct Alone {
    path: PathBuf,
    call: String,
    _locked: File,
}

impl Alone {
    const DONE: &str = "done";
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, format!("{} {}", Self::DONE, self.call));
    }
}

/// What the callbacks of one client share.
pub struct Script {
    site: Site,
    settings: Settings,
    guardian: Identity,
    voice: Arc<Voice>,
    next: Mutex<Start>,
    meant: AtomicBool,
    /// Another process than the instance has answered on the instance's port.
    stranger: AtomicBool,
    leash: Mutex<Option<Leash>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Script {
    pub fn new(site: Site, settings: Settings, guardian: Identity, voice: Arc<Voice>) -> Arc<Self> {
        Arc::new(Self {
            site,
            settings,
            guardian,
            voice,
            next: Mutex::new(Start::Serve),
            meant: AtomicBool::new(false),
            stranger: AtomicBool::new(false),
            leash: Mutex::new(None),
        })
    }

    /// What a start comes to from now on.
    pub fn expect(&self, start: Start) {
        *lock(&self.next) = start;
        self.meant.store(false, Ordering::SeqCst);
        self.stranger.store(false, Ordering::SeqCst);
    }

    /// Whether an instance's port was somebody else's since.
    pub fn has_met_stranger(&self) -> bool {
        self.stranger.load(Ordering::SeqCst)
    }

    /// Whether a callback has failed since, as it was told to.
    pub fn has_failed(&self) -> bool {
        self.meant.load(Ordering::SeqCst)
    }

    /// In a forked child: its parent's service is not its own to let go of.
    pub fn forget(&self) {
        lock(&self.leash).take();
    }

    /// The service, and the same with a program that fails, if procref executes it.
    pub fn build(self: &Arc<Self>) -> procref::Result<(SharedService, Option<SharedService>)> {
        match self.site.kind {
            Kind::Callback => Ok((self.build_callbacks()?, None)),
            Kind::Command => {
                let failing = self.build_command(&["--exit", "3"])?;
                Ok((self.build_command(&[])?, Some(failing)))
            }
        }
    }

    fn builder(self: &Arc<Self>) -> procref::SharedServiceBuilder {
        let (script, asked) = (Arc::clone(self), Arc::clone(self));
        SharedService::builder(&self.site.name)
            .base_dir(self.site.runtime_dir())
            .linger(self.settings.linger)
            .stop_timeout(GRACE)
            .on_health_check(move |info: &ServiceInfo| {
                let healthy = asked.is_healthy(info);
                async move { healthy }
            })
            .on_ready(move |info| {
                let ready = script.on_ready(&info);
                async move { ready }
            })
    }

    fn build_command(self: &Arc<Self>, more: &[&str]) -> procref::Result<SharedService> {
        let fake = self.site.fake(self.guardian, &self.settings);
        let command = ServiceCommand::new(std::env::current_exe()?)
            .arg("service")
            .args(fake.args())
            .args(["--listen", "{port}", "--workers"])
            .arg(self.settings.workers.to_string())
            .args(more);
        self.builder().command(command).build()
    }

    fn build_callbacks(self: &Arc<Self>) -> procref::Result<SharedService> {
        let script = Arc::clone(self);
        let mut builder = self.builder().on_first_acquire(move || {
            let started = script.on_first_acquire();
            async move { started }
        });
        if self.settings.on_last_release {
            builder = builder.on_last_release(|info: ServiceInfo| async move {
                procref::process::terminate(info.pid());
                Ok(())
            });
        }
        if let Some(recover) = self.settings.recover {
            let script = Arc::clone(self);
            builder = builder.on_recover(move |old: ServiceInfo| {
                let recovered = script.on_recover(recover, &old);
                async move { recovered }
            });
        }
        builder.build()
    }

    fn fail<T>(&self) -> procref::Result<T> {
        self.meant.store(true, Ordering::SeqCst);
        Err("told to fail".into())
    }

    fn on_first_acquire(&self) -> procref::Result<ServiceInfo> {
        let _alone = self.start_alone()?;
        let next = *lock(&self.next);
        match next {
            Start::Serve | Start::NotReady => self.spawn(),
            Start::Fail => self.fail(),
            Start::Panic => {
                self.meant.store(true, Ordering::SeqCst);
                panic!("told to panic");
            }
        }
    }

    fn on_recover(&self, recover: Recover, old: &ServiceInfo) -> procref::Result<ServiceInfo> {
        let _alone = self.start_alone()?;
        match recover {
            Recover::Replace => {
                if old.is_alive() {
                    procref::process::stop(old.pid(), GRACE.as_millis() as u64);
                }
                self.spawn()
            }
            Recover::Beside => self.spawn(),
            Recover::Fail => self.fail(),
        }
    }

    /// A witness of its own that no two start.
    fn start_alone(&self) -> procref::Result<Alone> {
        static CALLS: AtomicU32 = AtomicU32::new(0);

        let path = self.site.starting();
        let file = File::options().append(true).create(true).open(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // Whoever is killed gives back its semaphores first and its files later, or leaves them, for a
            // moment, to a process that it was about to execute. Then it does not come to its end.
            let before = fs::read_to_string(&path)?;
            flock(&file, FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
            let after = fs::read_to_string(&path)?;
            if after.starts_with(Alone::DONE) && after != before {
                let text = format!("a start began in the middle of another one: {after}");
                self.voice.tell(What::Wrong(text));
            }
        }
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let call = format!("{} call {call}", Identity::own());
        fs::write(&path, &call)?;
        Ok(Alone {
            path,
            call,
            _locked: file,
        })
    }

    fn spawn(&self) -> procref::Result<ServiceInfo> {
        let fake = self.site.fake(self.guardian, &self.settings);
        let mut child: Child = Command::new(std::env::current_exe()?)
            .arg("service")
            .args(fake.args())
            .args(["--port", "--await-confirm"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let pid = child.id();
        let (Some(end), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".into());
        };
        let mut leash = Leash {
            pid,
            end,
            output: BufReader::new(output),
        };
        let mut line = String::new();
        leash.output.read_line(&mut line)?;
        let port = line
            .strip_prefix(&format!("ready {pid} "))
            .and_then(|port| port.trim().parse().ok())
            .ok_or_else(|| format!("the service said {line:?}"))?;
        *lock(&self.leash) = Some(leash);
        Ok(ServiceInfo::new(pid, port))
    }

    fn is_healthy(&self, info: &ServiceInfo) -> bool {
        let answer = query::service(info.port());
        if answer.as_ref().is_ok_and(|(pid, _)| *pid != info.pid()) {
            self.stranger.store(true, Ordering::SeqCst);
        }
        answer.is_ok_and(|answer| answer == (info.pid(), true))
    }

    /// By now it is published, so whoever comes next finds it, whatever becomes of this process.
    fn on_ready(&self, info: &ServiceInfo) -> procref::Result<()> {
        let leash = lock(&self.leash).take();
        if let Some(mut leash) = leash.filter(|leash| leash.pid == info.pid()) {
            leash.end.write_all(b"known\n")?;
            let mut line = String::new();
            leash.output.read_line(&mut line)?;
            if line.trim() != "testified" {
                return Err(format!("the service said {line:?}").into());
            }
        }
        if *lock(&self.next) == Start::NotReady {
            return self.fail();
        }
        Ok(())
    }
}
