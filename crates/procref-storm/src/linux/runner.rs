//! Who starts the clients, and strikes the blows.

mod round_end;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use procref::SharedService;
use procref_testkit::kernel;
use procref_testkit::observe::Identity;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, set_child_subreaper,
    waitid, waitpid,
};
use tempfile::TempDir;

use crate::linux::client::Orders;
use crate::linux::fork_server::Nursery;
use crate::linux::history::Docket;
use crate::linux::observe;
use crate::linux::service::{Event, Site};
use crate::linux::stats::Tally;
use crate::linux::workload::{self, Blow, Doom};
use crate::{Kind, Options};

/// How long clients come and go until everybody leaves.
const ROUND: Duration = Duration::from_millis(2200);

/// After that something hangs.
const PATIENCE: Duration = Duration::from_secs(40);

/// No blow falls later than that.
const LATE: Duration = Duration::from_millis(50);

/// So many clients share a service.
const CROWD: usize = 3;

type Verdict<T = ()> = Result<T, String>;

fn text(error: io::Error) -> String {
    error.to_string()
}

/// A client's place.
#[derive(Clone, Copy, Debug)]
struct Place {
    site: usize,
    who: Option<Identity>,
    nth: u64,
    /// It was killed from outside.
    killed: bool,
    /// It is going to kill itself.
    doom: Option<Doom>,
}

/// Somebody who was killed and whose end is waited for: what is seen meanwhile is excused.
struct Dying {
    site: usize,
    who: Identity,
    harm: String,
    since: Instant,
}

pub struct Director {
    options: Options,
    root: TempDir,
    runtime_dir: PathBuf,
    tally: Tally,
    dockets: Vec<Docket>,
    keys: Vec<i32>,
    /// Services whose supervisor was killed in this round.
    bereft: Vec<bool>,
    /// Services that procref executes, and whose instance did not end in an orderly way in this round.
    crashed: Vec<bool>,
    places: Vec<Place>,
    nursery: Nursery,
    dying: Vec<Dying>,
    /// Children that are no clients in their places: supervisors, and whoever has lost its parent.
    adopted: Vec<u32>,
    /// Supervisors that were killed from outside.
    struck: BTreeSet<u32>,
    /// Whom to let go on, and when.
    suspended: Vec<(Instant, Identity)>,
    /// Which services are to be well again, and when.
    ill: Vec<(Instant, usize, String, bool)>,
    events: Receiver<Event>,
    pipe: OwnedFd,
    marks: u64,
    shown: Instant,
    begun: Instant,
}

impl Director {
    pub fn new(options: Options) -> io::Result<Self> {
        // Whoever loses its parent becomes a child of this process, which reaps it.
        set_child_subreaper(Some(getpid()))?;
        let root = tempfile::Builder::new()
            .prefix("procref-storm-")
            .tempdir()?;
        let tag = root
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let runtime_dir = root.path().join("run");
        DirBuilder::new().mode(0o700).create(&runtime_dir)?;
        if let Some(trace) = &options.trace {
            fs::create_dir_all(trace)?;
        }
        let services = options.processes.div_ceil(CROWD).max(options.kinds.len());
        let mut dockets = Vec::new();
        let mut keys = Vec::new();
        for number in 0..services {
            let dir = root.path().join(number.to_string());
            fs::create_dir(&dir)?;
            let site = Site {
                kind: options.kinds[number % options.kinds.len()],
                name: format!("{number:03} of {tag}"),
                dir,
            };
            // Makes no set. Only procref knows what the key is.
            let service = SharedService::builder(&site.name)
                .base_dir(&runtime_dir)
                .build();
            let service = service.map_err(io::Error::other)?;
            keys.push(kernel::parse_key(&service.kernel_object()));
            dockets.push(Docket::new(site));
        }
        let places = (0..options.processes)
            .map(|slot| Place {
                site: slot % services,
                who: None,
                nth: 0,
                killed: false,
                doom: None,
            })
            .collect();
        let (reader, pipe) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let events = listen(reader);
        let nursery = Nursery::new(root.path(), pipe.try_clone()?)?;
        Ok(Self {
            nursery,
            dying: Vec::new(),
            adopted: Vec::new(),
            struck: BTreeSet::new(),
            options,
            root,
            runtime_dir,
            tally: Tally::default(),
            bereft: vec![false; services],
            crashed: vec![false; services],
            dockets,
            keys,
            places,
            suspended: Vec::new(),
            ill: Vec::new(),
            events,
            pipe,
            marks: 0,
            shown: Instant::now(),
            begun: Instant::now(),
        })
    }

    pub fn run(mut self) -> (Tally, Verdict) {
        let mut outcome = Ok(());
        while outcome.is_ok() && self.begun.elapsed() < self.options.time {
            outcome = self.round();
        }
        self.tally.took = self.begun.elapsed();
        self.show(true);
        if outcome.is_err() {
            self.sweep();
        }
        (self.tally, outcome)
    }

    fn round(&mut self) -> Verdict {
        self.tally.rounds += 1;
        let round = self.tally.rounds;
        let left = self.options.time.saturating_sub(self.begun.elapsed());
        let end = Instant::now() + ROUND.min(left);
        let (clients, services) = (self.places.len(), self.dockets.len());
        let mut blows = workload::blows(
            self.options.seed,
            round,
            self.options.rate,
            clients,
            services,
        )
        .peekable();
        let mut next = Instant::now();
        while Instant::now() < end {
            self.fill_places()?;
            // Those that are due by now. Blows fall late on a busy machine, but do not pile up: whoever is
            // to be struck has to come to life first.
            let now = Instant::now();
            next = next.max(now.checked_sub(LATE).unwrap_or(now));
            while let Some((gap, blow)) = blows.next_if(|(gap, _)| next + *gap <= now) {
                next += gap;
                self.strike(blow)?;
            }
            self.tend()?;
        }
        self.calm()?;
        self.compare_counts()?;
        self.finish_clients(workload::finale(self.options.seed, round))?;
        self.see_gone()?;
        let files = observe::files(&self.runtime_dir);
        if !files.is_empty() {
            return self.wrong(0, format!("left behind: {files:?}"));
        }
        self.bereft.fill(false);
        self.crashed.fill(false);
        self.struck.clear();
        self.dockets.iter_mut().for_each(Docket::forget);
        Ok(())
    }

    /// What is to be done all the time.
    fn tend(&mut self) -> Verdict {
        if let Ok(event) = self.events.recv_timeout(Duration::from_millis(4)) {
            self.hear(event)?;
        }
        while let Ok(event) = self.events.try_recv() {
            self.hear(event)?;
        }
        self.reap()?;
        self.see_dead()?;
        let now = Instant::now();
        self.suspended.retain(|(until, who)| {
            if *until <= now {
                who.signal(Signal::CONT);
            }
            *until > now
        });
        for index in (0..self.ill.len()).rev() {
            if self.ill[index].0 <= now {
                self.heal(index)?;
            }
        }
        for site in 0..self.dockets.len() {
            let seen = self.dockets[site].read_log(&mut self.tally);
            let seen = seen.and_then(|living| match living.len() {
                0 | 1 => Ok(()),
                _ => Err(format!("two live instances: {living:?}")),
            });
            seen.or_else(|text| self.wrong(site, text))?;
        }
        self.show(false);
        Ok(())
    }

    fn hear(&mut self, event: Event) -> Verdict {
        let site = event.site;
        let verdict = match self.dockets.get_mut(site) {
            Some(docket) => docket.hear(event, &mut self.tally),
            None => Ok(()),
        };
        verdict.or_else(|text| self.wrong(site, text))
    }

    fn wrong<T>(&mut self, site: usize, text: String) -> Verdict<T> {
        // For the report.
        let _ = self.dockets[site].read_log(&mut self.tally);
        let docket = &self.dockets[site];
        let counts = observe::counts(self.keys[site]);
        Err(format!(
            "{text}\nservice {site}, {:?}, of {:?}; its set: {counts:?}; in the runtime directory: {:?}\n\
             its supervisors: {:?}\nbefore that (microseconds):\n{}",
            docket.site.kind,
            self.root.path(),
            observe::files(&self.runtime_dir),
            self.supervisors(site),
            docket.excerpt(),
        ))
    }

    fn fill_places(&mut self) -> Verdict {
        let empty = |(_, place): &(usize, &Place)| place.who.is_none();
        let empty = self.places.iter().enumerate().filter(empty);
        let orders: Vec<_> = empty
            .map(|(slot, place)| self.orders(place.site, slot, place.nth))
            .collect();
        let born = self.nursery.bear(&orders).map_err(text)?;
        for (orders, who) in orders.iter().zip(born) {
            self.tally.clients += 1;
            self.places[orders.slot] = Place {
                site: orders.number,
                who: Some(who),
                nth: orders.nth + 1,
                killed: false,
                doom: orders.life().doom,
            };
        }
        Ok(())
    }

    fn orders(&self, site: usize, slot: usize, nth: u64) -> Orders {
        let trace = self.options.trace.as_ref();
        Orders {
            seed: self.options.seed,
            number: site,
            site: self.dockets[site].site.clone(),
            slot,
            nth,
            doomed: self.options.doomed,
            guardian: Identity::own(),
            trace: trace.map(|dir| dir.join(format!("{site}.log"))),
        }
    }

    /// Somebody who comes once, to clean up.
    fn send_visitor(&self, errand: &str, orders: &Orders) -> Verdict<Identity> {
        let orders = serde_json::to_string(orders).map_err(|error| error.to_string())?;
        let program = std::env::current_exe().map_err(text)?;
        let output = self.pipe.try_clone().map_err(text)?;
        let child = Command::new(program)
            .arg("visit")
            .arg(orders)
            .arg(errand)
            .stdin(Stdio::null())
            .stdout(output)
            .current_dir("/")
            .spawn()
            .map_err(text)?;
        // A zombie has an identity, too, and only this process reaps it.
        Identity::of(child.id()).ok_or_else(|| "a child without an identity".to_owned())
    }

    fn strike(&mut self, blow: Blow) -> Verdict {
        match blow {
            Blow::KillClient(slot) => self.kill_client(slot),
            Blow::KillAll(site) => {
                for slot in 0..self.places.len() {
                    if self.places[slot].site == site {
                        self.kill_client(slot);
                    }
                }
            }
            Blow::StopClient(slot, time) => {
                if let Some(who) = self.places[slot].who {
                    self.tally.stopped_clients += 1;
                    let site = self.places[slot].site;
                    self.dockets[site].note(format!("--- suspending {who}"));
                    who.signal(Signal::STOP);
                    self.suspended.push((Instant::now() + time, who));
                }
            }
            Blow::KillSupervisor(site) => {
                for who in self.supervisors(site) {
                    self.struck.insert(who.pid);
                    self.kill_excused(site, who, "supervisor");
                }
            }
            Blow::KillService(site) => {
                let living = self.dockets[site].read_log(&mut self.tally)?;
                for who in living {
                    self.tally.killed.instances += 1;
                    self.crashed[site] |= self.dockets[site].site.kind == Kind::Command;
                    self.dockets[site].mar(who.pid);
                    self.kill_excused(site, who, "service");
                }
            }
            Blow::Sicken(site, time, everybody) => self.make_unhealthy(site, time, everybody)?,
        }
        Ok(())
    }

    fn kill_client(&mut self, slot: usize) {
        let Place { site, who, .. } = self.places[slot];
        if let Some(who) = who {
            self.places[slot].killed = true;
            self.dockets[site].note(format!("--- killing client {who}"));
            who.kill();
        }
    }

    fn kill_excused(&mut self, site: usize, who: Identity, what: &str) {
        let harm = format!("killing {what} {who}");
        self.dockets[site].begin_harm(harm.clone());
        who.kill();
        self.dying.push(Dying {
            site,
            who,
            harm,
            since: Instant::now(),
        });
    }

    /// Those who were killed, and are gone by now.
    fn see_dead(&mut self) -> Verdict {
        for index in (0..self.dying.len()).rev() {
            if !self.dying[index].who.is_live() {
                let Dying { site, harm, .. } = self.dying.swap_remove(index);
                self.dockets[site].end_harm(&harm);
            } else if self.dying[index].since.elapsed() > PATIENCE {
                return Err(format!("{} outlives SIGKILL", self.dying[index].who));
            }
        }
        Ok(())
    }

    /// The service's supervisors, which are children of this process.
    fn supervisors(&self, site: usize) -> Vec<Identity> {
        let name = self.dockets[site].site.supervisors_name();
        let supervisors = self.adopted.iter().copied();
        supervisors
            .filter(|&pid| observe::name_of(pid) == name)
            .filter_map(Identity::of)
            .filter(|who| who.is_live())
            .collect()
    }

    fn make_unhealthy(&mut self, site: usize, time: Duration, everybody: bool) -> Verdict {
        if self.ill.iter().any(|(_, ill, _, _)| *ill == site) {
            return Ok(());
        }
        let living = self.dockets[site].read_log(&mut self.tally)?;
        let pid = match (everybody, living.first()) {
            (true, _) => 0,
            (false, Some(who)) => who.pid,
            (false, None) => return Ok(()),
        };
        self.tally.ill += 1;
        self.crashed[site] |= self.dockets[site].site.kind == Kind::Command;
        let harm = format!("making {pid} ill");
        self.dockets[site].begin_harm(harm.clone());
        for who in living {
            self.dockets[site].mar(who.pid);
        }
        fs::write(self.dockets[site].site.unhealthy_file(), pid.to_string()).map_err(text)?;
        let until = Instant::now() + time;
        self.ill.push((until, site, harm, everybody));
        Ok(())
    }

    fn heal(&mut self, index: usize) -> Verdict {
        let (_, site, harm, everybody) = self.ill.swap_remove(index);
        let docket = &mut self.dockets[site];
        fs::remove_file(docket.site.unhealthy_file()).map_err(text)?;
        if everybody {
            for who in docket.read_log(&mut self.tally)? {
                docket.mar(who.pid);
            }
        }
        docket.end_harm(&harm);
        Ok(())
    }

    /// Takes note of clients that have ended, and of everybody else who has nobody to do so.
    fn reap(&mut self) -> Verdict {
        let is_client = |pid| {
            let is = |place: &Place| place.who.is_some_and(|who| who.pid == pid);
            self.places.iter().any(is)
        };
        let children = observe::children_of(std::process::id());
        self.adopted = children
            .iter()
            .copied()
            .filter(|&pid| !is_client(pid))
            .collect();
        for pid in children {
            let child = Pid::from_raw(pid as i32);
            let Some(id) = child.map(WaitId::Pid) else {
                continue;
            };
            let dead = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if !matches!(waitid(id, dead), Ok(Some(_))) {
                continue;
            }
            // A zombie has its name still.
            let name = observe::name_of(pid);
            if let Ok(Some((_, status))) = waitpid(child, WaitOptions::NOHANG) {
                self.note_end(pid, &name, status)?;
            }
        }
        Ok(())
    }

    fn note_end(&mut self, pid: u32, name: &str, status: WaitStatus) -> Verdict {
        let killed = status.terminating_signal() == Some(Signal::KILL.as_raw());
        let at = |place: &Place| place.who.is_some_and(|who| who.pid == pid);
        if let Some(slot) = self.places.iter().position(at) {
            let place = self.places[slot];
            if let Some(who) = self.places[slot].who.take() {
                self.dockets[place.site].bury(who, killed);
            }
            let figures = &mut self.tally.killed;
            match (killed, place.killed, place.doom) {
                (true, true, _) => figures.clients += 1,
                (true, false, Some(Doom::At(..))) => figures.clients_at_points += 1,
                (true, false, Some(Doom::After(_))) => figures.clients_at_moments += 1,
                _ if status.exit_status() == Some(0) => {}
                _ => return self.wrong(place.site, format!("client {pid} ended with {status:?}")),
            }
            return Ok(());
        }
        if pid == self.nursery.pid() {
            return Err(format!("the nursery ended with {status:?}"));
        }
        if !killed {
            return Ok(());
        }
        let is = |own: fn(&Site) -> String| {
            let named = |docket: &Docket| own(&docket.site) == name;
            self.dockets.iter().position(named)
        };
        if let Some(site) = is(Site::supervisors_name) {
            self.bereft[site] = true;
            match self.struck.remove(&pid) {
                true => self.tally.killed.supervisors += 1,
                false => self.tally.killed.supervisors_at_points += 1,
            }
            self.dockets[site].note(format!("--- supervisor {pid} was killed"));
            self.dockets[site].bereave();
        } else if let Some(site) = is(Site::clients_name) {
            self.tally.killed.children += 1;
            self.dockets[site].note(format!("--- forked child {pid} was killed"));
            self.dockets[site].bereave();
        }
        Ok(())
    }

    fn show(&mut self, last: bool) {
        self.tally.took = self.begun.elapsed();
        let mut out = io::stdout();
        if !out.is_terminal() {
            return;
        }
        if last {
            let _ = writeln!(out);
        } else if self.shown.elapsed() > Duration::from_secs(1) {
            self.shown = Instant::now();
            let _ = write!(out, "\r\x1b[K{}", self.tally.progress());
            let _ = out.flush();
        }
    }

    /// After something went wrong: ends everything that is ours.
    fn sweep(&mut self) {
        for _ in 0..3 {
            for process in observe::descendants() {
                process.who.kill();
                process.who.signal(Signal::CONT);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for set in kernel::sets() {
            if self.keys.contains(&set.key) {
                let _ = set.remove();
            }
        }
    }
}

fn listen(reader: OwnedFd) -> Receiver<Event> {
    let (sender, events) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(fs::File::from(reader)).lines() {
            let event = line.map(|line| serde_json::from_str(&line));
            let Ok(Ok(event)) = event else { continue };
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    events
}
