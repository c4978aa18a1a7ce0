//! The end of a round: who holds what, who ends how, and what is left.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use procref_testkit::observe::Identity;
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use super::{Director, PATIENCE, Verdict, text};
use crate::linux::history::living_holders;
use crate::linux::observe::{self, Counts, Process};
use crate::linux::service::{Event, Room, What};
use crate::linux::workload::{self, Finale, Remedy};

/// What vanishes by itself, does so in this time, even if a supervisor has died.
const BY_ITSELF: Duration = Duration::from_millis(200);

impl Director {
    /// No blows any more, and everybody can go on.
    pub(super) fn calm(&mut self) -> Verdict {
        for (_, who) in self.suspended.drain(..) {
            who.signal(Signal::CONT);
        }
        while !self.dying.is_empty() {
            self.tend()?;
        }
        while !self.ill.is_empty() {
            self.heal(0)?;
        }
        Ok(())
    }

    /// Everything that was told before this has been heard afterwards.
    fn catch_up(&mut self) -> Verdict {
        self.marks += 1;
        let mark = Event::now(Identity::own(), usize::MAX, What::Mark(self.marks));
        let mut line = serde_json::to_string(&mark).map_err(|error| error.to_string())?;
        line.push('\n');
        rustix::io::write(&self.pipe, line.as_bytes()).map_err(|error| error.to_string())?;
        loop {
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) if matches!(event.what, What::Mark(mark) if mark == self.marks) => {
                    return Ok(());
                }
                Ok(event) => self.hear(event)?,
                Err(_) => return Err("the pipe of events is stuck".to_owned()),
            }
        }
    }

    /// With no operation under way, the kernel counts who holds what, exactly.
    pub(super) fn compare_counts(&mut self) -> Verdict {
        let Ok(room) = Room::enter_alone(&self.runtime_dir, PATIENCE) else {
            return self.stuck();
        };
        self.catch_up()?;
        for site in 0..self.dockets.len() {
            let since = Instant::now();
            // What was cancelled is finished by threads, and executed programs end when they like.
            loop {
                let told = living_holders(&self.dockets[site]);
                let counted = observe::counts(self.keys[site]).map_or(0, |it| it.clients);
                if told.len() == counted as usize {
                    break;
                }
                if since.elapsed() > PATIENCE / 4 {
                    let text = format!("the kernel counts {counted}, but {told:?} hold it");
                    return self.wrong(site, text);
                }
                std::thread::sleep(Duration::from_millis(2));
                self.reap()?;
            }
        }
        drop(room);
        Ok(())
    }

    /// Somebody is in the middle of something, and stays there.
    fn stuck(&mut self) -> Verdict {
        let room = self.root.path().join("room");
        let openers = observe::openers(&room);
        let lockers = observe::lockers(&room);
        let own = std::process::id();
        let others: Vec<_> = lockers.into_iter().filter(|(pid, _)| *pid != own).collect();
        self.catch_up()?;
        let place = self.places.iter().find(|place| {
            place
                .who
                .is_some_and(|who| others.iter().any(|(pid, _)| *pid == who.pid))
        });
        let site = place.map_or(0, |place| place.site);
        let text = format!(
            "an operation does not come to its end; in the middle: {others:?}, with the room open: {openers:?}"
        );
        self.wrong(site, text)
    }

    /// Every client ends.
    pub(super) fn finish_clients(&mut self, finale: Finale) -> Verdict {
        let over = self.root.path().join("over");
        fs::write(&over, "").map_err(text)?;
        for slot in 0..self.places.len() {
            let seed = self.options.seed;
            let killed = match finale {
                Finale::Orderly => false,
                Finale::Massacre => true,
                Finale::Mixed => workload::is_killed(seed, self.tally.rounds, slot),
            };
            if killed {
                self.kill_client(slot);
            }
        }
        let since = Instant::now();
        while let Some(place) = self.places.iter().find(|place| place.who.is_some()) {
            if since.elapsed() > PATIENCE {
                let (site, who) = (place.site, place.who);
                return self.wrong(site, format!("client {who:?} does not end"));
            }
            self.tend()?;
        }
        self.catch_up()?;
        for site in 0..self.dockets.len() {
            // Forked children.
            while !living_holders(&self.dockets[site]).is_empty() {
                if since.elapsed() > PATIENCE {
                    return self.wrong(site, "a forked child does not end".to_owned());
                }
                self.tend()?;
            }
            self.dockets[site].holders.clear();
        }
        fs::remove_file(&over).map_err(text)
    }

    /// Nobody holds a service any more, so nothing may be left of any: by itself, unless it was pinned,
    /// or everybody who would have seen to it was killed.
    pub(super) fn see_gone(&mut self) -> Verdict {
        for site in 0..self.dockets.len() {
            if observe::counts(self.keys[site]).is_some_and(|set| set.pinned) {
                self.visit(site, "unpin")?;
            }
        }
        let since = Instant::now();
        let mut remedied = BTreeSet::new();
        let mut clean = 0;
        // A list of processes that is read while some of them end may leave out others.
        while clean < 2 {
            self.tend()?;
            clean += 1;
            let all = observe::descendants();
            for site in 0..self.dockets.len() {
                let set = observe::counts(self.keys[site]);
                let left = self.left_of(site, &all);
                let files = self.files_of(site);
                if set.is_none() && left.is_empty() && files.is_empty() {
                    continue;
                }
                clean = 0;
                if since.elapsed() > PATIENCE / 2 {
                    self.tally.leftovers += 1;
                    return self.wrong(site, format!("left behind: {set:?} {left:?} {files:?}"));
                }
                let excuse = self
                    .excuse(site, set, &left)
                    .filter(|_| !remedied.contains(&site));
                // What is about to end may need a moment.
                let waited = left.is_empty() || since.elapsed() > BY_ITSELF;
                if let Some(excuse) = excuse.filter(|_| waited) {
                    self.dockets[site].note(format!("--- left, {excuse:?}: {set:?} {left:?}"));
                    *match excuse {
                        Excuse::Bereft => &mut self.tally.left,
                        Excuse::Crashed => &mut self.tally.dead,
                        Excuse::Empty => &mut self.tally.empty,
                    } += 1;
                    self.remedy(site, set)?;
                    remedied.insert(site);
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Its files in the runtime directory.
    fn files_of(&self, site: usize) -> Vec<String> {
        let prefix = format!("{site:03}_");
        let mut files = observe::files(&self.runtime_dir);
        files.retain(|file| file.starts_with(&prefix));
        files
    }

    /// Why something may be left that nobody is going to remove.
    fn excuse(&self, site: usize, set: Option<Counts>, left: &[Process]) -> Option<Excuse> {
        let name = self.dockets[site].site.supervisors_name();
        let supervised = left.iter().any(|process| process.name == name);
        // Nobody leaves files without a set.
        if supervised || set.is_none() || self.dockets[site].is_left_well() {
            return None;
        }
        if self.bereft[site] {
            return Some(Excuse::Bereft);
        }
        if !left.is_empty() {
            // Where nobody has killed the supervisor, no process may be left.
            return None;
        }
        if set.is_some_and(Counts::is_empty) {
            return Some(Excuse::Empty);
        }
        self.crashed[site].then_some(Excuse::Crashed)
    }

    fn remedy(&mut self, site: usize, set: Option<Counts>) -> Verdict {
        let planned = workload::remedy(self.options.seed, self.tally.rounds, site);
        // What does not say whose it is, waits for its owner.
        let claimed = set.is_none_or(|it| it.claimed);
        match planned {
            Remedy::Gc if claimed => self.visit(site, "gc"),
            _ => self.visit(site, "acquire"),
        }
    }

    fn visit(&mut self, site: usize, errand: &str) -> Verdict {
        self.dockets[site].note(format!("--- a visitor: {errand}"));
        let who = self.send_visitor(errand, &self.orders(site, 0, 0))?;
        let since = Instant::now();
        let pid = Pid::from_raw(who.pid as i32);
        loop {
            match waitpid(pid, WaitOptions::NOHANG) {
                Ok(Some((_, status))) if status.exit_status() == Some(0) => return Ok(()),
                Ok(None) if since.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                other => return self.wrong(site, format!("{errand} of a visitor: {other:?}")),
            }
        }
    }

    /// Every process of the service.
    fn left_of(&mut self, site: usize, all: &[Process]) -> Vec<Process> {
        let docket = &self.dockets[site];
        let dir = docket.site.dir.to_string_lossy().into_owned() + "/";
        let names = [docket.site.supervisors_name(), docket.site.clients_name()];
        let ours =
            |process: &&Process| process.line.contains(&dir) || names.contains(&process.name);
        let mut left: Vec<_> = all.iter().filter(ours).cloned().collect();
        let is_worker = |process: &Process| process.line.contains(" --worker ");
        let set = observe::counts(self.keys[site]);
        if self.bereft[site] && set.is_none() && left.iter().all(is_worker) {
            // Only their parent could know of them, and that was killed.
            self.tally.stray_workers += left.len() as u64;
            for process in left.drain(..) {
                process.who.kill();
            }
        }
        left
    }
}

/// Everybody who would have removed what is left was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excuse {
    /// The supervisor.
    Bereft,
    /// Its holders, after the service, which procref executes, had died, and with it its supervisor's
    /// task.
    Crashed,
    /// Whoever was about to start a supervisor.
    Empty,
}
