use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use crate::engine::describe::describe;
use crate::engine::platform::Blocker;
use crate::error::Result;
use crate::host::Host;
use crate::info::ServiceInfo;
use crate::kernel::{
    Ended, Fault, Inspection, Instance, Kernel as _, Missing, Native, Object as _,
};
use crate::key::ServiceKey;
use crate::process::{self, Process, proc_info};
use crate::record::{self, Record};

/// What the kernel tells about a service at one moment. Made by
/// [`SharedService::status`](crate::SharedService::status).
///
/// All of it comes from the kernel's own object and from `/proc`, so that a crash makes none of it
/// wrong; only an instance's metadata is in a file.
///
/// ```no_run
/// # fn example(service: procref::SharedService) -> procref::Result<()> {
/// let status = service.status()?;
/// println!("{}, generation {}", status.state(), status.generation());
/// if let Some(instance) = status.instance() {
///     println!("pid {}, port {}", instance.pid(), instance.port());
///     println!("since {:?}, for {:?}", status.started_at(), status.uptime());
/// }
///
/// // Who uses it ...
/// println!("{} clients", status.clients());
/// for holder in status.holders() {
///     println!("pid {}", holder.pid());
/// }
/// println!("and {} that nobody can name", status.unknown_holders());
///
/// // ... what becomes of it without them ...
/// if status.is_pinned() {
///     println!("pinned");
/// } else if let Some(left) = status.linger_left() {
///     println!("warm for {left:?} of {:?}", status.linger());
/// }
/// println!("it may take {:?} to stop", status.grace());
/// println!("stopped by {:?}, being changed by {:?}", status.supervisor(), status.transition());
///
/// // ... and what it was started as.
/// println!("{:?}, logs to {:?}", status.command_line(), status.log_path());
/// println!("fingerprint {:?}, settings {:?}", status.fingerprint(), status.definition());
/// if let Some(exit) = status.exit_status() {
///     println!("it ended by itself: {exit}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Status {
    clients: u32,
    holders: Vec<Holder>,
    unknown_holders: u32,
    generation: u32,
    state: State,
    instance: Option<ServiceInfo>,
    started_at: Option<SystemTime>,
    uptime: Option<Duration>,
    linger: Duration,
    linger_left: Option<Duration>,
    grace: Option<Duration>,
    supervisor: Option<u32>,
    supervisor_suspended: bool,
    transition: Option<u32>,
    transition_suspended: bool,
    ended: Option<Ended>,
    pinned: bool,
    fingerprint: Option<String>,
    definition: BTreeMap<String, String>,
    command_line: Vec<String>,
    log_path: Option<PathBuf>,
}

/// How far a service is.
///
/// ```no_run
/// # fn example(service: procref::SharedService) -> procref::Result<()> {
/// use procref::State;
///
/// match service.status()?.state() {
///     State::Ready => println!("it can be joined"),
///     State::Starting | State::Stopping => println!("somebody is at it"),
///     State::Dead => println!("the next acquire starts it anew"),
///     other => println!("it is {other}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// There is no instance.
    Absent,
    /// An instance is being started or recovered.
    Starting,
    /// The instance can be joined. Its health was not asked for.
    Ready,
    /// The instance has been told to stop and is not gone yet.
    Stopping,
    /// The instance's process has died; the next acquire replaces it.
    Dead,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Absent => "absent",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Dead => "dead",
        })
    }
}

/// A process that holds a reference to a service.
///
/// ```no_run
/// # fn example(service: procref::SharedService) -> procref::Result<()> {
/// for holder in service.status()?.holders() {
///     let command = holder.command().unwrap_or("(it is ending)");
///     println!("pid {}: {command}, a process since {:?}", holder.pid(), holder.since());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pid: u32,
    command: Option<String>,
    since: SystemTime,
    suspended: bool,
}

impl Holder {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its program and arguments on one line of up to 4 KiB; what is no UTF-8 is replaced. `None`
    /// where it has none, or is about to end.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// When the **process** was started, to a hundredth of a second. When it took its reference
    /// nobody keeps.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Returns `true` if the process is suspended: by Ctrl-Z, `SIGSTOP` or a debugger.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// for holder in service.status()?.holders().iter().filter(|it| it.is_suspended()) {
    ///     println!("process {} is suspended, and holds the service", holder.pid());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// `Ok(None)`: it has ended by now.
    fn find(pid: u32) -> Result<Option<Self>> {
        let found = Process::find(pid)?;
        Ok(found.map(|process| Self {
            pid,
            command: proc_info::command_line(pid),
            since: proc_info::started_at(process.identity().start),
            suspended: process::is_suspended(pid),
        }))
    }
}

/// The status of a service. Creates nothing.
pub(crate) fn look(key: &ServiceKey) -> Result<Status> {
    pollster::block_on(async {
        let Some(object) = Native.open(key, Missing::Ignore).await? else {
            return Ok(Status::absent());
        };
        let told = match object.inspect().await {
            Ok(told) => told,
            Err(Fault::Removed) => return Ok(Status::absent()),
            Err(Fault::Refused(error)) => return Err(error),
        };
        let Some(instance) = &told.snapshot.instance else {
            return Ok(Status::new(&told, None, None));
        };
        let info = describe(&Host, key, instance).await;
        let record = record::read(key);
        let record = record.filter(|record| record.identity() == Some(instance.identity));
        Ok(Status::new(&told, Some(info), record))
    })
}

impl Status {
    fn absent() -> Self {
        Self {
            clients: 0,
            holders: Vec::new(),
            unknown_holders: 0,
            generation: 0,
            state: State::Absent,
            instance: None,
            started_at: None,
            uptime: None,
            linger: Duration::ZERO,
            linger_left: None,
            grace: None,
            supervisor: None,
            supervisor_suspended: false,
            transition: None,
            transition_suspended: false,
            ended: None,
            pinned: false,
            fingerprint: None,
            definition: BTreeMap::new(),
            command_line: Vec::new(),
            log_path: None,
        }
    }

    fn new(told: &Inspection, info: Option<ServiceInfo>, record: Option<Record>) -> Self {
        let blocker = told.transition.map(|pid| Blocker::of(pid, told.supervisor));
        let snapshot = &told.snapshot;
        let fingerprint = record
            .as_ref()
            .and_then(Record::fingerprint)
            .map(str::to_owned);
        let grace = record
            .as_ref()
            .and_then(Record::stop)
            .map(|stop| stop.grace);
        let definition = record.as_ref().map(Record::definition);
        let definition = definition.cloned().unwrap_or_default();
        let (command_line, log_path) = match record.and_then(Record::into_executed) {
            Some(executed) => (executed.line, Some(executed.log)),
            None => (Vec::new(), None),
        };
        let state = match (&snapshot.instance, &info) {
            (Some(Instance { stopping: true, .. }), _) => State::Stopping,
            (Some(Instance { ready: false, .. }), _) => State::Starting,
            (Some(_), Some(info)) if info.pid() != 0 && !info.is_alive() => State::Dead,
            (Some(_), _) => State::Ready,
            (None, _) if snapshot.locked => State::Starting,
            (None, _) => State::Absent,
        };
        let mut holders = Vec::new();
        let mut unknown_holders = told.unnamed;
        for &pid in &told.holders {
            match Holder::find(pid) {
                Ok(holder) => holders.extend(holder),
                // It is there, but `/proc` does not show it.
                Err(_) => unknown_holders += 1,
            }
        }
        let start = snapshot.instance.map_or(0, |it| it.identity.start);
        let local = start != 0;
        let alive = local && info.as_ref().is_some_and(ServiceInfo::is_alive);
        let linger_ms = snapshot.instance.map_or(0, |it| it.linger_ms);
        Self {
            clients: snapshot.clients,
            holders,
            unknown_holders,
            generation: snapshot.generation.into(),
            state,
            instance: info,
            started_at: local.then(|| proc_info::started_at(start)),
            uptime: alive.then(|| proc_info::age(start)),
            linger: Duration::from_millis(linger_ms.into()),
            linger_left: linger_left(told),
            grace,
            supervisor: told.supervisor.filter(|&pid| process::is_alive(pid)),
            supervisor_suspended: told.supervisor.is_some_and(process::is_suspended),
            transition: blocker.map(|it| it.pid),
            transition_suspended: blocker.is_some_and(|it| it.suspended),
            ended: snapshot.ended,
            pinned: snapshot.pinned,
            fingerprint,
            definition,
            command_line,
            log_path,
        }
    }

    /// Processes that hold a reference. A program that took the place of another by `exec` and
    /// acquired anew counts twice, because it holds what the other one held.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.clients
    }

    /// The processes that hold a reference, ordered by pid.
    ///
    /// The kernel names up to a hundred of them at a time. It is never wrong about one: a process that
    /// has ended, in whatever way, holds nothing and is not listed.
    #[must_use]
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// References that are counted and whose holders are not known: those beyond a hundred, those
    /// of a [`RefCounter`](crate::RefCounter), and those of processes that `/proc` does not show.
    #[must_use]
    pub fn unknown_holders(&self) -> u32 {
        self.unknown_holders
    }

    /// Which instance it is, or was; 0 before the first. See
    /// [`ServiceHandle::generation`](crate::ServiceHandle::generation).
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The instance, if there is one.
    #[must_use]
    pub fn instance(&self) -> Option<&ServiceInfo> {
        self.instance.as_ref()
    }

    /// When the instance's process was started, to a hundredth of a second. `None` without an
    /// instance, and for one that is no process of this machine.
    #[must_use]
    pub fn started_at(&self) -> Option<SystemTime> {
        self.started_at
    }

    /// How long ago the instance's process was started, time in which the machine slept included.
    /// `None` also when it is dead.
    #[must_use]
    pub fn uptime(&self) -> Option<Duration> {
        self.uptime
    }

    /// How long the instance is kept warm after its last client; zero where it is not. See
    /// [`linger`](crate::SharedServiceBuilder::linger).
    #[must_use]
    pub fn linger(&self) -> Duration {
        self.linger
    }

    /// How long it will still be kept warm. `Some` only while nobody holds it and it is kept.
    ///
    /// The kernel notes in whole seconds when the last client left, so this can be up to a second too
    /// short.
    #[must_use]
    pub fn linger_left(&self) -> Option<Duration> {
        self.linger_left
    }

    /// The process that will stop the service when its clients are gone. `None` where there is none:
    /// with [`Orphan::Keep`](crate::Orphan::Keep), or somebody killed it.
    #[must_use]
    pub fn supervisor(&self) -> Option<u32> {
        self.supervisor
    }

    /// Returns `true` if the supervisor is suspended: by `SIGSTOP` or a debugger. The service is not stopped then before
    /// a process continues the supervisor. Clients that wait for the supervisor do that.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// let status = service.status()?;
    /// if status.is_supervisor_suspended() {
    ///     println!("continue process {:?}", status.supervisor());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_supervisor_suspended(&self) -> bool {
        self.supervisor_suspended
    }

    /// The process that is starting, stopping or recovering the service right now. While a command starts, it is the
    /// client that has started it, and not the supervisor.
    #[must_use]
    pub fn transition(&self) -> Option<u32> {
        self.transition
    }

    /// Returns `true` if the process that is starting, stopping or recovering the service is suspended: by Ctrl-Z,
    /// `SIGSTOP` or a debugger. All clients wait until it is continued, or ends.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// let status = service.status()?;
    /// if status.is_transition_suspended() {
    ///     println!("process {:?} holds the lock, and is suspended", status.transition());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_transition_suspended(&self) -> bool {
        self.transition_suspended
    }

    /// How the instance ended, if it died by itself, procref had executed it (a
    /// [`command`](crate::SharedServiceBuilder::command)), and nobody has replaced it yet.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.ended.map(Ended::status)
    }

    /// What its starter said that the instance is; see
    /// [`fingerprint`](crate::SharedServiceBuilder::fingerprint).
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// The time that the instance may take to stop before it is killed. `None` if a callback started it.
    #[must_use]
    pub fn grace(&self) -> Option<Duration> {
        self.grace
    }

    /// The settings that its starter wanted others to know; see
    /// [`definition`](crate::SharedServiceBuilder::definition).
    #[must_use]
    pub fn definition(&self) -> &BTreeMap<String, String> {
        &self.definition
    }

    /// The program that procref executed and its arguments, as the starter's
    /// [`command`](crate::SharedServiceBuilder::command) named them; empty if a callback started it.
    #[must_use]
    pub fn command_line(&self) -> &[String] {
        &self.command_line
    }

    /// Where the output goes of a program that procref executed.
    #[must_use]
    pub fn log_path(&self) -> Option<&Path> {
        self.log_path.as_deref()
    }

    /// Whether it is kept when nobody holds it; see [`ServiceHandle::pin`](crate::ServiceHandle::pin).
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }
}

/// The last step on the object of a service that is kept warm was its supervisor's, which saw that
/// nobody was left.
fn linger_left(told: &Inspection) -> Option<Duration> {
    let snapshot = &told.snapshot;
    if snapshot.clients > 0 || snapshot.locked || snapshot.pinned || !snapshot.lingers() {
        return None;
    }
    let linger = Duration::from_millis(snapshot.instance?.linger_ms.into());
    // A clock that was set back since then leaves the whole time.
    let passed = told.changed_at.elapsed().unwrap_or_default();
    Some(linger.saturating_sub(passed))
}
