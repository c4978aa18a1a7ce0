//! The figures of a storm.

use std::fmt;

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub rounds: u64,
    pub clients: u64,
    pub acquisitions: u64,
    pub checks: u64,
    /// Refusals of a start that was told to fail.
    pub meant: u64,
    /// Refusals and bad answers while a service was being killed, or ill.
    pub excused: u64,
    pub starts: u64,
    pub most_at_once: usize,
    pub forks: u64,
    pub execs: u64,
    pub pins: u64,
    pub killed_clients: u64,
    pub killed_services: u64,
    pub killed_supervisors: u64,
    pub stopped_clients: u64,
    pub ill: u64,
    /// Services that a dead supervisor had left, until somebody came.
    pub left: u64,
    /// Services that procref executes, dead, whose holders were killed.
    pub dead: u64,
    /// Sets that were never used, because who made them was killed at once.
    pub blank: u64,
    /// Processes of a service that lost their supervisor.
    pub stray_workers: u64,
}

impl Tally {
    /// For a line that is overwritten each second.
    pub fn progress(&self) -> String {
        format!(
            "round {} · {} acquired · {} starts · {} at once · killed {} clients, {} services, {} supervisors · left {}",
            self.rounds,
            self.acquisitions,
            self.starts,
            self.most_at_once,
            self.killed_clients,
            self.killed_services,
            self.killed_supervisors,
            self.left,
        )
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("rounds", self.rounds),
            ("client processes", self.clients),
            ("acquisitions", self.acquisitions),
            ("checks while held", self.checks),
            ("starts", self.starts),
            (
                "most live instances of a service at once",
                self.most_at_once as u64,
            ),
            ("clients killed", self.killed_clients),
            ("services killed", self.killed_services),
            ("supervisors killed", self.killed_supervisors),
            ("clients suspended", self.stopped_clients),
            ("spells of ill health", self.ill),
            ("forked children", self.forks),
            ("other programs executed while holding", self.execs),
            ("pins", self.pins),
            ("refusals that were meant", self.meant),
            ("excused by what was done to the service", self.excused),
            (
                "left by dead supervisors, and cleaned up by a visitor",
                self.left,
            ),
            (
                "dead commands of clients that were killed, likewise",
                self.dead,
            ),
            (
                "unused sets of clients that were killed, likewise",
                self.blank,
            ),
            ("workers that lost their supervisor", self.stray_workers),
        ];
        for (what, number) in rows {
            writeln!(f, "{number:>10}  {what}")?;
        }
        Ok(())
    }
}
