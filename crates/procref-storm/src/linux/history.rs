//! The judge: hears what clients tell, knows what was done to whom, and says what must not have happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use procref_testkit::log::{Line, Tail};
use procref_testkit::observe::{Identity, now_ns};

use crate::linux::service::{Event, PORT_LOST, Site, What};
use crate::linux::stats::Tally;

/// How many of the last events are kept for a report.
const REMEMBERED: usize = 120;

/// Something that was done to a service, and may excuse what a client saw.
#[derive(Clone, Debug)]
struct Harm {
    from: u64,
    /// It goes on.
    to: Option<u64>,
    what: String,
}

/// What is known of one service.
pub struct Docket {
    pub site: Site,
    harms: Vec<Harm>,
    /// Instances that were killed, or lived while they were ill: others may replace them at any time.
    marred: BTreeSet<u32>,
    /// Processes that hold a reference, as far as they have told.
    pub holders: BTreeSet<Identity>,
    /// Clients that have begun to end in an orderly way.
    orderly: BTreeSet<Identity>,
    /// When each client began what it does.
    steps: BTreeMap<Identity, u64>,
    /// When the last known client began to let go, and left nobody behind.
    left_at: u64,
    /// When somebody died, clients or supervisors, last.
    died_at: u64,
    log: Tail,
    /// Instances that may live.
    living: Vec<Identity>,
    pub workers: Vec<Identity>,
    events: VecDeque<String>,
}

impl Docket {
    pub fn new(site: Site) -> Self {
        Self {
            log: Tail::new(site.log()),
            site,
            harms: Vec::new(),
            marred: BTreeSet::new(),
            holders: BTreeSet::new(),
            orderly: BTreeSet::new(),
            steps: BTreeMap::new(),
            left_at: 0,
            died_at: 0,
            living: Vec::new(),
            workers: Vec::new(),
            events: VecDeque::new(),
        }
    }

    fn is_harmed(&self, from: u64, to: u64) -> bool {
        let meets = |harm: &Harm| harm.from <= to && harm.to.is_none_or(|end| end >= from);
        self.harms.iter().any(meets)
    }

    /// From now until [`Docket::end_harm`].
    pub fn begin_harm(&mut self, what: String) {
        self.note(format!("--- {what}"));
        self.harms.push(Harm {
            from: now_ns(),
            to: None,
            what,
        });
    }

    pub fn end_harm(&mut self, what: &str) {
        let begun = self.harms.iter_mut().rev();
        for harm in begun.filter(|harm| harm.what == what && harm.to.is_none()) {
            harm.to = Some(now_ns());
        }
    }

    /// A round begins, in which nothing is left of the one before. Pids come again.
    pub fn forget(&mut self) {
        self.harms.clear();
        self.marred.clear();
        self.holders.clear();
        self.orderly.clear();
        self.steps.clear();
        self.workers.clear();
    }

    /// This client has ended, by itself or killed.
    pub fn bury(&mut self, who: Identity, killed: bool) {
        if !self.orderly.remove(&who) || killed {
            self.bereave();
        }
        self.steps.remove(&who);
    }

    /// A supervisor was killed, or somebody that may have held the service.
    pub fn bereave(&mut self) {
        self.died_at = now_ns();
    }

    /// The last one who held it let go of it in an orderly way, and nobody has died since: whatever had
    /// happened before, that has to leave nothing.
    pub fn is_left_well(&self) -> bool {
        self.left_at > self.died_at
    }

    pub fn mar(&mut self, pid: u32) {
        self.marred.insert(pid);
    }

    /// Reads what instances have logged since, and tells which live now, and who has met another.
    pub fn read_log(&mut self, tally: &mut Tally) -> Result<Vec<Identity>, String> {
        for line in self.log.read_new() {
            match line {
                Line::Start(identity) => {
                    tally.starts += 1;
                    self.living.push(identity);
                    self.note(format!("    started {identity}"));
                }
                Line::Worker(identity) => self.workers.push(identity),
                Line::Stop(pid, why) => self.note(format!("    ended {pid}: {why}")),
                Line::Overlap(pid) => {
                    return Err(format!("two instances at once: {pid} met another"));
                }
                Line::Callback(..) => {}
            }
        }
        self.living.retain(|identity| identity.is_live());
        tally.most_at_once = tally.most_at_once.max(self.living.len());
        Ok(self.living.clone())
    }

    pub fn note(&mut self, text: String) {
        if self.events.len() == REMEMBERED {
            self.events.pop_front();
        }
        let at = now_ns() / 1000 % 1_000_000_000;
        self.events.push_back(format!("{at:>9} {text}"));
    }

    /// The last that was heard and done.
    pub fn excerpt(&self) -> String {
        let lines: Vec<_> = self.events.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    /// A client's event: the verdict on it.
    pub fn hear(&mut self, event: Event, tally: &mut Tally) -> Result<(), String> {
        let Event { who, at, what, .. } = event;
        self.note(format!("{who} {what:?}"));
        match what {
            What::Acquired { since, pid, said } => {
                tally.acquisitions += 1;
                self.holders.insert(who);
                self.judge_answer("acquired", who, (since, at), pid, said, tally)
            }
            What::Checked { since, pid, said } => {
                tally.checks += 1;
                self.judge_answer("held", who, (since, at), pid, said, tally)
            }
            What::Failed {
                since,
                meant,
                error,
            } => {
                if meant {
                    tally.meant += 1;
                } else if error.contains("Address already in use") || error.ends_with(PORT_LOST) {
                    // The port was procref's until right before the program was executed, and somebody's
                    // connection, or another service, has got it since. The one gap that it says it has.
                    tally.lost_ports += 1;
                } else if self.is_harmed(since, at) {
                    tally.excused += 1;
                } else {
                    return Err(format!("{who} was refused: {error}"));
                }
                Ok(())
            }
            What::Free => {
                let held = self.holders.remove(&who);
                if held && living_holders(self).is_empty() {
                    self.left_at = self.steps.get(&who).copied().unwrap_or(0);
                }
                Ok(())
            }
            What::Step(step) => {
                self.steps.insert(who, at);
                if matches!(step.as_str(), "End::Drop" | "End::Release") {
                    self.orderly.insert(who);
                }
                Ok(())
            }
            What::Forked => {
                tally.forks += 1;
                Ok(())
            }
            What::Executing => {
                tally.execs += 1;
                Ok(())
            }
            What::Unfinished => {
                self.orderly.remove(&who);
                Ok(())
            }
            What::Pinned => {
                tally.pins += 1;
                Ok(())
            }
            What::Wrong(text) => Err(format!("{who}: {text}")),
            What::Unpinned | What::Mark(_) => Ok(()),
        }
    }

    fn judge_answer(
        &self,
        how: &str,
        who: Identity,
        (since, at): (u64, u64),
        pid: u32,
        said: Result<(), String>,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let Err(answer) = said else { return Ok(()) };
        if self.is_harmed(since, at) || self.marred.contains(&pid) {
            tally.excused += 1;
            return Ok(());
        }
        Err(format!("{who} {how} instance {pid}, which said {answer}"))
    }
}

/// The processes that hold a service, as they have told.
pub fn living_holders(docket: &Docket) -> Vec<Identity> {
    let living = docket.holders.iter().filter(|who| who.is_live());
    living.copied().collect()
}
