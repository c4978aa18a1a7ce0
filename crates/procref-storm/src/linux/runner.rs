//! The runner: starts the clients, injects faults, and supervises the rounds.

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

use procref::{Services, SharedService};
use procref_testkit::kernel;
use procref_testkit::observe::Identity;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, set_child_subreaper,
    waitid, waitpid,
};
use tempfile::TempDir;

use crate::linux::client::ClientSpec;
use crate::linux::event::Event;
use crate::linux::fork_server::ForkServer;
use crate::linux::history::History;
use crate::linux::observe;
use crate::linux::service::Service;
use crate::linux::stats::Stats;
use crate::linux::workload::{self, CrashPlan, Fault};
use crate::options::Options;

/// Time in which clients run and are replaced, before the end of a round.
const ROUND: Duration = Duration::from_millis(2200);

/// An operation that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(40);

/// Faults that are overdue by more than this are postponed.
const MAX_DELAY: Duration = Duration::from_millis(50);

/// Number of clients that share a service.
const CLIENTS_PER_SERVICE: usize = 3;

/// `Err` describes a violation.
type Verdict<T = ()> = Result<T, String>;

fn text(error: io::Error) -> String {
    error.to_string()
}

/// A slot for one client at a time.
#[derive(Clone, Copy, Debug)]
struct Slot {
    service: usize,
    client: Option<Identity>,
    /// Number of clients that the slot has had.
    nth: u64,
    /// The runner has killed the client.
    killed: bool,
    crash_plan: Option<CrashPlan>,
}

/// A process that was killed and may still be alive. A disturbance lasts until the process is dead.
struct DyingProcess {
    service: usize,
    process: Identity,
    disturbance: String,
    since: Instant,
}

/// A service that the runner has made unhealthy.
struct UnhealthyService {
    service: usize,
    until: Instant,
    disturbance: String,
    /// Every instance is unhealthy, not only the live one.
    all: bool,
}

/// Runs a storm. `runner/round_end.rs` has the end of a round.
pub struct Runner {
    options: Options,
    root: TempDir,
    runtime_dir: PathBuf,
    stats: Stats,
    histories: Vec<History>,
    keys: Vec<i32>,
    /// Services whose supervisor was killed in this round.
    supervisor_killed: Vec<bool>,
    slots: Vec<Slot>,
    fork_server: ForkServer,
    dying: Vec<DyingProcess>,
    /// Children that are not clients: supervisors, and orphans that were reparented to this process.
    adopted: Vec<u32>,
    /// Supervisors that the runner has killed.
    killed_supervisors: BTreeSet<u32>,
    /// Suspended clients, each with the time at which to resume it.
    suspended: Vec<(Instant, Identity)>,
    unhealthy: Vec<UnhealthyService>,
    events: Receiver<Event>,
    pipe: OwnedFd,
    marks: u64,
    shown: Instant,
    begun: Instant,
}

impl Runner {
    pub fn new(options: Options) -> io::Result<Self> {
        // Orphans become children of this process, which reaps them.
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
        let services = options
            .processes
            .div_ceil(CLIENTS_PER_SERVICE)
            .max(options.kinds.len());
        let mut histories = Vec::new();
        let mut keys = Vec::new();
        for index in 0..services {
            let dir = root.path().join(index.to_string());
            fs::create_dir(&dir)?;
            let service = Service {
                kind: options.kinds[index % options.kinds.len()],
                name: format!("{index:03} of {tag}"),
                dir,
            };
            // This creates no set. The service is built to get the key from procref.
            let built = SharedService::builder(&service.name)
                .base_dir(&runtime_dir)
                .build();
            let built = built.map_err(io::Error::other)?;
            keys.push(kernel::parse_key(&built.kernel_object()));
            histories.push(History::new(service));
        }
        let slots = (0..options.processes)
            .map(|slot| Slot {
                service: slot % services,
                client: None,
                nth: 0,
                killed: false,
                crash_plan: None,
            })
            .collect();
        let (reader, pipe) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let events = read_events(reader);
        let fork_server = ForkServer::new(root.path(), pipe.try_clone()?)?;
        Ok(Self {
            fork_server,
            dying: Vec::new(),
            adopted: Vec::new(),
            killed_supervisors: BTreeSet::new(),
            options,
            root,
            runtime_dir,
            stats: Stats::default(),
            supervisor_killed: vec![false; services],
            histories,
            keys,
            slots,
            suspended: Vec::new(),
            unhealthy: Vec::new(),
            events,
            pipe,
            marks: 0,
            shown: Instant::now(),
            begun: Instant::now(),
        })
    }

    /// Runs rounds until the time is up or a violation is found.
    pub fn run(mut self) -> (Stats, Verdict) {
        let mut verdict = Ok(());
        while verdict.is_ok() && self.begun.elapsed() < self.options.time {
            verdict = self.round();
        }
        self.stats.took = self.begun.elapsed();
        self.show(true);
        if verdict.is_err() {
            self.remove_everything();
        }
        (self.stats, verdict)
    }

    fn round(&mut self) -> Verdict {
        self.stats.rounds += 1;
        let round = self.stats.rounds;
        let remaining = self.options.time.saturating_sub(self.begun.elapsed());
        let end = Instant::now() + ROUND.min(remaining);
        let (clients, services) = (self.slots.len(), self.histories.len());
        let mut faults = workload::faults(
            self.options.seed,
            round,
            self.options.rate,
            self.options.kill_keepers,
            clients,
            services,
        )
        .peekable();
        let mut next = Instant::now();
        while Instant::now() < end {
            self.fill_slots()?;
            // On a busy machine faults are late. They are postponed instead of injected all at once, because a
            // fault needs a running process.
            let now = Instant::now();
            next = next.max(now.checked_sub(MAX_DELAY).unwrap_or(now));
            while let Some((gap, fault)) = faults.next_if(|(gap, _)| next + *gap <= now) {
                next += gap;
                self.inject(fault)?;
            }
            self.poll()?;
        }
        self.end_faults()?;
        self.compare_counts()?;
        self.finish_clients(workload::round_end(self.options.seed, round))?;
        self.wait_removed()?;
        if kernel::is_keeper() {
            // A keeper that was killed before anything was counted leaves a file for the next client, or `gc`.
            let services = Services::in_dir(&self.runtime_dir);
            let collected = services.and_then(|services| services.gc_blocking());
            collected.map_err(|error| error.to_string())?;
        }
        let files = observe::files(&self.runtime_dir);
        if !files.is_empty() {
            return self.violation(0, format!("files left behind: {files:?}"));
        }
        self.supervisor_killed.fill(false);
        self.killed_supervisors.clear();
        self.histories.iter_mut().for_each(History::begin_round);
        Ok(())
    }

    /// Handles events, exits, the ends of faults, and the logs of the services.
    fn poll(&mut self) -> Verdict {
        if let Ok(event) = self.events.recv_timeout(Duration::from_millis(4)) {
            self.handle_event(event)?;
        }
        while let Ok(event) = self.events.try_recv() {
            self.handle_event(event)?;
        }
        self.reap()?;
        self.check_dying()?;
        let now = Instant::now();
        self.suspended.retain(|(until, process)| {
            if *until <= now {
                process.signal(Signal::CONT);
            }
            *until > now
        });
        for index in (0..self.unhealthy.len()).rev() {
            if self.unhealthy[index].until <= now {
                self.make_healthy(index)?;
            }
        }
        for service in 0..self.histories.len() {
            let read = self.histories[service].read_log(&mut self.stats);
            let checked = read.and_then(|live| match live.len() {
                0 | 1 => Ok(()),
                _ => Err(format!("two live instances: {live:?}")),
            });
            checked.or_else(|text| self.violation(service, text))?;
        }
        self.show(false);
        Ok(())
    }

    fn handle_event(&mut self, event: Event) -> Verdict {
        let service = event.service;
        let verdict = match self.histories.get_mut(service) {
            Some(history) => history.check_event(event, &mut self.stats),
            None => Ok(()),
        };
        verdict.or_else(|text| self.violation(service, text))
    }

    /// Returns the violation with everything that is known of the service.
    fn violation<T>(&mut self, service: usize, text: String) -> Verdict<T> {
        // The report includes the log.
        let _ = self.histories[service].read_log(&mut self.stats);
        let history = &self.histories[service];
        let counts = observe::counts(self.keys[service]);
        Err(format!(
            "{text}\nservice {service}, {:?}, in {:?}; its set: {counts:?}; in the runtime directory: {:?}\n\
             its supervisors: {:?}\nevents before the violation (microseconds):\n{}",
            history.service.kind,
            self.root.path(),
            observe::files(&self.runtime_dir),
            self.supervisors(service),
            history.report(),
        ))
    }

    fn fill_slots(&mut self) -> Verdict {
        let is_empty = |(_, slot): &(usize, &Slot)| slot.client.is_none();
        let empty = self.slots.iter().enumerate().filter(is_empty);
        let specs: Vec<_> = empty
            .map(|(index, slot)| self.client_spec(slot.service, index, slot.nth))
            .collect();
        let clients = self.fork_server.fork_clients(&specs).map_err(text)?;
        for (spec, client) in specs.iter().zip(clients) {
            self.stats.clients += 1;
            self.slots[spec.slot] = Slot {
                service: spec.index,
                client: Some(client),
                nth: spec.nth + 1,
                killed: false,
                crash_plan: spec.workload().crash_plan,
            };
        }
        Ok(())
    }

    fn client_spec(&self, service: usize, slot: usize, nth: u64) -> ClientSpec {
        let trace = self.options.trace.as_ref();
        ClientSpec {
            seed: self.options.seed,
            index: service,
            service: self.histories[service].service.clone(),
            slot,
            nth,
            doomed: self.options.doomed,
            guardian: Identity::own(),
            trace: trace.map(|dir| dir.join(format!("{service}.log"))),
        }
    }

    /// Starts a process that cleans up a service.
    fn spawn_cleanup(&self, task: &str, spec: &ClientSpec) -> Verdict<Identity> {
        let spec = serde_json::to_string(spec).map_err(|error| error.to_string())?;
        let program = std::env::current_exe().map_err(text)?;
        let output = self.pipe.try_clone().map_err(text)?;
        let child = Command::new(program)
            .arg("cleanup")
            .arg(spec)
            .arg(task)
            .stdin(Stdio::null())
            .stdout(output)
            .current_dir("/")
            .spawn()
            .map_err(text)?;
        // This succeeds even if the child is a zombie, because only this process reaps it.
        Identity::of(child.id()).ok_or_else(|| "a child without an identity".to_owned())
    }

    fn inject(&mut self, fault: Fault) -> Verdict {
        match fault {
            Fault::KillClient(slot) => self.kill_client(slot),
            Fault::KillAllClients(service) => {
                for slot in 0..self.slots.len() {
                    if self.slots[slot].service == service {
                        self.kill_client(slot);
                    }
                }
            }
            Fault::SuspendClient(slot, time) => {
                if let Some(client) = self.slots[slot].client {
                    self.stats.suspended_clients += 1;
                    let service = self.slots[slot].service;
                    self.histories[service].note(format!("--- suspending {client}"));
                    client.signal(Signal::STOP);
                    self.suspended.push((Instant::now() + time, client));
                }
            }
            Fault::KillSupervisor(service) => {
                for supervisor in self.supervisors(service) {
                    self.killed_supervisors.insert(supervisor.pid);
                    self.kill_disturbing(service, supervisor, "supervisor");
                }
            }
            Fault::KillInstance(service) => {
                let live = self.histories[service].read_log(&mut self.stats)?;
                for instance in live {
                    self.stats.killed.instances += 1;
                    self.histories[service].mark_disturbed(instance.pid);
                    self.kill_disturbing(service, instance, "service");
                }
            }
            Fault::MakeUnhealthy { service, time, all } => {
                self.make_unhealthy(service, time, all)?;
            }
        }
        Ok(())
    }

    fn kill_client(&mut self, slot: usize) {
        let Slot {
            service, client, ..
        } = self.slots[slot];
        if let Some(client) = client {
            self.slots[slot].killed = true;
            self.histories[service].note(format!("--- killing client {client}"));
            client.kill();
        }
    }

    /// Kills a process whose death disturbs the service.
    fn kill_disturbing(&mut self, service: usize, process: Identity, role: &str) {
        let disturbance = format!("killing {role} {process}");
        self.histories[service].begin_disturbance(disturbance.clone());
        process.kill();
        self.dying.push(DyingProcess {
            service,
            process,
            disturbance,
            since: Instant::now(),
        });
    }

    /// Ends the disturbance of each killed process that is dead.
    fn check_dying(&mut self) -> Verdict {
        for index in (0..self.dying.len()).rev() {
            if !self.dying[index].process.is_live() {
                let dead = self.dying.swap_remove(index);
                self.histories[dead.service].end_disturbance(&dead.disturbance);
            } else if self.dying[index].since.elapsed() > PATIENCE {
                return Err(format!("{} survives SIGKILL", self.dying[index].process));
            }
        }
        Ok(())
    }

    /// Returns the live supervisors of a service. They are children of this process.
    fn supervisors(&self, service: usize) -> Vec<Identity> {
        let comm = self.histories[service].service.supervisor_comm();
        let supervisors = self.adopted.iter().copied();
        supervisors
            .filter(|&pid| observe::name_of(pid) == comm)
            .filter_map(Identity::of)
            .filter(|supervisor| supervisor.is_live())
            .collect()
    }

    fn make_unhealthy(&mut self, service: usize, time: Duration, all: bool) -> Verdict {
        if self.unhealthy.iter().any(|it| it.service == service) {
            return Ok(());
        }
        let live = self.histories[service].read_log(&mut self.stats)?;
        let pid = match (all, live.first()) {
            (true, _) => 0,
            (false, Some(instance)) => instance.pid,
            (false, None) => return Ok(()),
        };
        self.stats.unhealthy += 1;
        let disturbance = format!("making {pid} unhealthy");
        self.histories[service].begin_disturbance(disturbance.clone());
        for instance in live {
            self.histories[service].mark_disturbed(instance.pid);
        }
        let file = self.histories[service].service.unhealthy_file();
        fs::write(file, pid.to_string()).map_err(text)?;
        self.unhealthy.push(UnhealthyService {
            service,
            until: Instant::now() + time,
            disturbance,
            all,
        });
        Ok(())
    }

    fn make_healthy(&mut self, index: usize) -> Verdict {
        let UnhealthyService {
            service,
            disturbance,
            all,
            ..
        } = self.unhealthy.swap_remove(index);
        let history = &mut self.histories[service];
        fs::remove_file(history.service.unhealthy_file()).map_err(text)?;
        if all {
            for instance in history.read_log(&mut self.stats)? {
                history.mark_disturbed(instance.pid);
            }
        }
        history.end_disturbance(&disturbance);
        Ok(())
    }

    /// Reaps the children that have exited: clients, supervisors and orphans.
    fn reap(&mut self) -> Verdict {
        let is_client = |pid| {
            let has_pid = |slot: &Slot| slot.client.is_some_and(|client| client.pid == pid);
            self.slots.iter().any(has_pid)
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
            let exited = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if !matches!(waitid(id, exited), Ok(Some(_))) {
                continue;
            }
            // The name is read first, because a zombie still has it.
            let name = observe::name_of(pid);
            if let Ok(Some((_, status))) = waitpid(child, WaitOptions::NOHANG) {
                self.record_exit(pid, &name, status)?;
            }
        }
        Ok(())
    }

    fn record_exit(&mut self, pid: u32, name: &str, status: WaitStatus) -> Verdict {
        let killed = status.terminating_signal() == Some(Signal::KILL.as_raw());
        let has_pid = |slot: &Slot| slot.client.is_some_and(|client| client.pid == pid);
        if let Some(index) = self.slots.iter().position(has_pid) {
            let slot = self.slots[index];
            if let Some(client) = self.slots[index].client.take() {
                self.histories[slot.service].record_exit(client, killed);
            }
            let figures = &mut self.stats.killed;
            match (killed, slot.killed, slot.crash_plan) {
                (true, true, _) => figures.clients += 1,
                (true, false, Some(CrashPlan::AtPoint(..))) => figures.clients_at_points += 1,
                (true, false, Some(CrashPlan::After(_))) => figures.clients_at_moments += 1,
                _ if status.exit_status() == Some(0) => {}
                _ => {
                    let text = format!("client {pid} exited with {status:?}");
                    return self.violation(slot.service, text);
                }
            }
            return Ok(());
        }
        if pid == self.fork_server.pid() {
            return Err(format!("the fork server exited with {status:?}"));
        }
        if !killed {
            return Ok(());
        }
        let find = |comm: fn(&Service) -> String| {
            let has_name = |history: &History| comm(&history.service) == name;
            self.histories.iter().position(has_name)
        };
        if let Some(service) = find(Service::supervisor_comm) {
            self.supervisor_killed[service] = true;
            match self.killed_supervisors.remove(&pid) {
                true => self.stats.killed.supervisors += 1,
                false => self.stats.killed.supervisors_at_points += 1,
            }
            self.histories[service].note(format!("--- supervisor {pid} was killed"));
            self.histories[service].record_death();
        } else if let Some(service) = find(Service::client_comm) {
            self.stats.killed.children += 1;
            self.histories[service].note(format!("--- forked child {pid} was killed"));
            self.histories[service].record_death();
        }
        Ok(())
    }

    /// Prints the progress on a terminal, at most once a second.
    fn show(&mut self, last: bool) {
        self.stats.took = self.begun.elapsed();
        let mut out = io::stdout();
        if !out.is_terminal() {
            return;
        }
        if last {
            let _ = writeln!(out);
        } else if self.shown.elapsed() > Duration::from_secs(1) {
            self.shown = Instant::now();
            let _ = write!(out, "\r\x1b[K{}", self.stats.progress());
            let _ = out.flush();
        }
    }

    /// Kills all processes of the storm and removes its sets after a violation.
    fn remove_everything(&mut self) {
        for _ in 0..3 {
            for process in observe::descendants() {
                process.identity.kill();
                process.identity.signal(Signal::CONT);
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

/// Reads events from the pipe, in a separate thread.
fn read_events(reader: OwnedFd) -> Receiver<Event> {
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
