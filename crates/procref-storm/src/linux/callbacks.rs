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

use crate::linux::event::EventKind;
use crate::linux::reporter::Reporter;
use crate::linux::service::Service;
use crate::linux::workload::{Recover, Settings, Start};
use crate::options::Kind;

/// Time that an instance has to stop before procref kills it.
const GRACE: Duration = Duration::from_millis(400);

/// A started instance. Before [`InstanceGuard::confirm`], it exits with this process.
struct InstanceGuard {
    pid: u32,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl InstanceGuard {
    /// Lets the instance outlive this process, because it is published.
    fn confirm(mut self) -> procref::Result<()> {
        self.input.write_all(b"known\n")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        match line.trim() {
            "confirmed" => Ok(()),
            _ => Err(format!("the service printed {line:?}").into()),
        }
    }
}

/// The lock that a start callback holds while it runs. When the callback returns, the lock file records this.
struct StartLock {
    path: PathBuf,
    call: String,
    _locked: File,
}

impl StartLock {
    const DONE: &str = "done";
}

impl Drop for StartLock {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, format!("{} {}", Self::DONE, self.call));
    }
}

/// The state that the callbacks of one client share.
pub struct Callbacks {
    service: Service,
    settings: Settings,
    guardian: Identity,
    reporter: Arc<Reporter>,
    next_start: Mutex<Start>,
    has_failed: AtomicBool,
    /// Another process than the instance has answered on the instance's port.
    lost_port: AtomicBool,
    guard: Mutex<Option<InstanceGuard>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Callbacks {
    pub fn new(
        service: Service,
        settings: Settings,
        guardian: Identity,
        reporter: Arc<Reporter>,
    ) -> Arc<Self> {
        Arc::new(Self {
            service,
            settings,
            guardian,
            reporter,
            next_start: Mutex::new(Start::Serve),
            has_failed: AtomicBool::new(false),
            lost_port: AtomicBool::new(false),
            guard: Mutex::new(None),
        })
    }

    /// Sets the result of the next starts.
    pub fn set_next_start(&self, start: Start) {
        *lock(&self.next_start) = start;
        self.has_failed.store(false, Ordering::SeqCst);
        self.lost_port.store(false, Ordering::SeqCst);
    }

    /// Returns `true` if another process has answered on an instance's port after the last
    /// [`Callbacks::set_next_start`].
    pub fn has_lost_port(&self) -> bool {
        self.lost_port.load(Ordering::SeqCst)
    }

    /// Returns `true` if a callback has failed as intended after the last [`Callbacks::set_next_start`].
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    /// Drops the guard of a started instance. A forked child calls this, because the instance is its parent's.
    pub fn drop_guard(&self) {
        lock(&self.guard).take();
    }

    /// Builds the service. If procref executes the service, also builds one whose program fails.
    pub fn build(self: &Arc<Self>) -> procref::Result<(SharedService, Option<SharedService>)> {
        match self.service.kind {
            Kind::Callback => Ok((self.build_callbacks()?, None)),
            Kind::Command => {
                let failing = self.build_command(&["--exit", "3"])?;
                Ok((self.build_command(&[])?, Some(failing)))
            }
        }
    }

    fn builder(self: &Arc<Self>) -> procref::SharedServiceBuilder {
        let (for_health, for_ready) = (Arc::clone(self), Arc::clone(self));
        SharedService::builder(&self.service.name)
            .base_dir(self.service.runtime_dir())
            .linger(self.settings.linger)
            .stop_timeout(GRACE)
            .on_health_check(move |info: &ServiceInfo| {
                let healthy = for_health.is_healthy(info);
                async move { healthy }
            })
            .on_ready(move |info| {
                let ready = for_ready.on_ready(&info);
                async move { ready }
            })
    }

    fn build_command(self: &Arc<Self>, args: &[&str]) -> procref::Result<SharedService> {
        let fake = self.service.fake(self.guardian, &self.settings);
        let command = ServiceCommand::new(std::env::current_exe()?)
            .arg("service")
            .args(fake.args())
            .args(["--listen", "{port}", "--workers"])
            .arg(self.settings.workers.to_string())
            .args(args);
        self.builder().command(command).build()
    }

    fn build_callbacks(self: &Arc<Self>) -> procref::Result<SharedService> {
        let callbacks = Arc::clone(self);
        let mut builder = self.builder().on_first_acquire(move || {
            let started = callbacks.on_first_acquire();
            async move { started }
        });
        if self.settings.on_last_release {
            builder = builder.on_last_release(|info: ServiceInfo| async move {
                procref::process::terminate(info.pid());
                Ok(())
            });
        }
        if let Some(recover) = self.settings.recover {
            let callbacks = Arc::clone(self);
            builder = builder.on_recover(move |old: ServiceInfo| {
                let recovered = callbacks.on_recover(recover, &old);
                async move { recovered }
            });
        }
        builder.build()
    }

    fn fail<T>(&self) -> procref::Result<T> {
        self.has_failed.store(true, Ordering::SeqCst);
        Err("the workload makes this callback fail".into())
    }

    fn on_first_acquire(&self) -> procref::Result<ServiceInfo> {
        let _lock = self.lock_start()?;
        let start = *lock(&self.next_start);
        match start {
            Start::Serve | Start::NotReady => self.spawn(),
            Start::Fail => self.fail(),
            Start::Panic => {
                self.has_failed.store(true, Ordering::SeqCst);
                panic!("the workload makes this callback panic");
            }
        }
    }

    fn on_recover(&self, recover: Recover, old: &ServiceInfo) -> procref::Result<ServiceInfo> {
        let _lock = self.lock_start()?;
        match recover {
            Recover::Replace => {
                if old.is_alive() {
                    procref::process::stop(old.pid(), GRACE.as_millis() as u64);
                }
                self.spawn()
            }
            Recover::LeaveOld => self.spawn(),
            Recover::Fail => self.fail(),
        }
    }

    /// Locks a file during a start callback. This shows, independently of procref, that callbacks do not
    /// overlap.
    fn lock_start(&self) -> procref::Result<StartLock> {
        static CALLS: AtomicU32 = AtomicU32::new(0);

        let path = self.service.start_lock();
        let file = File::options().append(true).create(true).open(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // The kernel releases the semaphores of a killed process before its files. A child that the process was
            // about to execute can also keep the files open for a moment. Neither is an overlap, because the
            // killed callback does not return. So only a callback that returns while this one waits is an overlap.
            let before = fs::read_to_string(&path)?;
            flock(&file, FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
            let after = fs::read_to_string(&path)?;
            if after.starts_with(StartLock::DONE) && after != before {
                let text = format!("a start callback began during another one: {after}");
                self.reporter.report(EventKind::Violation(text));
            }
        }
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let call = format!("{} call {call}", Identity::own());
        fs::write(&path, &call)?;
        Ok(StartLock {
            path,
            call,
            _locked: file,
        })
    }

    fn spawn(&self) -> procref::Result<ServiceInfo> {
        let fake = self.service.fake(self.guardian, &self.settings);
        let mut child: Child = Command::new(std::env::current_exe()?)
            .arg("service")
            .args(fake.args())
            .args(["--port", "--await-confirm"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let pid = child.id();
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".into());
        };
        let mut guard = InstanceGuard {
            pid,
            input,
            output: BufReader::new(output),
        };
        let mut line = String::new();
        guard.output.read_line(&mut line)?;
        let port = line
            .strip_prefix(&format!("ready {pid} "))
            .and_then(|port| port.trim().parse().ok())
            .ok_or_else(|| format!("the service printed {line:?}"))?;
        *lock(&self.guard) = Some(guard);
        Ok(ServiceInfo::new(pid, port))
    }

    fn is_healthy(&self, info: &ServiceInfo) -> bool {
        let answer = query::service(info.port());
        if answer.as_ref().is_ok_and(|(pid, _)| *pid != info.pid()) {
            self.lost_port.store(true, Ordering::SeqCst);
        }
        answer.is_ok_and(|answer| answer == (info.pid(), true))
    }

    /// Confirms the instance. It is published now, so the next client finds it even if this process dies.
    fn on_ready(&self, info: &ServiceInfo) -> procref::Result<()> {
        let guard = lock(&self.guard).take();
        if let Some(guard) = guard.filter(|guard| guard.pid == info.pid()) {
            guard.confirm()?;
        }
        if *lock(&self.next_start) == Start::NotReady {
            return self.fail();
        }
        Ok(())
    }
}
