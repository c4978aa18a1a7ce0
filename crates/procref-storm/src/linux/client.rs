//! A client: a process that performs the workload that the seed determines for it.

use std::ffi::CString;
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use procref::{CrashSite, ServiceHandle, Services, SharedService};
use procref_testkit::observe::{self, Identity};
use procref_testkit::process::{Forked, exit_at_once, fork, kill_self};
use procref_testkit::query;
use serde::{Deserialize, Serialize};

use crate::linux::callbacks::Callbacks;
use crate::linux::event::{EventKind, PORT_LOST};
use crate::linux::operation_lock::OperationLock;
use crate::linux::reporter::Reporter;
use crate::linux::service::Service;
use crate::linux::workload::{self, CrashPlan, End, Start, Step, Via, Workload};

/// A client acquires no further handle while it has this many.
const MAX_HANDLES: usize = 3;

/// The parameters of a client, which it gets when it is forked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientSpec {
    pub seed: u64,
    /// Index of the service.
    pub index: usize,
    pub service: Service,
    pub slot: usize,
    /// Number of clients that the slot had before.
    pub nth: u64,
    /// Percentage of clients that kill themselves.
    pub doomed: u32,
    pub guardian: Identity,
    /// File for the trace of procref.
    pub trace: Option<PathBuf>,
}

impl ClientSpec {
    pub fn workload(&self) -> Workload {
        workload::client(
            self.seed,
            self.service.kind,
            self.slot,
            self.nth,
            self.doomed,
        )
    }
}

struct HeldHandle {
    handle: ServiceHandle,
    since: u64,
}

struct Client {
    spec: ClientSpec,
    reporter: Arc<Reporter>,
    callbacks: Arc<Callbacks>,
    service: SharedService,
    failing: Option<SharedService>,
    handles: Vec<HeldHandle>,
    /// A supervisor or service that this client starts kills itself, so that starts can fail.
    starts_may_die: bool,
    /// Number of threads before the first step.
    initial_threads: usize,
}

/// Runs a client. Returns its exit code.
pub fn main(spec: ClientSpec) -> i32 {
    let name = CString::new(spec.service.client_comm()).unwrap_or_default();
    let _ = rustix::thread::set_name(&name);
    observe::exit_with_guardian(spec.guardian);
    if let Some(path) = &spec.trace {
        trace(path);
    }
    // The workload causes the panics, so their messages are of no use.
    std::panic::set_hook(Box::new(|_| {}));
    let Workload {
        settings,
        steps,
        end,
        crash_plan,
    } = spec.workload();
    let reporter = Arc::new(Reporter::new(spec.index));
    let callbacks = Callbacks::new(
        spec.service.clone(),
        settings,
        spec.guardian,
        Arc::clone(&reporter),
    );
    let (service, failing) = match callbacks.build() {
        Ok(built) => built,
        Err(error) => {
            reporter.report(EventKind::Violation(format!("build: {error:?}")));
            return 1;
        }
    };
    match crash_plan {
        Some(CrashPlan::AtPoint(point, passed)) => procref::die_at(point.name, passed),
        Some(CrashPlan::After(time)) => {
            std::thread::spawn(move || {
                std::thread::sleep(time);
                kill_self();
            });
        }
        None => {}
    }
    let mut client = Client {
        spec,
        reporter,
        callbacks,
        service,
        failing,
        handles: Vec::new(),
        initial_threads: Identity::own().threads(),
        starts_may_die: matches!(
            crash_plan,
            Some(CrashPlan::AtPoint(point, _)) if point.site != CrashSite::Client
        ),
    };
    for step in steps {
        if client.spec.service.stop_file().exists() {
            break;
        }
        client.run_step(step);
    }
    client.finish(end);
    0
}

fn trace(path: &PathBuf) {
    let file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(path);
    if let Ok(file) = file {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(Arc::new(file))
            .init();
    }
}

fn drive<T>(via: Via, future: impl Future<Output = T>) -> T {
    match via {
        Via::Smol => smol::block_on(future),
        Via::Tokio => tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
            .block_on(future),
        Via::Blocking => pollster::block_on(future),
    }
}

/// Polls the future for this time, and then drops it. Returns `None` if it did not complete.
fn poll_for<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let timeout = async {
        smol::Timer::after(time).await;
        None
    };
    smol::block_on(smol::future::or(async { Some(future.await) }, timeout))
}

/// Calls `check` until it returns a value, at most ten times, with pauses of a millisecond.
fn retry<T>(mut check: impl FnMut() -> Option<T>) -> Option<T> {
    (0..10).find_map(|_| {
        let value = check();
        if value.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        value
    })
}

/// Checks that the instance answers on its port and is healthy.
fn query_instance(pid: u32, port: u16) -> Result<(), String> {
    match query::service(port) {
        Ok((answering, true)) if answering == pid => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

impl Client {
    fn run_step(&mut self, step: Step) {
        match step {
            Step::Pause(time) => return std::thread::sleep(time),
            Step::Hold(time) => std::thread::sleep(time),
            _ => {}
        }
        let operation = match OperationLock::shared(&self.spec.service) {
            Ok(operation) => operation,
            // The runner has removed the directory, so the storm has ended.
            Err(_) => exit_at_once(1),
        };
        self.reporter.report(EventKind::Step(format!("{step:?}")));
        match step {
            Step::Fork(time) => return self.fork(time, operation),
            Step::Exec(time) => return self.exec(time, operation),
            _ => self.perform(step),
        }
        drop(operation);
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Acquire(via, start) => {
                if self.handles.len() < MAX_HANDLES {
                    self.acquire(via, start);
                }
            }
            Step::TryJoin => self.try_join(),
            Step::AcquireCancelled(after) => {
                let since = observe::now_ns();
                self.callbacks.set_next_start(Start::Serve);
                let acquired = poll_for(after, self.service.acquire());
                if let Some(acquired) = acquired {
                    self.add_handle(since, acquired);
                }
            }
            Step::Crowd(count) => self.crowd(count),
            Step::Hold(_) => self.check(),
            Step::Drop => {
                self.handles.pop();
                self.report_if_released();
            }
            Step::DropAll => {
                self.handles.clear();
                self.report_if_released();
            }
            Step::Release(via) => self.release(via),
            Step::ReleaseCancelled(after) => {
                if let Some(held) = self.handles.pop() {
                    let since = observe::now_ns();
                    if let Some(Err(error)) = poll_for(after, held.handle.release()) {
                        self.report_error(since, "release", &error);
                    }
                    self.report_if_released();
                }
            }
            Step::Pin => self.pin(),
            Step::Unpin => {
                let since = observe::now_ns();
                match self.service.unpin_blocking() {
                    Ok(_) => self.reporter.report(EventKind::Unpinned),
                    Err(error) => self.report_error(since, "unpin", &error),
                }
            }
            Step::Status => self.status(),
            Step::Gc => self.gc(),
            Step::Pause(_) | Step::Fork(_) | Step::Exec(_) => {}
        }
    }

    fn report_error(&self, since: u64, operation: &str, error: &procref::Error) {
        let unhealthy = matches!(error, procref::Error::Unhealthy { .. });
        let port = match unhealthy && self.callbacks.has_lost_port() {
            true => PORT_LOST,
            false => "",
        };
        self.reporter.report(EventKind::Failed {
            since,
            intended: self.callbacks.has_failed()
                || (self.starts_may_die && operation == "acquire"),
            error: format!("{operation}: {error}{port}"),
        });
    }

    /// Sends a report if the client holds no handle.
    fn report_if_released(&self) {
        if self.handles.is_empty() {
            self.reporter.report(EventKind::ReleasedAll);
        }
    }

    fn add_handle(&mut self, since: u64, acquired: procref::Result<ServiceHandle>) {
        match acquired {
            Ok(handle) => {
                let pid = handle.pid();
                let answer = query_instance(pid, handle.port());
                self.handles.push(HeldHandle { handle, since });
                self.reporter
                    .report(EventKind::Acquired { since, pid, answer });
            }
            Err(error) => self.report_error(since, "acquire", &error),
        }
    }

    fn acquire(&mut self, via: Via, start: Start) {
        let since = observe::now_ns();
        self.callbacks.set_next_start(start);
        // For a command, a program that fails takes the place of a callback that fails.
        let (service, intended) = match (&self.failing, start) {
            (Some(failing), Start::Fail | Start::Panic) => (failing, true),
            _ => (&self.service, false),
        };
        let acquired = catch_unwind(AssertUnwindSafe(|| match via {
            Via::Blocking => service.acquire_blocking(),
            _ => drive(via, service.acquire()),
        }));
        match acquired {
            Ok(Err(error)) if intended => self.reporter.report(EventKind::Failed {
                since,
                intended,
                error: format!("acquire: {error}"),
            }),
            Ok(acquired) => self.add_handle(since, acquired),
            Err(_) => self.reporter.report(EventKind::Failed {
                since,
                intended: self.callbacks.has_failed(),
                error: "acquire: panicked".to_owned(),
            }),
        }
    }

    fn try_join(&mut self) {
        let since = observe::now_ns();
        match smol::block_on(self.service.try_join()) {
            Ok(Some(handle)) => self.add_handle(since, Ok(handle)),
            Ok(None) => {}
            Err(error) => self.report_error(since, "try_join", &error),
        }
    }

    fn crowd(&mut self, count: u32) {
        let since = observe::now_ns();
        self.callbacks.set_next_start(Start::Serve);
        let service = &self.service;
        let acquired: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..count)
                .map(|_| scope.spawn(|| service.acquire_blocking()))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|joined| joined.expect("no panic")).collect()
        });
        let before = self.handles.len();
        for acquired in acquired {
            self.add_handle(since, acquired);
        }
        let handles = self.handles.split_off(before);
        std::thread::scope(|scope| {
            for held in handles {
                scope.spawn(move || drop(held));
            }
        });
        self.report_if_released();
    }

    fn check(&self) {
        for HeldHandle { handle, since } in &self.handles {
            let (since, pid) = (*since, handle.pid());
            let answer = query_instance(pid, handle.port());
            self.reporter
                .report(EventKind::Checked { since, pid, answer });
        }
    }

    fn release(&mut self, via: Via) {
        let Some(held) = self.handles.pop() else {
            return;
        };
        let since = observe::now_ns();
        let released = match via {
            Via::Blocking => held.handle.release_blocking(),
            _ => drive(via, held.handle.release()),
        };
        if let Err(error) = released {
            self.report_error(since, "release", &error);
        }
        self.report_if_released();
    }

    fn pin(&self) {
        let Some(held) = self.handles.first() else {
            return;
        };
        let since = observe::now_ns();
        match held.handle.pin() {
            Ok(()) => self.reporter.report(EventKind::Pinned),
            Err(error) => self.report_error(since, "pin", &error),
        }
    }

    fn status(&self) {
        let since = observe::now_ns();
        if let Err(error) = self.service.status() {
            self.report_error(since, "status", &error);
        }
        let listed =
            Services::in_dir(self.spec.service.runtime_dir()).and_then(|services| services.list());
        if let Err(error) = listed {
            self.report_error(since, "list", &error);
        }
    }

    fn gc(&self) {
        let since = observe::now_ns();
        let collected = Services::in_dir(self.spec.service.runtime_dir())
            .and_then(|services| services.gc_blocking());
        match collected {
            Ok(collected) => {
                for error in collected.failures() {
                    self.report_error(since, "gc", error);
                }
            }
            Err(error) => self.report_error(since, "gc", &error),
        }
    }

    /// Waits briefly until no thread of this process is starting or exiting. Returns `false` if one still is.
    ///
    /// The standard library holds a lock while a thread starts or exits. If the lock is held at the moment of
    /// a fork, no thread of the child ever starts, and the child waits indefinitely for a thread of procref.
    /// A thread that has set its name has released the lock.
    fn can_fork(&self) -> bool {
        retry(|| self.has_only_known_threads().then_some(())).is_some()
    }

    /// Returns `true` if a thread of procref still undoes a cancelled operation.
    ///
    /// A thread sets its own name, so a thread that is just starting does not have it yet. Therefore a check of
    /// the names alone would miss such a thread, and this function also counts the threads.
    fn is_finishing_operation(&self) -> bool {
        retry(|| match Identity::own().threads_named("procref") {
            0 => self.has_only_known_threads().then_some(false),
            _ => Some(true),
        })
        .unwrap_or(true)
    }

    /// Returns `true` if the process has only its initial threads, and those that run until it exits.
    fn has_only_known_threads(&self) -> bool {
        let own = Identity::own();
        let permanent = ["async-io", "procref-timer"].map(|name| own.threads_named(name));
        own.threads() == self.initial_threads + permanent.iter().sum::<usize>()
    }

    fn fork(&mut self, time: Duration, operation: OperationLock) {
        if !self.can_fork() {
            return;
        }
        match fork() {
            Ok(Forked::Child) => {
                drop(operation);
                self.run_as_child(time);
                exit_at_once(0);
            }
            Ok(Forked::Parent(_)) => {}
            Err(error) => self
                .reporter
                .report(EventKind::Violation(format!("fork: {error}"))),
        }
    }

    fn run_as_child(&mut self, time: Duration) {
        observe::exit_with_guardian(self.spec.guardian);
        self.callbacks.drop_guard();
        self.handles.clear();
        self.reporter = Arc::new(Reporter::new(self.spec.index));
        let Ok(operation) = OperationLock::shared(&self.spec.service) else {
            return;
        };
        self.reporter.report(EventKind::Forked);
        self.callbacks.set_next_start(Start::Serve);
        let since = observe::now_ns();
        let acquired = self.service.acquire_blocking();
        self.add_handle(since, acquired);
        drop(operation);
        std::thread::sleep(time);
        let Ok(_operation) = OperationLock::shared(&self.spec.service) else {
            return;
        };
        self.check();
        self.release(Via::Blocking);
    }

    fn exec(&self, time: Duration, operation: OperationLock) {
        self.reporter.report(EventKind::Executing);
        let error = match std::env::current_exe() {
            Ok(program) => Command::new(program)
                .arg("sleep")
                .arg(time.as_micros().to_string())
                .arg(self.spec.guardian.to_string())
                // This marks the process as one of this storm.
                .arg(&self.spec.service.dir)
                .exec(),
            Err(error) => error,
        };
        self.reporter
            .report(EventKind::Violation(format!("exec: {error}")));
        drop(operation);
    }

    fn finish(mut self, end: End) {
        let Ok(operation) = OperationLock::shared(&self.spec.service) else {
            return;
        };
        self.reporter
            .report(EventKind::Step(format!("End::{end:?}")));
        match end {
            End::Drop => self.handles.clear(),
            End::Release => {
                while !self.handles.is_empty() {
                    self.release(Via::Smol);
                }
            }
            End::ExitAtOnce => exit_at_once(0),
        }
        self.report_if_released();
        if self.is_finishing_operation() {
            // When this process exits, the thread exits in the middle of its work, as if the process were
            // killed.
            self.reporter.report(EventKind::Unfinished);
        }
        drop(operation);
    }
}

/// Sleeps. This program replaces a client, and does not know of the reference that it holds.
pub fn sleep(mut args: impl Iterator<Item = String>) -> ExitCode {
    let time = args.next().and_then(|text| text.parse().ok());
    let guardian = args.next().and_then(|text| text.parse().ok());
    let (Some(time), Some(guardian)) = (time, guardian) else {
        return ExitCode::from(2);
    };
    observe::exit_with_guardian(guardian);
    std::thread::sleep(Duration::from_micros(time));
    ExitCode::SUCCESS
}

/// Cleans up a service: `acquire` and release, `unpin`, or `gc`.
pub fn clean_up(spec: ClientSpec, task: &str) -> io::Result<()> {
    observe::exit_with_guardian(spec.guardian);
    let settings = spec.workload().settings;
    let reporter = Arc::new(Reporter::new(spec.index));
    let callbacks = Callbacks::new(spec.service.clone(), settings, spec.guardian, reporter);
    let done = callbacks.build().and_then(|(service, _)| match task {
        "acquire" => service.acquire_blocking()?.release_blocking(),
        "unpin" => service.unpin_blocking().map(drop),
        _ => {
            let services = Services::in_dir(spec.service.runtime_dir())?;
            match services.gc_blocking()?.failures().first() {
                Some(error) => Err(error.to_string().into()),
                None => Ok(()),
            }
        }
    });
    done.map_err(|error| io::Error::other(error.to_string()))
}
