//! The demonstration: real clients of a real service join, leave and are killed. Independent checks follow.
//!
//! | module | contents |
//! |---|---|
//! | [`roles`] | the client program and the service |
//! | [`clients`] | the clients as processes; `procref run` starts each of them |
//! | [`view`] | the output |
//! | [`observe`] | reads the system without procref |
//! | [`check`] | compares what was shown with what was observed |

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use procref::{SharedService, State, Status};

use crate::error::{Error, Result};

mod check;
mod clients;
mod observe;
mod roles;
mod view;

use clients::{Activity, ClientEvent, Clients, NAME, TIMEOUT};
use observe::ProcessId;
pub(crate) use roles::{client, service};
use view::View;

/// The number of clients that start first, that join later, and that leave.
const FIRST: usize = 5;
const LATER: usize = 2;
const LEAVING: usize = 2;

/// The time for which a step is shown on a terminal.
const STEP: Duration = Duration::from_millis(1400);

/// The interval at which the kernel's state is read.
const INTERVAL: Duration = Duration::from_millis(25);

pub(crate) fn run() -> Result<ExitCode> {
    let dir = tempfile::Builder::new().prefix("procref-demo-").tempdir();
    let dir = dir.map_err(|error| Error::io("create a temporary directory", error))?;
    let mut demo = Demo::new(dir.path())?;
    let shown = demo.run();
    // Even after an error, all clients must exit before the directory is removed.
    demo.view.freeze();
    demo.clients.stop_all();
    let stopped = demo.service.wait_stopped_blocking(TIMEOUT);
    let passed = shown.and_then(|()| demo.check());
    drop(demo);
    dir.close()
        .map_err(|error| Error::io("remove the temporary directory", error))?;
    stopped?;
    Ok(match passed? {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

struct Demo {
    view: View,
    clients: Clients,
    /// Reads the status only. It holds no reference.
    service: SharedService,
    status: Status,
    observed: Observed,
}

/// The observations during the demonstration.
#[derive(Default)]
struct Observed {
    /// Each process that was the service.
    services: BTreeSet<ProcessId>,
    /// Each process that was the supervisor.
    supervisors: BTreeSet<ProcessId>,
    /// The kernel's count and the number of clients, at moments without a change.
    counts: Vec<(u32, usize)>,
    object_existed: bool,
}

impl Demo {
    fn new(dir: &Path) -> Result<Self> {
        let service = SharedService::builder(NAME)
            .base_dir(dir.join("runtime"))
            .build()?;
        Ok(Self {
            view: View::new(),
            clients: Clients::new(dir)?,
            status: service.status()?,
            service,
            observed: Observed::default(),
        })
    }

    fn run(&mut self) -> Result<()> {
        self.view
            .title("procref demo: many processes, one service")?;
        self.view.caption(&format!(
            "{FIRST} programs that need a service start at the same moment. One of them starts it."
        ))?;
        self.start_clients(FIRST)?;
        self.show()?;

        self.view.caption(
            "The client that started it is killed (SIGKILL). The service keeps running.",
        )?;
        let starter = self.clients.starter()?;
        self.clients.kill(&[starter])?;
        self.show()?;

        self.view.caption(&format!("{LATER} more clients join."))?;
        self.start_clients(LATER)?;
        self.show()?;

        self.view
            .caption(&format!("{LEAVING} clients finish their work and leave."))?;
        let leaving: Vec<usize> = self.clients.numbers().take(LEAVING).collect();
        self.clients.stop(&leaving);
        self.wait_until("the clients to leave", |demo| {
            demo.clients.count(Activity::Leaving) == 0
        })?;
        self.show()?;

        self.view.caption(
            "All other clients are killed at once. No client remains to stop the service.",
        )?;
        let all: Vec<usize> = self.clients.numbers().collect();
        self.clients.kill(&all)?;
        self.wait_until("the supervisor to stop the service", |demo| {
            demo.status.state() == State::Absent
        })?;
        // The supervisor removes the set and then exits.
        self.wait_until("the supervisor to exit", |demo| {
            demo.observed.supervisors.iter().all(|it| it.has_exited())
        })?;
        self.view.caption(
            "The kernel woke the service's supervisor, and the supervisor stopped the service.",
        )
    }

    /// Starts clients, and waits until they have the service.
    fn start_clients(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.clients.start(self.service.runtime_dir())?;
        }
        self.wait_until("the clients to get the service", |demo| {
            demo.clients.count(Activity::Waiting) == 0
        })
    }

    /// Lets the clients work for a while, and counts them.
    fn show(&mut self) -> Result<()> {
        let end = Instant::now() + self.view.pace(STEP);
        let before: Vec<usize> = self
            .clients
            .clients()
            .iter()
            .map(|client| client.answers)
            .collect();
        self.wait_until("the service to answer all clients", |demo| {
            let mut working = demo
                .clients
                .clients()
                .iter()
                .zip(&before)
                .filter(|(client, _)| client.activity == Activity::Working);
            Instant::now() >= end && working.all(|(client, before)| client.answers > *before)
        })?;
        let counted = self.service.count()?;
        self.observed
            .counts
            .push((counted, self.clients.present().count()));
        self.observed.object_existed |= observe::object_exists(&self.service.kernel_object())?;
        Ok(())
    }

    /// Handles and shows events until a condition holds.
    fn wait_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        let end = Instant::now() + TIMEOUT;
        loop {
            self.read_status()?;
            if done(self) {
                return Ok(());
            }
            if Instant::now() >= end {
                let seconds = TIMEOUT.as_secs();
                return Err(Error::Failed(format!(
                    "waited {seconds} s for {what}: time limit exceeded"
                )));
            }
            if let Some(event) = self.clients.next(INTERVAL)? {
                self.show_event(&event)?;
            }
        }
    }

    /// Reads the status of the service, and updates the view.
    fn read_status(&mut self) -> Result<()> {
        self.status = self.service.status()?;
        let status = &self.status;
        let instance = status.instance().map(procref::ServiceInfo::pid);
        self.observed
            .services
            .extend(instance.into_iter().filter_map(ProcessId::of));
        self.observed
            .supervisors
            .extend(status.supervisor().into_iter().filter_map(ProcessId::of));
        self.view.draw(&self.status, self.clients.clients())
    }

    fn show_event(&mut self, event: &ClientEvent) -> Result<()> {
        let (number, what) = match event {
            ClientEvent::GotService(number) => (*number, "has the service"),
            ClientEvent::Left(number) => (*number, "has left"),
            ClientEvent::Killed(number) => (*number, "was killed"),
            ClientEvent::Answered => return Ok(()),
        };
        let pid = self.clients.client(number).pid();
        let clients = self.service.count()?;
        self.view.event(&format!(
            "client {number} (pid {pid}) {what}; clients: {clients}"
        ))
    }
}
