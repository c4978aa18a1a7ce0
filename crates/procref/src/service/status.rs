use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use super::holder::Holder;
use crate::engine::describe::describe;
use crate::engine::platform::Blocker;
use crate::error::Result;
use crate::host::Host;
use crate::info::ServiceInfo;
use crate::kernel::{
    self, Ended, Fault, Inspection, Instance, Kernel as _, Missing, Native, Object as _,
};
use crate::key::ServiceKey;
use crate::process::{self, proc_info};
use crate::record::{self, Record};

/// The status of a service at one moment, as [`SharedService::status`](crate::SharedService::status) returns it.
///
/// The status comes from the kernel object and from `/proc`, so it is right after any crash. Only the metadata of the
/// instance is in a file.
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
/// // The processes that use it.
/// println!("{} clients", status.clients());
/// for holder in status.holders() {
///     println!("pid {}", holder.pid());
/// }
/// println!("and {} unknown processes", status.unknown_holders());
///
/// // What happens after the last of them.
/// if status.is_pinned() {
///     println!("pinned");
/// } else if let Some(left) = status.linger_left() {
///     println!("lingers for {left:?} of {:?}", status.linger());
/// }
/// println!("killed {:?} after its stop signal", status.grace());
/// println!("supervisor {:?}, transition by {:?}", status.supervisor(), status.transition());
///
/// // How it was started.
/// println!("{:?}, logs to {:?}", status.command_line(), status.log_path());
/// println!("fingerprint {:?}, settings {:?}", status.fingerprint(), status.definition());
/// if let Some(exit) = status.exit_status() {
///     println!("it exited by itself: {exit}");
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

/// The state of a service.
///
/// ```no_run
/// # fn example(service: procref::SharedService) -> procref::Result<()> {
/// use procref::State;
///
/// match service.status()?.state() {
///     State::Ready => println!("it can be joined"),
///     State::Starting | State::Stopping => println!("a process is starting or stopping it"),
///     State::Dead => println!("the next acquire restarts it"),
///     other => println!("it is {other}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The service has no instance.
    Absent,
    /// An instance is being started or recovered.
    Starting,
    /// The instance can be joined. Its health was not checked.
    Ready,
    /// The instance is being stopped, and is not dead yet.
    Stopping,
    /// The instance's process is dead. The next acquire replaces it.
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

/// Reads the status of a service. Creates nothing.
pub(crate) fn read(key: &ServiceKey) -> Result<Status> {
    pollster::block_on(async {
        let Some(object) = Native.open(key, Missing::Ignore).await? else {
            return Ok(Status::absent());
        };
        let inspection = match object.inspect().await {
            Ok(inspection) => inspection,
            Err(Fault::Removed) => return Ok(Status::absent()),
            Err(Fault::Refused(error)) => return Err(error),
        };
        let Some(instance) = &inspection.snapshot.instance else {
            return Ok(Status::new(&inspection, None, None));
        };
        let info = describe(&Host, key, instance).await;
        let record = record::read(key);
        let record = record.filter(|record| record.identity() == Some(instance.identity));
        Ok(Status::new(&inspection, Some(info), record))
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

    fn new(inspection: &Inspection, info: Option<ServiceInfo>, record: Option<Record>) -> Self {
        let blocker = inspection
            .transition
            .map(|pid| Blocker::of(pid, inspection.supervisor));
        let snapshot = &inspection.snapshot;
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
        let mut unknown_holders = inspection.unnamed;
        for &pid in &inspection.holders {
            match Holder::find(pid) {
                Ok(holder) => holders.extend(holder),
                // The process exists, but `/proc` does not show it.
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
            linger_left: linger_left(inspection),
            grace,
            supervisor: inspection.supervisor.filter(|&pid| process::is_alive(pid)),
            supervisor_suspended: inspection.supervisor.is_some_and(process::is_suspended),
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

    /// Returns the number of references. A process has one reference. A process that acquires the service
    /// again after `exec` counts twice, because it still holds the first reference.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.clients
    }

    /// Returns the processes that hold a reference, ordered by pid.
    ///
    /// The kernel object names up to a hundred of them. A process that has exited is never listed.
    #[must_use]
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// Returns the number of references whose holders are unknown: those beyond a hundred, those of a
    /// [`RefCounter`](crate::RefCounter), and those of processes that `/proc` does not show.
    #[must_use]
    pub fn unknown_holders(&self) -> u32 {
        self.unknown_holders
    }

    /// Returns the number of the last instance. Returns 0 before the first one. See
    /// [`ServiceHandle::generation`](crate::ServiceHandle::generation).
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the state of the service.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns the instance, if there is one.
    #[must_use]
    pub fn instance(&self) -> Option<&ServiceInfo> {
        self.instance.as_ref()
    }

    /// Returns when the instance's process was started, to a hundredth of a second. Returns `None` if there is no
    /// instance, or the instance has no process on this machine.
    #[must_use]
    pub fn started_at(&self) -> Option<SystemTime> {
        self.started_at
    }

    /// Returns how long ago the instance's process was started, including the time in which the machine was suspended.
    /// Returns `None` if there is no instance, if the instance has no process on this machine, or if it is dead.
    #[must_use]
    pub fn uptime(&self) -> Option<Duration> {
        self.uptime
    }

    /// Returns how long the instance lingers after its last client. Returns zero if it does not. See
    /// [`linger`](crate::SharedServiceBuilder::linger).
    #[must_use]
    pub fn linger(&self) -> Duration {
        self.linger
    }

    /// Returns the rest of the time for which the instance lingers. Returns `None` unless it lingers now: it has no
    /// client, and is not pinned.
    ///
    /// The kernel records in whole seconds when the last client left, so the result may be up to one second too short.
    #[must_use]
    pub fn linger_left(&self) -> Option<Duration> {
        self.linger_left
    }

    /// Returns the pid of the supervisor, which stops the service after its last client. Returns `None` if there is
    /// none: with [`Orphan::Keep`](crate::Orphan::Keep), after the supervisor was killed, and on Windows.
    #[must_use]
    pub fn supervisor(&self) -> Option<u32> {
        self.supervisor
    }

    /// Returns `true` if `SIGSTOP` or a debugger has suspended the supervisor. The service is then not stopped before a
    /// process continues the supervisor. Clients that wait for the supervisor continue it.
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

    /// Returns the pid of the process that is starting, stopping or recovering the service. While a command starts,
    /// this is the client that starts it, and not the supervisor.
    #[must_use]
    pub fn transition(&self) -> Option<u32> {
        self.transition
    }

    /// Returns `true` if Ctrl-Z, `SIGSTOP` or a debugger has suspended the process that is starting, stopping or
    /// recovering the service. All clients wait until that process continues or exits.
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

    /// Returns how the instance exited. Returns `Some` only for a [`command`](crate::SharedServiceBuilder::command)
    /// that exited by itself, until it is replaced.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.ended.map(kernel::exit_status)
    }

    /// Returns the fingerprint of the instance, if its starter has set one; see
    /// [`fingerprint`](crate::SharedServiceBuilder::fingerprint).
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// Returns how long the instance may take to stop before it is killed. Returns `None` if a callback has started it.
    #[must_use]
    pub fn grace(&self) -> Option<Duration> {
        self.grace
    }

    /// Returns the settings that the instance's starter shares with other clients; see
    /// [`definition`](crate::SharedServiceBuilder::definition).
    #[must_use]
    pub fn definition(&self) -> &BTreeMap<String, String> {
        &self.definition
    }

    /// Returns the program and the arguments of a [`command`](crate::SharedServiceBuilder::command), as its starter has
    /// set them. The slice is empty if a callback has started the instance.
    #[must_use]
    pub fn command_line(&self) -> &[String] {
        &self.command_line
    }

    /// Returns the file to which the output of a [`command`](crate::SharedServiceBuilder::command) goes. Returns `None`
    /// if a callback has started the instance.
    #[must_use]
    pub fn log_path(&self) -> Option<&Path> {
        self.log_path.as_deref()
    }

    /// Returns `true` if the service is pinned; see [`ServiceHandle::pin`](crate::ServiceHandle::pin).
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }
}

/// Returns the rest of the time for which a service lingers.
///
/// While it lingers, the last step on its object is that of its supervisor, which found no client left. So the
/// linger time began at that step.
fn linger_left(inspection: &Inspection) -> Option<Duration> {
    let snapshot = &inspection.snapshot;
    if snapshot.clients > 0 || snapshot.locked || snapshot.pinned || !snapshot.lingers() {
        return None;
    }
    let linger = Duration::from_millis(snapshot.instance?.linger_ms.into());
    // If the clock was set back since then, this returns the whole time.
    let passed = inspection.changed_at.elapsed().unwrap_or_default();
    Some(linger.saturating_sub(passed))
}
