//! The local side of a link: the service that it runs, its fuse, its own service, and its signals.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use procref::{Mismatch, Ready, ServiceCommand, SharedService, State, StopSignal};
use procref_config::value_parsers::{Port, When};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::cluster::PASSWORD;
use crate::drive::Surroundings;
use crate::error::{Error, Result};
use crate::fuse::{Fuse, NEVER};
use crate::link::{Action, Event};
use crate::notify;
use crate::timing::Millis;

mod pin;

/// The pause before an operation is repeated that the system refused.
const PAUSE: Duration = Duration::from_millis(200);

/// The service of a host, as the link runs it.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) name: String,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) command: Vec<OsString>,
    pub(crate) port: Option<Port>,
    pub(crate) ready: Option<When>,
    pub(crate) stop_signal: Option<StopSignal>,
    pub(crate) grace: Duration,
    pub(crate) start_timeout: Duration,
    /// The address for the clients of all hosts, with `{host}` and `{port}`.
    pub(crate) advertise: Option<String>,
    /// The value of `{host}`.
    pub(crate) advertised_host: String,
    /// The variables of the environment that are templates.
    pub(crate) filled: Vec<String>,
}

impl Local {
    /// Returns the name of the local service that runs the program. Only the link holds it.
    pub(crate) fn instance(&self) -> String {
        format!("{}@instance", self.name)
    }

    fn command(&self, fence: i64) -> Option<ServiceCommand> {
        let (program, args) = self.command.split_first()?;
        let mut command = ServiceCommand::new(program)
            .args(args)
            .env("PROCREF_FENCE", fence.to_string())
            .env_remove(PASSWORD)
            .keep_log();
        for name in &self.filled {
            if let Some(template) = std::env::var_os(name) {
                command = command.env(name, template);
            }
        }
        command = match self.port {
            Some(Port::Fixed(port)) => command.env("PORT", "{port}").port(port),
            Some(Port::Auto) => command.env("PORT", "{port}"),
            None => command,
        };
        command = match &self.ready {
            Some(When::Asked(ready)) => command.ready(ready.clone()),
            Some(When::Socket(path)) => command.ready(Ready::unix(path)),
            Some(When::Started) => command.ready(Ready::at_once()),
            None => command,
        };
        // The helper of procref prepares the data directory first.
        command = procref_config::prestart::ready_after_helper(command, &self.command);
        if let Some(signal) = self.stop_signal {
            command = command.stop_signal(signal);
        }
        Some(command)
    }

    /// Returns the service for a start with this fencing token.
    ///
    /// The fingerprint prevents that the service joins an instance that a dead link has left, and that its supervisor is
    /// about to stop: that instance has an older token.
    fn startable(&self, fence: i64) -> procref::Result<SharedService> {
        let command = self.command(fence).ok_or("the command names no program")?;
        SharedService::builder(&self.instance())
            .base_dir(&self.runtime_dir)
            .command(command)
            .fingerprint(fence.to_string(), Mismatch::Refuse)
            .stop_timeout(self.grace)
            .start_timeout(self.start_timeout)
            .build()
    }

    /// Fails if the library refuses a setting, such as the name.
    pub(crate) fn check(&self) -> procref::Result<()> {
        self.startable(0).map(|_| ())
    }

    /// Returns the service, which cannot be started.
    fn stoppable(&self) -> procref::Result<SharedService> {
        SharedService::builder(&self.instance())
            .base_dir(&self.runtime_dir)
            .stop_timeout(self.grace)
            .build()
    }

    fn address(&self, port: u16) -> String {
        let default = if port == 0 { "{host}" } else { "{host}:{port}" };
        let template = self.advertise.as_deref().unwrap_or(default);
        template
            .replace("{host}", &self.advertised_host)
            .replace("{port}", &port.to_string())
    }

    /// Runs the service until it exits or `stop` is closed, and returns when all of its processes are dead.
    async fn run(
        self,
        fence: i64,
        events: mpsc::UnboundedSender<Event>,
        mut stop: oneshot::Receiver<()>,
    ) {
        self.stop_until_dead().await;
        let start = async { self.startable(fence)?.acquire().await };
        // The start ends with its future.
        let started = tokio::select! {
            started = start => Some(started),
            _ = &mut stop => None,
        };
        match started {
            Some(Ok(service)) => {
                let address = self.address(service.port());
                let _ = events.send(Event::Ready(address));
                tokio::select! {
                    dead = service.wait_dead() => match dead {
                        Ok(()) => report(format_args!("service `{}` has exited", self.name)),
                        Err(cause) => report(cause),
                    },
                    _ = &mut stop => {}
                }
                if let Err(cause) = service.release().await {
                    report(cause);
                }
            }
            Some(Err(cause)) => report(cause),
            None => {}
        }
        self.stop_until_dead().await;
        let _ = events.send(Event::Exited);
    }

    /// Returns when no process of the service lives on this host.
    async fn stop_until_dead(&self) {
        let stop = || async { self.stoppable()?.force_stop().await };
        while let Err(cause) = stop().await {
            report(cause);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The host of a link.
pub(crate) struct Host {
    local: Local,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    /// The service ends when this is dropped.
    running: Option<oneshot::Sender<()>>,
    fuse: watch::Sender<Option<[Millis; 2]>>,
    announced: watch::Sender<bool>,
    pinned: watch::Sender<bool>,
    terminate: Signal,
    interrupt: Signal,
}

impl Host {
    /// Prepares the host. `fuse` receives the times of the fuse, and `announced` whether the service is ready.
    pub(crate) fn new(
        local: Local,
        fuse: watch::Sender<Option<[Millis; 2]>>,
        announced: watch::Sender<bool>,
    ) -> Result<Self> {
        let handle =
            |kind| signal(kind).map_err(|cause| Error::new(format!("handle signals: {cause}")));
        let (sender, events) = mpsc::unbounded_channel();
        let (pinned, wanted) = watch::channel(false);
        tokio::spawn(pin::follow(local.clone(), announced.subscribe(), wanted));
        Ok(Self {
            local,
            sender,
            events,
            running: None,
            fuse,
            announced,
            pinned,
            terminate: handle(SignalKind::terminate())?,
            interrupt: handle(SignalKind::interrupt())?,
        })
    }
}

impl Surroundings for Host {
    fn perform(&mut self, action: Action) {
        match action {
            Action::Fuse { link, kill } => {
                self.fuse.send_replace(Some([link, kill]));
            }
            Action::Disarm => {
                self.fuse.send_replace(Some([NEVER; 2]));
            }
            Action::Start(fence) => {
                let (sender, stop) = oneshot::channel();
                self.running = Some(sender);
                tokio::spawn(self.local.clone().run(fence, self.sender.clone(), stop));
            }
            Action::StopService => self.running = None,
            Action::StopLeftover => {
                let (local, sender) = (self.local.clone(), self.sender.clone());
                tokio::spawn(async move {
                    local.stop_until_dead().await;
                    let _ = sender.send(Event::LeftoverStopped);
                });
            }
            Action::Wait => {
                let text = format!(
                    "waiting for the host that may run `{}` (run `procref-etcd serve` there)",
                    self.local.name
                );
                report(&text);
                notify::status(&text);
            }
            Action::Announce(found) => {
                // Tests and people read this line in the log.
                println!(
                    "ready: address={} fence={} host={}",
                    found.instance.address, found.fence, found.instance.host
                );
                if let Err(cause) = notify::ready(&found) {
                    report(cause);
                }
                self.announced.send_replace(true);
            }
            Action::Keep(keep) => {
                self.pinned.send_replace(keep);
            }
            // The driver performs these.
            Action::Perform(_) | Action::Revoke(_) | Action::Exit(_) => {}
        }
    }

    async fn event(&mut self) -> Event {
        tokio::select! {
            Some(event) = self.events.recv() => event,
            Some(()) = self.terminate.recv() => Event::Stop,
            Some(()) = self.interrupt.recv() => Event::Stop,
        }
    }
}

/// Arms the fuse with each new time, and returns when the link must exit.
pub(crate) async fn burn(
    fuse: &mut Fuse,
    mut times: watch::Receiver<Option<[Millis; 2]>>,
) -> Error {
    loop {
        let current = *times.borrow_and_update();
        if let Some([link, kill]) = current {
            if let Err(error) = fuse.arm(link, kill) {
                return error;
            }
        }
        let expired = async {
            match current {
                // This clock stops while the host is suspended, so read the right one again.
                Some([link, _]) => loop {
                    let left = link.saturating_sub(crate::drive::now());
                    if left == 0 {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(left)).await;
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = times.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
            () = expired => return Error::new("the reference was not renewed in time"),
            error = fuse.exited() => return error,
        }
    }
}

/// Writes a line to the log of the link.
pub(crate) fn report(what: impl std::fmt::Display) {
    eprintln!("procref-etcd: {what}");
}

/// Returns `true` if the local service of this name is pinned.
fn is_pinned(service: &SharedService) -> procref::Result<bool> {
    let status = service.status()?;
    Ok(status.is_pinned() && status.state() != State::Absent)
}
