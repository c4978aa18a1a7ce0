//! The storm on Windows. Clients are the testkit's actors, and are killed by `TerminateProcess`. The checker reads
//! the logs of the services: each service opens a file exclusively as long as it lives.

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

use crate::options::{Kind, Options};

/// Number of clients that share a service. Fewer clients race less. More clients leave too few services on a
/// small machine.
const CLIENTS_PER_SERVICE: usize = 6;

/// Length of a round. At its end all clients are killed, and nothing may be left.
const ROUND: Duration = Duration::from_secs(3);

/// The longest pause of a client between two handles. Most pauses are shorter than a start, so that the clients
/// meet at the next start.
const PAUSE_US: u64 = 30_000;

/// Crash points that a client soon reaches. The tests of the testkit cover all crash points.
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

/// The figures of a storm so far.
#[derive(Debug, Default)]
pub struct Stats {
    took: Duration,
    rounds: u64,
    clients: u64,
    /// Acquisitions that the clients have reported before they were killed.
    acquisitions: u64,
    starts: u64,
    most_at_once: u64,
    killed: u64,
    killed_at_points: u64,
    instances: u64,
    excused: u64,
}

impl fmt::Display for Stats {
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
            ("- clients, at a crash point", self.killed_at_points),
            ("- instances", self.instances),
            ("errors that a fault excuses", self.excused),
        ];
        for (label, number) in rows {
            writeln!(f, "{number:>10}  {label}")?;
        }
        Ok(())
    }
}

/// Returns `None`: this program has no other roles here, because actors and services are separate programs.
pub fn run_role(_: &[String]) -> Option<ExitCode> {
    None
}

/// Runs a storm. Returns its figures, and the violation if there was one.
pub fn run_storm(options: Options) -> io::Result<(Stats, Result<(), String>)> {
    if options.trace.is_some() {
        let reason = "--trace is not supported on Windows (the traces of actors are printed after a failure)";
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    let programs = Programs::beside_current()?;
    let mut stats = Stats::default();
    let begun = Instant::now();
    let mut result = Ok(());
    // At least two rounds: a service has its instances killed in one of them, and its clients in the next.
    while result.is_ok() && (stats.rounds < 2 || begun.elapsed() < options.time) {
        let round = || Round::new(&options, &programs, &mut stats).run(ROUND.min(options.time));
        // A scene reports a violation by a panic, which has already printed the details.
        result =
            catch_unwind(AssertUnwindSafe(round)).unwrap_or_else(|_| Err("see above".to_owned()));
        stats.took = begun.elapsed();
        stats.show();
    }
    Ok((stats, result))
}

impl Stats {
    /// Prints the progress on a terminal.
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
    /// The testkit's programs in the directory of this program.
    fn beside_current() -> io::Result<Self> {
        let own = std::env::current_exe()?;
        Ok(Self {
            actor: own.with_file_name("procref-actor.exe"),
            service: own.with_file_name("procref-fake-service.exe"),
        })
    }
}

/// A service and its clients.
struct Service {
    spec: ServiceSpec,
    log: Tail,
    clients: Vec<Client>,
    kind: Kind,
    /// An instance was killed, so clients may get errors.
    disturbed: bool,
    /// The scene is declared after the clients, so that it is dropped after them. Its drop checks that
    /// nothing is left.
    scene: Scene,
}

struct Client {
    actor: Actor,
    rounds: Pending,
}

/// Lets a client acquire, query and release the service a few times.
fn begin_rounds(client: &Actor) -> Pending {
    client.begin(Command::Storm {
        service: 0,
        rounds: 5,
        pause_us: PAUSE_US,
    })
}

struct Round<'a> {
    services: Vec<Service>,
    random: Rng,
    faults: usize,
    options: &'a Options,
    stats: &'a mut Stats,
}

impl<'a> Round<'a> {
    fn new(options: &'a Options, programs: &Programs, stats: &'a mut Stats) -> Self {
        stats.rounds += 1;
        let services = options
            .processes
            .div_ceil(CLIENTS_PER_SERVICE)
            .max(options.kinds.len());
        let services = (0..services).map(|index| {
            let scene = Scene::new(&programs.actor, &programs.service);
            let kind = options.kinds[index % options.kinds.len()];
            let spec = match kind {
                Kind::Callback => scene.service("stormy"),
                Kind::Command => scene.command("stormy"),
            };
            Service {
                spec,
                log: Tail::new(scene.log_path()),
                clients: Vec::new(),
                kind,
                disturbed: false,
                scene,
            }
        });
        let mut round = Self {
            services: services.collect(),
            random: Rng::with_seed(options.seed.wrapping_add(stats.rounds)),
            faults: 0,
            options,
            stats,
        };
        for number in 0..options.processes {
            let index = number % round.services.len();
            round.start_client(index);
        }
        round
    }

    /// Starts another client of a service.
    fn start_client(&mut self, index: usize) {
        self.stats.clients += 1;
        let service = &mut self.services[index];
        // Clients with callbacks do not die, because no process knows of an instance before it is published.
        let mortal = service.kind == Kind::Command;
        let doomed = mortal && self.random.u32(..100) < self.options.doomed;
        let actor = if doomed {
            let point = POINTS[self.random.usize(..POINTS.len())];
            service.scene.actor_crashing_at(point)
        } else {
            service.scene.actor()
        };
        actor.build(&service.spec);
        let rounds = begin_rounds(&actor);
        service.clients.push(Client { actor, rounds });
    }

    fn run(mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        let pause = Duration::from_secs_f64(1.0 / self.options.rate);
        let mut next = Instant::now() + pause;
        while Instant::now() < end {
            self.check_logs()?;
            self.handle_replies()?;
            if Instant::now() >= next {
                next = Instant::now() + pause;
                self.inject_fault();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.finish()
    }

    /// Kills a client or an instance.
    fn inject_fault(&mut self) {
        // The services take turns, so that each of them has a fault in a round.
        self.faults += 1;
        let index = self.faults % self.services.len();
        let service = &mut self.services[index];
        // A client whose instance is killed may get errors. So instances are killed only in every other round.
        let instances = (self.stats.rounds + index as u64) % 2 == 1;
        if service.kind == Kind::Callback && !instances {
            return;
        }
        if service.kind == Kind::Callback
            || (instances && (!service.disturbed || self.random.u8(..3) == 0))
        {
            service.disturbed = true;
            // There may be no instance at this moment, but another one starts soon. If all clients have
            // killed themselves, there is no instance before they are replaced.
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                if let Some(instance) = service.scene.living().pop() {
                    instance.kill();
                    self.stats.instances += 1;
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            return;
        }
        let client = self.random.usize(..service.clients.len());
        service.clients.swap_remove(client).actor.kill();
        self.stats.killed += 1;
        self.start_client(index);
    }

    /// Checks the new lines of the services' logs, and their live instances.
    fn check_logs(&mut self) -> Result<(), String> {
        for service in &mut self.services {
            for line in service.log.read_new() {
                match line {
                    Line::Start(_) => self.stats.starts += 1,
                    Line::Overlap(pid) => {
                        return Err(format!(
                            "instance {pid} of {:?} started beside another one: {:#?}",
                            service.spec.name,
                            service.scene.log()
                        ));
                    }
                    _ => {}
                }
            }
            let live = service.scene.living().len() as u64;
            self.stats.most_at_once = self.stats.most_at_once.max(live);
            if live > 1 {
                return Err(format!("{live} live instances: {:#?}", service.scene.log()));
            }
        }
        Ok(())
    }

    /// Checks the reports of the clients, and replaces the clients that have killed themselves.
    fn handle_replies(&mut self) -> Result<(), String> {
        for index in 0..self.services.len() {
            let mut clients = std::mem::take(&mut self.services[index].clients);
            for client in clients.drain(..) {
                let replied = client.actor.has_replied(&client.rounds);
                if !replied && client.actor.identity().is_live() {
                    self.services[index].clients.push(client);
                    continue;
                }
                let Ok(reply) = client.actor.reply_or_exit(client.rounds) else {
                    self.stats.killed_at_points += 1;
                    self.start_client(index);
                    continue;
                };
                let Reply::Stormed(report) = reply else {
                    return Err(format!("unexpected reply of a client: {reply:?}"));
                };
                let service = &mut self.services[index];
                self.stats.acquisitions += u64::from(report.good);
                self.stats.excused += report.wrong.len() as u64;
                if !service.disturbed && !report.wrong.is_empty() {
                    let wrong = &report.wrong;
                    return Err(format!("errors of an undisturbed service: {wrong:#?}"));
                }
                let rounds = begin_rounds(&client.actor);
                let actor = client.actor;
                service.clients.push(Client { actor, rounds });
            }
        }
        Ok(())
    }

    /// Ends the round. All clients of a command are killed at the same moment, and the next client must succeed.
    fn finish(&mut self) -> Result<(), String> {
        for service in &mut self.services {
            if service.kind == Kind::Command {
                for client in &service.clients {
                    client.actor.identity().kill();
                }
            }
            for client in service.clients.drain(..) {
                // A client may be in a start callback, and no other process knows what the callback has spawned.
                // So the client finishes first.
                if service.kind == Kind::Callback {
                    client.actor.reply(client.rounds);
                }
                client.actor.kill();
            }
            let next = service.scene.client(&service.spec);
            let held = next.acquire();
            let count = next.count();
            if count != 1 {
                return Err(format!("{count} references of one client"));
            }
            let live = service.scene.living();
            if live.iter().all(|instance| instance.pid != held.got.pid) {
                return Err(format!("{held:?} is not alive: {:#?}", service.scene.log()));
            }
            next.release(&held);
        }
        self.check_logs()?;
        for service in &self.services {
            service.scene.assert_single_instance();
            service.scene.assert_clean();
        }
        Ok(())
    }
}
