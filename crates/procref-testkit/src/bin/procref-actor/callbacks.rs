//! The callbacks of an actor's services, which behave as the test wants.

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

use crate::stage::{Gates, Voice};

/// What the callbacks of one service share.
struct Script {
    spec: ServiceSpec,
    gates: Arc<Gates>,
    voice: Arc<Voice>,
    starts: AtomicUsize,
    recoveries: AtomicUsize,
    preparations: AtomicUsize,
}

/// Tells when a callback's future is dropped before its end.
struct Unfinished<'a> {
    script: &'a Script,
    callback: Callback,
    finished: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.finished && !std::thread::panicking() {
            self.script.voice.tell(Event::Dropped(self.callback));
        }
    }
}

/// Builds the service with the callbacks that `spec` wants.
pub fn build(
    spec: &ServiceSpec,
    gates: &Arc<Gates>,
    voice: Arc<Voice>,
) -> procref::Result<SharedService> {
    let script = Arc::new(Script {
        spec: spec.clone(),
        gates: Arc::clone(gates),
        voice,
        starts: AtomicUsize::new(0),
        recoveries: AtomicUsize::new(0),
        preparations: AtomicUsize::new(0),
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
        builder = builder.command(execute(&script, command)?);
    }
    if !spec.start.is_empty() {
        let script = Arc::clone(&script);
        builder = builder.on_first_acquire(move || {
            let outcome = next(&script.spec.start, &script.starts);
            script.begin(Callback::Start, outcome == Outcome::PanicAtCall);
            bring_up(Arc::clone(&script), Callback::Start, outcome, None)
        });
    }
    if !spec.recover.is_empty() {
        let script = Arc::clone(&script);
        builder = builder.on_recover(move |old| {
            let outcome = next(&script.spec.recover, &script.recoveries);
            script.begin(Callback::Recover, outcome == Outcome::PanicAtCall);
            bring_up(Arc::clone(&script), Callback::Recover, outcome, Some(old))
        });
    }
    if let Some(outcome) = spec.stop {
        let script = Arc::clone(&script);
        builder = builder.on_last_release(move |info| {
            script.begin(Callback::Stop, false);
            bring_down(Arc::clone(&script), outcome, info)
        });
    }
    if !spec.on_ready.is_empty() {
        let script = Arc::clone(&script);
        builder = builder.on_ready(move |info| {
            let outcome = next(&script.spec.on_ready, &script.preparations);
            script.begin(Callback::OnReady, outcome == ReadyOutcome::PanicAtCall);
            prepare(Arc::clone(&script), outcome, info)
        });
    }
    if let Some(outcome) = spec.health {
        builder = builder.on_health_check(move |info: &ServiceInfo| {
            script.voice.tell(Event::Running(Callback::Health));
            judge(Arc::clone(&script), outcome, info.pid(), info.port())
        });
    }
    builder.build()
}

/// The command that `spec` wants.
fn execute(script: &Arc<Script>, spec: &CommandSpec) -> procref::Result<ServiceCommand> {
    let mut command = match spec.program.as_deref() {
        Some([program, args @ ..]) => ServiceCommand::new(program).args(args),
        _ => {
            let fake = &script.spec.fake;
            let mut command = ServiceCommand::new(&fake.program).args(fake.args());
            if spec.activated {
                command = command.arg("--activated");
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
        Some(ready) => command.ready(readiness(script, ready)),
    })
}

fn readiness(script: &Arc<Script>, spec: &ReadySpec) -> Ready {
    match spec {
        ReadySpec::AtOnce => Ready::at_once(),
        ReadySpec::Tcp => Ready::tcp(),
        ReadySpec::Http(path) => Ready::http(path),
        ReadySpec::Unix(path) => Ready::unix(path),
        ReadySpec::Log(regex) => Ready::log(regex),
        ReadySpec::Command(line) => Ready::command(&line[0], &line[1..]),
        ReadySpec::Notify => Ready::notify(),
        ReadySpec::Callback => {
            let script = Arc::clone(script);
            Ready::callback(move |_: &ServiceInfo| {
                let script = Arc::clone(&script);
                script.voice.tell(Event::Running(Callback::Ready));
                async move {
                    script.pass(Gate::Before(Callback::Ready)).await;
                    true
                }
            })
        }
    }
}

/// The outcome of this call: the next one, the last one for ever.
fn next<T: Clone>(outcomes: &[T], calls: &AtomicUsize) -> T {
    let call = calls.fetch_add(1, Ordering::Relaxed);
    outcomes[call.min(outcomes.len() - 1)].clone()
}

impl Script {
    /// What happens when the closure is called, before there is a future.
    fn begin(&self, callback: Callback, panics: bool) {
        let line = Line::Callback(std::process::id(), callback.name().to_owned());
        log::append(&self.spec.fake.log, &line).expect("write the log");
        self.voice.tell(Event::Running(callback));
        assert!(!panics, "told to panic");
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
            .ok_or_else(|| format!("the fake service said {line:?}"))?;
        let identity = Identity::of(child.id()).ok_or("the fake service is gone")?;
        self.voice.tell(Event::Served(identity));
        let mut info = ServiceInfo::new(child.id(), port);
        for (key, value) in &self.spec.metadata {
            info.set_metadata(key.clone(), value.clone());
        }
        Ok(info)
    }
}

/// A process that ends at once.
fn short_lived() -> std::io::Result<Child> {
    let own = std::env::current_exe()?;
    Command::new(own).arg("--end").spawn()
}

async fn bring_up(
    script: Arc<Script>,
    callback: Callback,
    outcome: Outcome,
    old: Option<ServiceInfo>,
) -> procref::Result<ServiceInfo> {
    let mut unfinished = Unfinished {
        script: &script,
        callback,
        finished: false,
    };
    script.pass(Gate::Before(callback)).await;
    let old_one = || old.clone().ok_or("there is no old instance");
    let result = match outcome {
        Outcome::Serve => script.serve(),
        Outcome::Replace => {
            procref::process::stop(old_one()?.pid(), 10_000);
            script.serve()
        }
        Outcome::Heal => {
            if let Some(file) = &script.spec.fake.unhealthy_file {
                fs::remove_file(file)?;
            }
            Ok(old_one()?)
        }
        Outcome::Same => Ok(old_one()?),
        Outcome::Fail(text) => Err(text.into()),
        Outcome::Panic | Outcome::PanicAtCall => panic!("told to panic"),
        Outcome::Die => kill_self(),
        Outcome::DeadPid => {
            let mut child = short_lived()?;
            child.wait()?;
            Ok(ServiceInfo::new(child.id(), 0))
        }
        Outcome::Zombie => {
            let child = short_lived()?;
            let identity = Identity::of(child.id()).ok_or("reaped by nobody")?;
            identity.wait_exit();
            Ok(ServiceInfo::new(child.id(), 0))
        }
        Outcome::Pid(pid) => Ok(ServiceInfo::new(pid, 0)),
        Outcome::OwnPid => Ok(ServiceInfo::new(std::process::id(), 0)),
    };
    script.pass(Gate::After(callback)).await;
    unfinished.finished = true;
    script.voice.tell(Event::Returning(callback));
    result
}

async fn bring_down(
    script: Arc<Script>,
    outcome: StopOutcome,
    info: ServiceInfo,
) -> procref::Result<()> {
    let mut unfinished = Unfinished {
        script: &script,
        callback: Callback::Stop,
        finished: false,
    };
    script.pass(Gate::Before(Callback::Stop)).await;
    let result = match outcome {
        StopOutcome::Terminate => {
            procref::process::terminate(info.pid());
            Ok(())
        }
        StopOutcome::Nothing => Ok(()),
        StopOutcome::Fail => Err("told to fail".into()),
        StopOutcome::Panic => panic!("told to panic"),
    };
    script.pass(Gate::After(Callback::Stop)).await;
    unfinished.finished = true;
    script.voice.tell(Event::Returning(Callback::Stop));
    result
}

async fn prepare(
    script: Arc<Script>,
    outcome: ReadyOutcome,
    info: ServiceInfo,
) -> procref::Result<()> {
    let mut unfinished = Unfinished {
        script: &script,
        callback: Callback::OnReady,
        finished: false,
    };
    script.pass(Gate::Before(Callback::OnReady)).await;
    let result = match outcome {
        ReadyOutcome::Pass => match query::service(info.port()) {
            Ok((pid, true)) if pid == info.pid() => Ok(()),
            other => Err(format!("the service said {other:?}").into()),
        },
        ReadyOutcome::Fail => Err("told to fail".into()),
        ReadyOutcome::Panic | ReadyOutcome::PanicAtCall => panic!("told to panic"),
        ReadyOutcome::Kill => {
            procref::process::kill(info.pid());
            Identity::of(info.pid()).inspect(|it| it.wait_exit());
            Ok(())
        }
    };
    script.pass(Gate::After(Callback::OnReady)).await;
    unfinished.finished = true;
    script.voice.tell(Event::Returning(Callback::OnReady));
    result
}

async fn judge(script: Arc<Script>, outcome: HealthOutcome, pid: u32, port: u16) -> bool {
    script.pass(Gate::Before(Callback::Health)).await;
    let healthy = match outcome {
        HealthOutcome::Query => query::service(port).is_ok_and(|answer| answer == (pid, true)),
        HealthOutcome::Always(healthy) => healthy,
        HealthOutcome::Panic => panic!("told to panic"),
    };
    script.voice.tell(Event::Returning(Callback::Health));
    script.pass(Gate::After(Callback::Health)).await;
    healthy
}
