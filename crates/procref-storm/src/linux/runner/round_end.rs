//! The end of a round: compares the counts, finishes the clients, and waits until everything is removed.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use procref::Services;
use procref_testkit::kernel;
use procref_testkit::observe::Identity;
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use super::{PATIENCE, Runner, Verdict, text};
use crate::linux::event::{Event, EventKind};
use crate::linux::observe::{self, Counts, Process};
use crate::linux::operation_lock::OperationLock;
use crate::linux::workload::{self, Cleanup, RoundEnd};

/// Everything that disappears without a cleanup does so within this time, even if a supervisor was killed.
const REMOVAL_TIME: Duration = Duration::from_millis(200);

impl Runner {
    /// Ends all faults: resumes clients, waits for dying processes, and makes services healthy.
    pub(super) fn end_faults(&mut self) -> Verdict {
        for (_, client) in self.suspended.drain(..) {
            client.signal(Signal::CONT);
        }
        while !self.dying.is_empty() {
            self.poll()?;
        }
        while !self.unhealthy.is_empty() {
            self.make_healthy(0)?;
        }
        Ok(())
    }

    /// Handles all events that were reported before this call.
    fn handle_pending_events(&mut self) -> Verdict {
        self.marks += 1;
        let mark = Event::now(Identity::own(), usize::MAX, EventKind::Mark(self.marks));
        let mut line = serde_json::to_string(&mark).map_err(|error| error.to_string())?;
        line.push('\n');
        rustix::io::write(&self.pipe, line.as_bytes()).map_err(|error| error.to_string())?;
        loop {
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) if matches!(event.kind, EventKind::Mark(mark) if mark == self.marks) => {
                    return Ok(());
                }
                Ok(event) => self.handle_event(event)?,
                Err(_) => return Err("the pipe of events is blocked".to_owned()),
            }
        }
    }

    /// Compares the kernel's count of each service with its holders. The counts are exact, because no operation is
    /// in progress.
    pub(super) fn compare_counts(&mut self) -> Verdict {
        let Ok(operations) = OperationLock::exclusive(&self.runtime_dir, PATIENCE) else {
            return self.report_hang();
        };
        self.handle_pending_events()?;
        for service in 0..self.histories.len() {
            let since = Instant::now();
            // The counts may need a moment: threads undo cancelled operations, and executed programs exit at any
            // time.
            loop {
                let holders = self.histories[service].live_holders();
                let counted =
                    observe::counts(self.keys[service]).map_or(0, |counts| counts.clients);
                if holders.len() == counted as usize {
                    break;
                }
                // If the keeper was killed, the file has the references of clients that have died after it. Any step of a
                // client starts a successor.
                if kernel::is_keeper() {
                    let services = Services::in_dir(&self.runtime_dir);
                    let listed = services.and_then(|services| services.list());
                    listed.map_err(|error| error.to_string())?;
                }
                if since.elapsed() > PATIENCE / 4 {
                    let text = format!("the kernel counts {counted} clients, not {holders:?}");
                    return self.violation(service, text);
                }
                std::thread::sleep(Duration::from_millis(2));
                self.reap()?;
            }
        }
        drop(operations);
        Ok(())
    }

    /// Returns a violation for an operation that does not finish.
    fn report_hang(&mut self) -> Verdict {
        let path = OperationLock::path(self.root.path());
        let openers = observe::openers(&path);
        let lockers = observe::lockers(&path);
        let own = std::process::id();
        let others: Vec<_> = lockers.into_iter().filter(|(pid, _)| *pid != own).collect();
        self.handle_pending_events()?;
        let slot = self.slots.iter().find(|slot| {
            slot.client
                .is_some_and(|client| others.iter().any(|(pid, _)| *pid == client.pid))
        });
        let service = slot.map_or(0, |slot| slot.service);
        let text = format!(
            "an operation does not finish; processes with the operation lock: {others:?}, with its file open: {openers:?}"
        );
        self.violation(service, text)
    }

    /// Finishes every client in the way of `round_end`, and waits for their exits.
    pub(super) fn finish_clients(&mut self, round_end: RoundEnd) -> Verdict {
        let stop_file = self.root.path().join("stop");
        fs::write(&stop_file, "").map_err(text)?;
        for slot in 0..self.slots.len() {
            let seed = self.options.seed;
            let killed = match round_end {
                RoundEnd::Orderly => false,
                RoundEnd::KillAll => true,
                RoundEnd::KillHalf => workload::is_killed(seed, self.stats.rounds, slot),
            };
            if killed {
                self.kill_client(slot);
            }
        }
        let since = Instant::now();
        while let Some(slot) = self.slots.iter().find(|slot| slot.client.is_some()) {
            if since.elapsed() > PATIENCE {
                let (service, client) = (slot.service, slot.client);
                return self.violation(service, format!("client {client:?} does not exit"));
            }
            self.poll()?;
        }
        self.handle_pending_events()?;
        for service in 0..self.histories.len() {
            // The other reporters are forked children.
            while !self.histories[service].live_holders().is_empty() {
                if since.elapsed() > PATIENCE {
                    return self.violation(service, "a forked child does not exit".to_owned());
                }
                self.poll()?;
            }
            self.histories[service].holders.clear();
        }
        fs::remove_file(&stop_file).map_err(text)
    }

    /// Waits until nothing is left of any service. A pinned service is unpinned first. A service whose leftovers
    /// a fault excuses is cleaned up once.
    pub(super) fn wait_removed(&mut self) -> Verdict {
        for service in 0..self.histories.len() {
            if observe::counts(self.keys[service]).is_some_and(|set| set.pinned) {
                self.run_cleanup(service, "unpin")?;
            }
        }
        let since = Instant::now();
        let mut cleaned_up = BTreeSet::new();
        let mut clean_checks = 0;
        // The check is done twice, because a list of processes can miss some of them while others exit.
        while clean_checks < 2 {
            self.poll()?;
            clean_checks += 1;
            let all = observe::descendants();
            for service in 0..self.histories.len() {
                let set = observe::counts(self.keys[service]);
                let processes = self.processes_of(service, &all);
                let files = self.files_of(service);
                if set.is_none() && processes.is_empty() && files.is_empty() {
                    continue;
                }
                clean_checks = 0;
                if since.elapsed() > PATIENCE / 2 {
                    self.stats.leftovers += 1;
                    let text = format!("left behind: {set:?} {processes:?} {files:?}");
                    return self.violation(service, text);
                }
                let cause = self
                    .cause_of_leftovers(service, set, &processes, &files)
                    .filter(|_| !cleaned_up.contains(&service));
                // A process that is about to exit may need a moment.
                let waited = processes.is_empty() || since.elapsed() > REMOVAL_TIME;
                if let Some(cause) = cause.filter(|_| waited) {
                    let text = format!("--- leftovers, {cause:?}: {set:?} {processes:?}");
                    self.histories[service].note(text);
                    *match cause {
                        KilledRole::Supervisor => &mut self.stats.unsupervised,
                        KilledRole::Starter => &mut self.stats.empty,
                        KilledRole::Waiter => &mut self.stats.unread_notes,
                    } += 1;
                    self.clean_up(service, set)?;
                    cleaned_up.insert(service);
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Returns the files of a service in the runtime directory.
    fn files_of(&self, service: usize) -> Vec<String> {
        let prefix = format!("{service:03}_");
        let mut files = observe::files(&self.runtime_dir);
        files.retain(|file| file.starts_with(&prefix));
        files
    }

    /// Returns the killed processes that would have removed the leftovers. Returns `None` if no fault excuses them.
    fn cause_of_leftovers(
        &self,
        service: usize,
        set: Option<Counts>,
        processes: &[Process],
        files: &[String],
    ) -> Option<KilledRole> {
        let history = &self.histories[service];
        let comm = history.service.supervisor_comm();
        // A keeper whose supervisor has died does not stop the service. The file of a dead keeper still counts its
        // supervisor.
        let supervised = processes.iter().any(|process| process.name == comm)
            && (!kernel::is_keeper() || set.is_some_and(|set| set.supervised));
        if supervised || history.is_released_orderly() {
            return None;
        }
        if set.is_none() {
            // No fault excuses other files or processes without a set.
            let unread = files.iter().all(|file| file.ends_with(".failed"));
            let killed = unread && processes.is_empty() && history.has_death();
            return killed.then_some(KilledRole::Waiter);
        }
        if self.supervisor_killed[service] {
            return Some(KilledRole::Supervisor);
        }
        if !processes.is_empty() {
            // Processes may be left only if the supervisor was killed.
            return None;
        }
        if set.is_some_and(Counts::is_empty) {
            return Some(KilledRole::Starter);
        }
        None
    }

    fn clean_up(&mut self, service: usize, set: Option<Counts>) -> Verdict {
        let planned = workload::cleanup(self.options.seed, self.stats.rounds, service);
        // `gc` does not touch a set without a name. Only a client of the service removes such a set.
        let claimed = set.is_none_or(|set| set.claimed);
        match planned {
            Cleanup::Gc if claimed => self.run_cleanup(service, "gc"),
            _ => self.run_cleanup(service, "acquire"),
        }
    }

    fn run_cleanup(&mut self, service: usize, task: &str) -> Verdict {
        self.histories[service].note(format!("--- cleanup: {task}"));
        let process = self.spawn_cleanup(task, &self.client_spec(service, 0, 0))?;
        let since = Instant::now();
        let pid = Pid::from_raw(process.pid as i32);
        loop {
            match waitpid(pid, WaitOptions::NOHANG) {
                Ok(Some((_, status))) if status.exit_status() == Some(0) => return Ok(()),
                Ok(None) if since.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                other => return self.violation(service, format!("cleanup by {task}: {other:?}")),
            }
        }
    }

    /// Returns the live processes of a service.
    fn processes_of(&mut self, service: usize, all: &[Process]) -> Vec<Process> {
        let known = &self.histories[service].service;
        let dir = known.dir.to_string_lossy().into_owned() + "/";
        let comms = [known.supervisor_comm(), known.client_comm()];
        let is_ours = |process: &&Process| {
            process.command_line.contains(&dir) || comms.contains(&process.name)
        };
        let mut processes: Vec<_> = all.iter().filter(is_ours).cloned().collect();
        let is_worker = |process: &Process| process.command_line.contains(" --worker ");
        let set = observe::counts(self.keys[service]);
        if self.supervisor_killed[service] && set.is_none() && processes.iter().all(is_worker) {
            // Only the killed supervisor knew these workers.
            self.stats.stray_workers += processes.len() as u64;
            for process in processes.drain(..) {
                process.identity.kill();
            }
        }
        processes
    }
}

/// The processes that would have removed a service, and were killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KilledRole {
    Supervisor,
    /// The client was killed before it started a supervisor.
    Starter,
    /// The client was killed while it waited for a start, which failed.
    Waiter,
}
