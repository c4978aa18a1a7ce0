//! The end of a round: who holds what, who ends how, and what is left.

use std::fs;
use std::time::{Duration, Instant};

use procref_testkit::observe::Identity;
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use super::{Director, PATIENCE, Verdict, text};
use crate::judge::living_holders;
use crate::outside;
use crate::plan::{self, Finale, Remedy};
use crate::site::{Event, Room, What};

/// What vanishes by itself, does so in this time, even if a supervisor has died.
const BY_ITSELF: Duration = Duration::from_secs(1);

impl Director {
    /// No blows any more, and everybody can go on.
    pub(super) fn calm(&mut self) -> Verdict {
        for (_, who) in self.suspended.drain(..) {
            who.signal(Signal::CONT);
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
                let counted = outside::counts(self.keys[site]).map_or(0, |it| it.clients);
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
        let lockers = outside::lockers(&self.root.path().join("room"));
        let own = std::process::id();
        let others: Vec<_> = lockers.into_iter().filter(|(pid, _)| *pid != own).collect();
        self.catch_up()?;
        let place = self.places.iter().find(|place| {
            place
                .who
                .is_some_and(|who| others.iter().any(|(pid, _)| *pid == who.pid))
        });
        let site = place.map_or(0, |place| place.site);
        let text = format!("an operation does not come to its end; in the middle: {others:?}");
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
                Finale::Mixed => plan::is_killed(seed, self.tally.rounds, slot),
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

    /// Nobody holds the service any more, so nothing may be left of it: by itself, unless it was pinned
    /// or its supervisor was killed. One that procref executes has no supervisor any more once it has died
    /// while it was held: if the holders are killed, too, its set and its record wait for the next client.
    pub(super) fn see_gone(&mut self, site: usize) -> Verdict {
        let excused = self.bereft[site] || self.crashed[site];
        let pinned = outside::counts(self.keys[site]).is_some_and(|set| set.pinned);
        let excused = excused && !pinned && !self.dockets[site].is_left_well();
        if excused && !self.is_gone_within(site, BY_ITSELF)? {
            // Where nobody has killed the supervisor, no process may be left.
            if self.bereft[site] || self.left_of(site).len() == 1 {
                match self.bereft[site] {
                    true => self.tally.left += 1,
                    false => self.tally.dead += 1,
                }
                self.remedy(site)?;
            }
        }
        if outside::counts(self.keys[site]).is_some_and(|it| it.is_blank()) {
            if let [left] = &self.left_of(site)[..] {
                let left = left.clone();
                self.dockets[site].note(format!("--- left: {left}"));
                self.tally.blank += 1;
                self.remedy(site)?;
            }
        }
        if outside::counts(self.keys[site]).is_some_and(|it| it.pinned) {
            self.visit(site, "unpin")?;
        }
        if self.is_gone_within(site, PATIENCE / 2)? {
            return Ok(());
        }
        let left = self.left_of(site);
        self.wrong(site, format!("left behind: {left:?}"))
    }

    fn remedy(&mut self, site: usize) -> Verdict {
        let planned = plan::remedy(self.options.seed, self.tally.rounds, site);
        // What does not say whose it is, waits for its owner.
        let claimed = outside::counts(self.keys[site]).is_none_or(|it| it.claimed);
        match planned {
            Remedy::Gc if claimed => self.visit(site, "gc"),
            _ => self.visit(site, "acquire"),
        }
    }

    fn visit(&mut self, site: usize, errand: &str) -> Verdict {
        self.dockets[site].note(format!("--- a visitor: {errand}"));
        let who = self.spawn(&["visit", errand], &self.orders(site, 0, 0))?;
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

    fn is_gone_within(&mut self, site: usize, limit: Duration) -> Verdict<bool> {
        let since = Instant::now();
        loop {
            self.tend()?;
            // The list of all processes costs more than that of all sets.
            let counted = outside::counts(self.keys[site]).is_some();
            if !counted && self.left_of(site).is_empty() {
                return Ok(true);
            }
            if since.elapsed() > limit {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Every process of the service, and its set.
    fn left_of(&mut self, site: usize) -> Vec<String> {
        let docket = &self.dockets[site];
        let dir = docket.site.dir.to_string_lossy().into_owned() + "/";
        let processes = outside::processes_with(&[&dir, &docket.site.name]);
        let set = outside::counts(self.keys[site]);
        let is_worker = |line: &str| line.contains(" --worker ");
        if self.bereft[site] && set.is_none() && processes.iter().all(|(_, line)| is_worker(line)) {
            // Only their parent could know of them, and that was killed.
            self.tally.stray_workers += processes.len() as u64;
            for (who, _) in processes {
                who.signal(Signal::KILL);
            }
            return Vec::new();
        }
        let mut left: Vec<_> = processes
            .into_iter()
            .map(|(who, line)| format!("{who} {line}"))
            .collect();
        left.extend(set.map(|counts| format!("a set: {counts:?}")));
        left
    }
}
