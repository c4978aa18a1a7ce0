//! Clients that are the testkit's actors, killed by `TerminateProcess`. What is judged is what the services have
//! written down themselves: each has a file for itself alone as long as it lives.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fastrand::Rng;
use procref_testkit::actor::Pending;
use procref_testkit::log::{Line, Tail};
use procref_testkit::protocol::{Command, Reply, ServiceSpec};
use procref_testkit::{Actor, Scene};

use crate::{Kind, Options};

/// A service for so many clients. Fewer race less, more make one machine's services few.
const CROWD: usize = 6;

/// After that everybody is killed, and everything has to be gone.
const ROUND: Duration = Duration::from_secs(3);

/// The longest pause of a client without the service. That of most is shorter than a start takes, so that they
/// meet at the next one.
const PAUSE_US: u64 = 30_000;

/// Steps that a client soon comes by. Of each step there is, and of what is left then, there are tests.
const POINTS: [&str; 8] = [
    "Joined",
    "Entered",
    "Launched",
    "Executed",
    "PublishedReady",
    "Left",
    "LeftLast",
    "PublishedStopping",
];

#[derive(Debug, Default)]
pub struct Tally {
    took: Duration,
    rounds: u64,
    clients: u64,
    /// Of those who lived to tell.
    acquisitions: u64,
    starts: u64,
    most_at_once: u64,
    killed: u64,
    killed_at_points: u64,
    instances: u64,
    excused: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("seconds", self.took.as_secs()),
            ("rounds", self.rounds),
            ("client processes", self.clients),
            ("acquisitions", self.acquisitions),
            ("starts", self.starts),
            (
                "most live instances of a service at once",
                self.most_at_once,
            ),
            ("- clients, from outside", self.killed),
            ("- clients, at a step of procref's", self.killed_at_points),
            ("- instances", self.instances),
            ("excused by what was done to the service", self.excused),
        ];
        for (what, number) in rows {
            writeln!(f, "{number:>10}  {what}")?;
        }
        Ok(())
    }
}

/// This program plays no other part: actors and services are programs of their own.
pub fn play(_: &[String]) -> Option<ExitCode> {
    None
}

/// The figures, and what was wrong.
pub fn storm(options: Options) -> io::Result<(Tally, Result<(), String>)> {
    if options.trace.is_some() {
        let reason =
            "--trace is for Linux: actors tell what they trace when a storm has gone wrong";
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    let programs = Programs::beside_this()?;
    let mut tally = Tally::default();
    let begun = Instant::now();
    let mut outcome = Ok(());
    // Two at least: in one of them a service's instances are killed, in the next its clients.
    while outcome.is_ok() && (tally.rounds < 2 || begun.elapsed() < options.time) {
        let round = || Round::new(&options, &programs, &mut tally).run(ROUND.min(options.time));
        // What a scene insists on it insists on by a panic, which has told what there is to tell.
        outcome =
            catch_unwind(AssertUnwindSafe(round)).unwrap_or_else(|_| Err("see above".to_owned()));
        tally.took = begun.elapsed();
        tally.show();
    }
    Ok((tally, outcome))
}

impl Tally {
    /// For somebody who sits before it.
    fn show(&self) {
        let mut out = io::stderr();
        if out.is_terminal() {
            let seconds = self.took.as_secs();
            let (rounds, starts) = (self.rounds, self.starts);
            let _ = write!(out, "\r{seconds} s · round {rounds} · {starts} starts");
        }
    }
}

struct Programs {
    actor: PathBuf,
    service: PathBuf,
}

impl Programs {
    fn beside_this() -> io::Result<Self> {
        let own = std::env::current_exe()?;
        Ok(Self {
            actor: own.with_file_name("procref-actor.exe"),
            service: own.with_file_name("procref-fake-service.exe"),
        })
    }
}

/// A service and its clients.
struct Site {
    spec: ServiceSpec,
    log: Tail,
    clients: Vec<Client>,
    kind: Kind,
    /// Its instance was killed, so what clients were told of it may be an error.
    struck: bool,
    /// The clients are dropped before it: it insists that nothing is left.
    scene: Scene,
}

struct Client {
    actor: Actor,
    storm: Pending,
}

/// Some rounds of acquiring, asking the service who it is, and letting go.
fn begin(client: &Actor) -> Pending {
    client.begin(Command::Storm {
        service: 0,
        rounds: 5,
        pause_us: PAUSE_US,
    })
}

struct Round<'a> {
    sites: Vec<Site>,
    random: Rng,
    blows: usize,
    options: &'a Options,
    tally: &'a mut Tally,
}

impl<'a> Round<'a> {
    fn new(options: &'a Options, programs: &Programs, tally: &'a mut Tally) -> Self {
        tally.rounds += 1;
        let sites = options.processes.div_ceil(CROWD).max(options.kinds.len());
        let sites = (0..sites).map(|number| {
            let scene = Scene::new(&programs.actor, &programs.service);
            let kind = options.kinds[number % options.kinds.len()];
            let spec = match kind {
                Kind::Callback => scene.service("stormy"),
                Kind::Command => scene.command("stormy"),
            };
            Site {
                spec,
                log: Tail::new(scene.log_path()),
                clients: Vec::new(),
                kind,
                struck: false,
                scene,
            }
        });
        let mut round = Self {
            sites: sites.collect(),
            random: Rng::with_seed(options.seed.wrapping_add(tally.rounds)),
            blows: 0,
            options,
            tally,
        };
        for number in 0..options.processes {
            let at = number % round.sites.len();
            round.bear(at);
        }
        round
    }

    /// One more client, which begins at once.
    fn bear(&mut self, at: usize) {
        self.tally.clients += 1;
        let site = &mut self.sites[at];
        // What a callback has spawned nobody knows of before it is published. So such clients live.
        let mortal = site.kind == Kind::Command;
        let doomed = mortal && self.random.u32(..100) < self.options.doomed;
        let actor = if doomed {
            site.scene
                .actor_crashing_at(POINTS[self.random.usize(..POINTS.len())])
        } else {
            site.scene.actor()
        };
        actor.build(&site.spec);
        let storm = begin(&actor);
        site.clients.push(Client { actor, storm });
    }

    fn run(mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        let pause = Duration::from_secs_f64(1.0 / self.options.rate);
        let mut next = Instant::now() + pause;
        while Instant::now() < end {
            self.judge()?;
            self.hear()?;
            if Instant::now() >= next {
                next = Instant::now() + pause;
                self.strike();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.finish()
    }

    /// Somebody is killed: a client, or sometimes an instance.
    fn strike(&mut self) {
        // In turns, so that each is struck in a round.
        self.blows += 1;
        let at = self.blows % self.sites.len();
        let site = &mut self.sites[at];
        // With its instance killed a client may be told errors. So in every other round none is.
        let instances = (self.tally.rounds + at as u64) % 2 == 1;
        if site.kind == Kind::Callback && !instances {
            return;
        }
        if site.kind == Kind::Callback || (instances && (!site.struck || self.random.u8(..3) == 0))
        {
            site.struck = true;
            // Between two of them there is none, and soon another; unless all clients have killed themselves, who are
            // replaced later.
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                if let Some(instance) = site.scene.living().pop() {
                    instance.kill();
                    self.tally.instances += 1;
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            return;
        }
        let index = self.random.usize(..site.clients.len());
        site.clients.swap_remove(index).actor.kill();
        self.tally.killed += 1;
        self.bear(at);
    }

    /// What the services have written down since.
    fn judge(&mut self) -> Result<(), String> {
        for site in &mut self.sites {
            for line in site.log.read_new() {
                match line {
                    Line::Start(_) => self.tally.starts += 1,
                    Line::Overlap(pid) => {
                        return Err(format!(
                            "instance {pid} of {:?} began to live beside another: {:#?}",
                            site.spec.name,
                            site.scene.log()
                        ));
                    }
                    _ => {}
                }
            }
            let living = site.scene.living().len() as u64;
            self.tally.most_at_once = self.tally.most_at_once.max(living);
            if living > 1 {
                return Err(format!("{living} instances live: {:#?}", site.scene.log()));
            }
        }
        Ok(())
    }

    /// What clients tell of the service that they had; those that have killed themselves are replaced.
    fn hear(&mut self) -> Result<(), String> {
        for at in 0..self.sites.len() {
            let mut clients = std::mem::take(&mut self.sites[at].clients);
            for client in clients.drain(..) {
                let told = client.actor.has_replied(&client.storm);
                if !told && client.actor.identity().is_live() {
                    self.sites[at].clients.push(client);
                    continue;
                }
                let Ok(reply) = client.actor.reply_or_exit(client.storm) else {
                    self.tally.killed_at_points += 1;
                    self.bear(at);
                    continue;
                };
                let Reply::Stormed(report) = reply else {
                    return Err(format!("a client told {reply:?}"));
                };
                let site = &mut self.sites[at];
                self.tally.acquisitions += u64::from(report.good);
                self.tally.excused += report.wrong.len() as u64;
                if !site.struck && !report.wrong.is_empty() {
                    let wrong = &report.wrong;
                    return Err(format!("of a service that nobody has touched: {wrong:#?}"));
                }
                let storm = begin(&client.actor);
                let actor = client.actor;
                site.clients.push(Client { actor, storm });
            }
        }
        Ok(())
    }

    /// All clients of a command end in one instant, and the next one finds nothing in its way.
    fn finish(&mut self) -> Result<(), String> {
        for site in &mut self.sites {
            if site.kind == Kind::Command {
                for client in &site.clients {
                    client.actor.identity().kill();
                }
            }
            for client in site.clients.drain(..) {
                // Who may be in a callback comes to his end: what he has spawned nobody else could find.
                if site.kind == Kind::Callback {
                    client.actor.reply(client.storm);
                }
                client.actor.kill();
            }
            let next = site.scene.client(&site.spec);
            let held = next.acquire();
            let count = next.count();
            if count != 1 {
                return Err(format!("{count} references of one client"));
            }
            if site.scene.living().iter().all(|it| it.pid != held.got.pid) {
                return Err(format!("{held:?} is not alive: {:#?}", site.scene.log()));
            }
            next.release(&held);
        }
        self.judge()?;
        for site in &self.sites {
            site.scene.assert_single_instance();
            site.scene.assert_clean();
        }
        Ok(())
    }
}
