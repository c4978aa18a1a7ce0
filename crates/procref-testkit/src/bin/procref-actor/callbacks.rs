//! The callbacks of an actor's services. A [`ServiceSpec`] describes their behavior.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use procref::{Mismatch, Orphan, Ready, ServiceCommand, ServiceInfo, SharedService};
use procref_testkit::log::{self, Line};
use procref_testkit::observe::Identity;
use procref_testkit::process::kill_self;
use procref_testkit::protocol::{
    self, Callback, CommandSpec, Event, Gate, HealthOutcome, Outcome, ReadyOutcome, ReadySpec,
    ServiceSpec, StopOutcome,
};
use procref_testkit::query;

use crate::reporter::Reporter;
use crate::state::Gates;

/// The state that the callbacks of one service share.
struct Callbacks {
    spec: ServiceSpec,
    gates: Arc<Gates>,
    reporter: Arc<Reporter>,
    starts: AtomicUsize,
    recoveries: AtomicUsize,
    on_ready_calls: AtomicUsize,
}

/// Reports that a callback's future was dropped, unless [`RunningCallback::finish`] was called.
struct RunningCallback<'a> {
    callbacks: &'a Callbacks,
    callback: Callback,
    finished: bool,
}

impl RunningCallback<'_> {
    fn finish(mut self) {
        self.finished = true;
        self.callbacks
            .reporter
            .report(Event::Returning(self.callback));
    }
}

impl Drop for RunningCallback<'_> {
    fn drop(&mut self) {
        if !self.finished && !std::thread::panicking() {
            self.callbacks
                .reporter
                .report(Event::Dropped(self.callback));
        }
    }
}

/// Builds the service with the callbacks of `spec`.
pub fn build(
    spec: &ServiceSpec,
    gates: &Arc<Gates>,
    reporter: Arc<Reporter>,
) -> procref::Result<SharedService> {
    let callbacks = Arc::new(Callbacks {
        spec: spec.clone(),
        gates: Arc::clone(gates),
        reporter,
        starts: AtomicUsize::new(0),
        recoveries: AtomicUsize::new(0),
        on_ready_calls: AtomicUsize::new(0),
    });
    let mut builder = SharedService::builder(&spec.name);
    if let Some(dir) = &spec.dir {
        builder = builder.base_dir(dir);
    }
    if let Some(limit) = spec.start_timeout_ms {
        builder = builder.start_timeout(Duration::from_millis(limit));
    }
    if let Some(limit) = spec.wait_timeout_ms {
        builder = builder.wait_timeout(Duration::from_millis(limit));
    }
    if let Some(limit) = spec.stop_timeout_ms {
        builder = builder.stop_timeout(match limit {
            u64::MAX => Duration::MAX,
            limit => Duration::from_millis(limit),
        });
    }
    if spec.keep_orphan {
        builder = builder.orphan(Orphan::Keep);
    }
    if let Some((text, mismatch)) = &spec.fingerprint {
        let mismatch = match mismatch {
            protocol::Mismatch::Refuse => Mismatch::Refuse,
            protocol::Mismatch::Join => Mismatch::Join,
            protocol::Mismatch::Separate => Mismatch::Separate,
        };
        builder = builder.fingerprint(text, mismatch);
    }
    builder = builder.linger(Duration::from_millis(spec.linger_ms));
    if let Some(command) = &spec.command {
        builder = builder.command(service_command(&callbacks, command)?);
    }
    if !spec.start.is_empty() {
        let callbacks = Arc::clone(&callbacks);
        builder = builder.on_first_acquire(move || {
            let outcome = next_outcome(&callbacks.spec.start, &callbacks.starts);
            callbacks.begin(Callback::Start, outcome == Outcome::PanicAtCall);
            start_instance(Arc::clone(&callbacks), Callback::Start, outcome, None)
        });
    }
    if !spec.recover.is_empty() {
        let callbacks = Arc::clone(&callbacks);
        builder = builder.on_recover(move |old| {
            let outcome = next_outcome(&callbacks.spec.recover, &callbacks.recoveries);
            callbacks.begin(Callback::Recover, outcome == Outcome::PanicAtCall);
            start_instance(
                Arc::clone(&callbacks),
                Callback::Recover,
                outcome,
                Some(old),
            )
        });
    }
    if let Some(outcome) = spec.stop {
        let callbacks = Arc::clone(&callbacks);
        builder = builder.on_last_release(move |info| {
            callbacks.begin(Callback::Stop, false);
            stop_instance(Arc::clone(&callbacks), outcome, info)
        });
    }
    if !spec.on_ready.is_empty() {
        let callbacks = Arc::clone(&callbacks);
        builder = builder.on_ready(move |info| {
            let outcome = next_outcome(&callbacks.spec.on_ready, &callbacks.on_ready_calls);
            callbacks.begin(Callback::OnReady, outcome == ReadyOutcome::PanicAtCall);
            run_on_ready(Arc::clone(&callbacks), outcome, info)
        });
    }
    if let Some(outcome) = spec.health {
        builder = builder.on_health_check(move |info: &ServiceInfo| {
            callbacks.reporter.report(Event::Running(Callback::Health));
            check_health(Arc::clone(&callbacks), outcome, info.pid(), info.port())
        });
    }
    builder.build()
}

/// The command of `spec`.
fn service_command(
    callbacks: &Arc<Callbacks>,
    spec: &CommandSpec,
) -> procref::Result<ServiceCommand> {
    let mut command = match spec.program.as_deref() {
        Some([program, args @ ..]) => ServiceCommand::new(program).args(args),
        _ => {
            let fake = &callbacks.spec.fake;
            let mut command = ServiceCommand::new(&fake.program).args(fake.args());
            if spec.activated {
                command = command.arg("--activated");
            } else if spec.ready == Some(ReadySpec::NotifyPort) {
                command = command.args(["--port", "--notify", "--notify-port"]);
            } else if spec.ready != Some(ReadySpec::AtOnce) {
                command = command.args(["--listen", "{port}"]);
            }
            command.args(&spec.args)
        }
    };
    for (key, value) in &spec.env {
        command = command.env(key, value);
    }
    if let Some(port) = spec.port {
        command = command.port(port);
    }
    if spec.activated {
        command = command.socket_activation();
    }
    if let Some(signal) = &spec.stop_signal {
        command = command.stop_signal(signal.parse()?);
    }
    if let Some((path, limit)) = &spec.log {
        command = command.log(path).log_limit(*limit);
    }
    if let Some(dir) = &spec.dir {
        command = command.current_dir(dir);
    }
    Ok(match &spec.ready {
        None => command,
        Some(ready) => command.ready(readiness(callbacks, ready)),
    })
}

fn readiness(callbacks: &Arc<Callbacks>, spec: &ReadySpec) -> Ready {
    match spec {
        ReadySpec::AtOnce => Ready::at_once(),
        ReadySpec::Tcp => Ready::tcp(),
        ReadySpec::Http(path) => Ready::http(path),
        ReadySpec::Unix(path) => Ready::unix(path),
        ReadySpec::Log(regex) => Ready::log(regex),
        ReadySpec::Command(line) => Ready::command(&line[0], &line[1..]),
        ReadySpec::Notify | ReadySpec::NotifyPort => Ready::notify(),
        ReadySpec::Callback => {
            let callbacks = Arc::clone(callbacks);
            Ready::callback(move |_: &ServiceInfo| {
                let callbacks = Arc::clone(&callbacks);
                callbacks.reporter.report(Event::Running(Callback::Ready));
                async move {
                    callbacks.pass(Gate::Before(Callback::Ready)).await;
                    true
                }
            })
        }
    }
}

/// The outcome of this call: the next one of the list, or the last one if the list has no more.
fn next_outcome<T: Clone>(outcomes: &[T], calls: &AtomicUsize) -> T {
    let call = calls.fetch_add(1, Ordering::Relaxed);
    outcomes[call.min(outcomes.len() - 1)].clone()
}

impl Callbacks {
    /// Records a call of a callback. This is the part before the callback returns its future.
    fn begin(&self, callback: Callback, panics: bool) {
        let line = Line::Callback(std::process::id(), callback.name().to_owned());
        log::append(&self.spec.fake.log, &line).expect("write the log");
        self.reporter.report(Event::Running(callback));
        assert!(!panics, "the test makes this callback panic");
    }

    async fn pass(&self, gate: Gate) {
        if self.spec.gates.contains(&gate) {
            self.gates.get(gate).pass().await;
        }
    }

    /// Starts the fake service and waits until it is ready.
    fn serve(&self) -> procref::Result<ServiceInfo> {
        let fake = &self.spec.fake;
        let mut child = Command::new(&fake.program)
            .arg("--port")
            .args(fake.args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line)?;
        let port = line
            .strip_prefix(&format!("ready {} ", child.id()))
            .and_then(|port| port.trim().parse().ok())
            .ok_or_else(|| format!("the fake service printed {line:?}"))?;
        let identity = Identity::of(child.id()).ok_or("the fake service has exited")?;
        self.reporter.report(Event::Served(identity));
        Ok(self.with_metadata(ServiceInfo::new(child.id(), port)))
    }

    fn with_metadata(&self, mut info: ServiceInfo) -> ServiceInfo {
        for (key, value) in &self.spec.metadata {
            info.set_metadata(key.clone(), value.clone());
        }
        info
    }
}

/// Starts a process that exits at once.
fn short_lived() -> std::io::Result<Child> {
    let own = std::env::current_exe()?;
    Command::new(own).arg("--end").spawn()
}

async fn start_instance(
    callbacks: Arc<Callbacks>,
    callback: Callback,
    outcome: Outcome,
    old: Option<ServiceInfo>,
) -> procref::Result<ServiceInfo> {
    let running = RunningCallback {
        callbacks: &callbacks,
        callback,
        finished: false,
    };
    callbacks.pass(Gate::Before(callback)).await;
    let old_instance = || old.clone().ok_or("there is no old instance");
    let result = match outcome {
        Outcome::Serve => callbacks.serve(),
        Outcome::Replace => {
            procref::process::stop(old_instance()?.pid(), 10_000);
            callbacks.serve()
        }
        Outcome::Heal => {
            if let Some(file) = &callbacks.spec.fake.unhealthy_file {
                fs::remove_file(file)?;
            }
            Ok(old_instance()?)
        }
        Outcome::Same => Ok(old_instance()?),
        Outcome::Fail(text) => Err(text.into()),
        Outcome::Panic | Outcome::PanicAtCall => panic!("the test makes this callback panic"),
        Outcome::Die => kill_self(),
        Outcome::DeadPid => {
            let mut child = short_lived()?;
            child.wait()?;
            Ok(ServiceInfo::new(child.id(), 0))
        }
        Outcome::Zombie => {
            let child = short_lived()?;
            let identity = Identity::of(child.id()).ok_or("the child was reaped")?;
            identity.wait_exit();
            Ok(ServiceInfo::new(child.id(), 0))
        }
        Outcome::Pid(pid) => Ok(callbacks.with_metadata(ServiceInfo::new(pid, 0))),
        Outcome::OwnPid => Ok(ServiceInfo::new(std::process::id(), 0)),
    };
    callbacks.pass(Gate::After(callback)).await;
    running.finish();
    result
}

async fn stop_instance(
    callbacks: Arc<Callbacks>,
    outcome: StopOutcome,
    info: ServiceInfo,
) -> procref::Result<()> {
    let running = RunningCallback {
        callbacks: &callbacks,
        callback: Callback::Stop,
        finished: false,
    };
    callbacks.pass(Gate::Before(Callback::Stop)).await;
    let result = match outcome {
        StopOutcome::Terminate => {
            procref::process::terminate(info.pid());
            Ok(())
        }
        StopOutcome::Nothing => Ok(()),
        StopOutcome::Fail => Err("the test makes this callback fail".into()),
        StopOutcome::Panic => panic!("the test makes this callback panic"),
    };
    callbacks.pass(Gate::After(Callback::Stop)).await;
    running.finish();
    result
}

async fn run_on_ready(
    callbacks: Arc<Callbacks>,
    outcome: ReadyOutcome,
    info: ServiceInfo,
) -> procref::Result<()> {
    let running = RunningCallback {
        callbacks: &callbacks,
        callback: Callback::OnReady,
        finished: false,
    };
    callbacks.pass(Gate::Before(Callback::OnReady)).await;
    let result = match outcome {
        ReadyOutcome::Pass => match query::service(info.port()) {
            Ok((pid, true)) if pid == info.pid() => Ok(()),
            other => Err(format!("the service answered {other:?}").into()),
        },
        ReadyOutcome::Fail => Err("the test makes this callback fail".into()),
        ReadyOutcome::Panic | ReadyOutcome::PanicAtCall => {
            panic!("the test makes this callback panic")
        }
        ReadyOutcome::Kill => {
            procref::process::kill(info.pid());
            Identity::of(info.pid()).inspect(|it| it.wait_exit());
            Ok(())
        }
    };
    callbacks.pass(Gate::After(Callback::OnReady)).await;
    running.finish();
    result
}

async fn check_health(
    callbacks: Arc<Callbacks>,
    outcome: HealthOutcome,
    pid: u32,
    port: u16,
) -> bool {
    callbacks.pass(Gate::Before(Callback::Health)).await;
    let healthy = match outcome {
        HealthOutcome::Query => query::service(port).is_ok_and(|answer| answer == (pid, true)),
        HealthOutcome::Always(healthy) => healthy,
        HealthOutcome::Panic => panic!("the test makes this callback panic"),
    };
    callbacks
        .reporter
        .report(Event::Returning(Callback::Health));
    callbacks.pass(Gate::After(Callback::Health)).await;
    healthy
}
