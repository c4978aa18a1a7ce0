//! `procref demo`: real clients of a real service come, go and are killed, and what became of it is judged
//! from outside.
//!
//! The clients are what `procref run` makes of a program. [`actors`] are program and service, [`cast`] are
//! the clients as processes, [`stage`] shows them, and [`outside`] looks at what anybody on the machine can
//! see.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use procref::{SharedService, State, Status};

use crate::error::{Error, Result};

mod check;
mod clients;
mod observe;
pub(crate) mod roles;
mod view;

use clients::{Cast, Doing, News};
use observe::Run;
use view::Stage;

/// What the service is called.
const NAME: &str = "demo";

/// How many clients come at first, come later, and leave.
const FIRST: usize = 5;
const LATER: usize = 2;
const LEAVERS: usize = 2;

/// How long a scene is shown to somebody who watches.
const SCENE: Duration = Duration::from_millis(1400);

/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the kernel is asked while something goes on.
const LOOK: Duration = Duration::from_millis(25);

pub(crate) fn run() -> Result<ExitCode> {
    let dir = tempfile::Builder::new().prefix("procref-demo-").tempdir();
    let dir = dir.map_err(|error| Error::io("make a temporary directory", error))?;
    let mut demo = Demo::new(dir.path())?;
    let played = demo.play();
    // Whatever happened: first everybody leaves, then the directory goes.
    demo.stage.freeze();
    demo.cast.disperse();
    let stopped = demo.service.wait_stopped_blocking(PATIENCE);
    let right = played.and_then(|()| demo.judge());
    drop(demo);
    dir.close()
        .map_err(|error| Error::io("remove the temporary directory", error))?;
    stopped?;
    Ok(match right? {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

struct Demo {
    stage: Stage,
    cast: Cast,
    /// For looking only: it holds no reference.
    service: SharedService,
    status: Status,
    seen: Seen,
}

/// What was seen on the way.
#[derive(Default)]
struct Seen {
    /// Each process that was the service, or its supervisor.
    services: BTreeSet<Run>,
    supervisors: BTreeSet<Run>,
    /// What the kernel counted when all was quiet, and how many there were.
    counts: Vec<(u32, usize)>,
    set_was_there: bool,
}

impl Demo {
    fn new(dir: &Path) -> Result<Self> {
        let service = SharedService::builder(NAME)
            .base_dir(dir.join("runtime"))
            .build()?;
        Ok(Self {
            stage: Stage::new(),
            cast: Cast::new(dir)?,
            status: service.status()?,
            service,
            seen: Seen::default(),
        })
    }

    fn play(&mut self) -> Result<()> {
        self.stage
            .title("procref demo: many processes, one service")?;
        self.stage.caption(&format!(
            "{FIRST} programs that need a service start at the same moment. One starts it."
        ))?;
        self.come(FIRST)?;
        self.show()?;

        self.stage
            .caption("The one that started it is killed (SIGKILL). The service stays.")?;
        let starter = self.cast.starter()?;
        self.cast.kill(&[starter])?;
        self.show()?;

        self.stage
            .caption(&format!("{LATER} more come, and join."))?;
        self.come(LATER)?;
        self.show()?;

        self.stage
            .caption(&format!("{LEAVERS} have done their work, and leave."))?;
        let leavers: Vec<usize> = self.cast.numbers().take(LEAVERS).collect();
        self.cast.dismiss(&leavers);
        self.until("the clients to leave", |demo| {
            demo.cast.count(Doing::Leaving) == 0
        })?;
        self.show()?;

        self.stage
            .caption("All others are killed in the same moment. No client is left to stop it.")?;
        let all: Vec<usize> = self.cast.numbers().collect();
        self.cast.kill(&all)?;
        self.until("the supervisor to stop the service", |demo| {
            demo.status.state() == State::Absent
        })?;
        // To remove the set is the last thing it does but one.
        self.until("the supervisor to end", |demo| {
            demo.seen.supervisors.iter().all(|run| run.is_over())
        })?;
        self.stage
            .caption("Its supervisor, which the kernel woke, has stopped it.")
    }

    /// Clients come, and wait until they have the service.
    fn come(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.cast.start(self.service.runtime_dir())?;
        }
        self.until("the clients to get the service", |demo| {
            demo.cast.count(Doing::Waiting) == 0
        })
    }

    /// Everybody works for a while, and is counted.
    fn show(&mut self) -> Result<()> {
        let end = Instant::now() + self.stage.pace(SCENE);
        let before: Vec<usize> = self
            .cast
            .clients()
            .iter()
            .map(|client| client.answers)
            .collect();
        self.until("the service to answer everybody", |demo| {
            let mut working = demo
                .cast
                .clients()
                .iter()
                .zip(&before)
                .filter(|(client, _)| client.doing == Doing::Working);
            Instant::now() >= end && working.all(|(client, before)| client.answers > *before)
        })?;
        let counted = self.service.count()?;
        self.seen
            .counts
            .push((counted, self.cast.present().count()));
        self.seen.set_was_there |= observe::semaphore_set_exists(&self.service.kernel_object())?;
        Ok(())
    }

    /// Takes note of everything that happens, and shows it.
    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.look()?;
            if done(self) {
                return Ok(());
            }
            if Instant::now() >= end {
                let seconds = PATIENCE.as_secs();
                return Err(Error::Failed(format!(
                    "waited {seconds} s in vain for {what}"
                )));
            }
            if let Some(news) = self.cast.next(LOOK)? {
                self.note(&news)?;
            }
        }
    }

    /// Asks the kernel.
    fn look(&mut self) -> Result<()> {
        self.status = self.service.status()?;
        let status = &self.status;
        let instance = status.instance().map(procref::ServiceInfo::pid);
        self.seen
            .services
            .extend(instance.into_iter().filter_map(Run::of));
        self.seen
            .supervisors
            .extend(status.supervisor().into_iter().filter_map(Run::of));
        self.stage.draw(&self.status, self.cast.clients())
    }

    fn note(&mut self, news: &News) -> Result<()> {
        let (number, what) = match news {
            News::Got(number) => (*number, "has the service"),
            News::Left(number) => (*number, "has left"),
            News::Killed(number) => (*number, "was killed"),
            News::Answered => return Ok(()),
        };
        let pid = self.cast.client(number).pid();
        let clients = self.service.count()?;
        self.stage.event(&format!(
            "client {number} (pid {pid}) {what}; clients: {clients}"
        ))
    }
}
