//! The figures of a storm.

use std::fmt;
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub took: Duration,
    pub rounds: u64,
    pub clients: u64,
    pub acquisitions: u64,
    pub checks: u64,
    /// Refusals of a start that was told to fail.
    pub meant: u64,
    /// Refusals and bad answers while a service was being killed, or ill.
    pub excused: u64,
    pub lost_ports: u64,
    pub starts: u64,
    pub most_at_once: usize,
    pub forks: u64,
    pub execs: u64,
    pub pins: u64,
    pub killed: Killed,
    pub stopped_clients: u64,
    pub ill: u64,
    /// Services that a dead supervisor had left, until somebody came.
    pub left: u64,
    /// Services that procref executes, dead, whose holders were killed.
    pub dead: u64,
    /// Sets without an instance, because who was to start one was killed at once.
    pub empty: u64,
    /// Processes of a service that lost their supervisor.
    pub stray_workers: u64,
    /// What must not be left when nobody holds a service, and was.
    pub leftovers: u64,
}

/// Processes that SIGKILL has ended, as the kernel told who reaped them; instances, as their end showed.
#[derive(Clone, Debug, Default)]
pub struct Killed {
    pub clients: u64,
    pub clients_at_points: u64,
    pub clients_at_moments: u64,
    /// Forked children of clients.
    pub children: u64,
    pub supervisors: u64,
    pub supervisors_at_points: u64,
    pub instances: u64,
}

impl Killed {
    pub fn all(&self) -> u64 {
        self.clients
            + self.clients_at_points
            + self.clients_at_moments
            + self.children
            + self.supervisors
            + self.supervisors_at_points
            + self.instances
    }
}

impl Tally {
    fn per_second(&self, number: u64) -> f64 {
        number as f64 / self.took.as_secs_f64().max(0.001)
    }

    /// For a line that is overwritten each second.
    pub fn progress(&self) -> String {
        let killed = self.killed.all();
        format!(
            "{} s · round {} · {} acquired · {} starts · {} at once · {killed} killed ({:.0} a second)",
            self.took.as_secs(),
            self.rounds,
            self.acquisitions,
            self.starts,
            self.most_at_once,
            self.per_second(killed),
        )
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let killed = &self.killed;
        let rows = [
            ("seconds", self.took.as_secs()),
            ("rounds", self.rounds),
            ("client processes", self.clients),
            ("acquisitions", self.acquisitions),
            ("checks while held", self.checks),
            ("starts", self.starts),
            (
                "most live instances of a service at once",
                self.most_at_once as u64,
            ),
            ("processes killed, which are", killed.all()),
            ("- clients, from outside", killed.clients),
            (
                "- clients, at a step of procref's",
                killed.clients_at_points,
            ),
            (
                "- clients, at a moment of their own",
                killed.clients_at_moments,
            ),
            ("- forked children of clients", killed.children),
            ("- supervisors, from outside", killed.supervisors),
            (
                "- supervisors, at a step of procref's",
                killed.supervisors_at_points,
            ),
            ("- instances", killed.instances),
            ("clients suspended", self.stopped_clients),
            ("spells of ill health", self.ill),
            ("forked children", self.forks),
            ("other programs executed while holding", self.execs),
            ("pins", self.pins),
            ("refusals that were meant", self.meant),
            ("excused by what was done to the service", self.excused),
            (
                "starts whose free port somebody else got first",
                self.lost_ports,
            ),
            (
                "left by dead supervisors, and cleaned up by a visitor",
                self.left,
            ),
            (
                "dead commands of clients that were killed, likewise",
                self.dead,
            ),
            (
                "sets without an instance of clients that were killed, likewise",
                self.empty,
            ),
            ("workers that lost their supervisor", self.stray_workers),
            ("left in the end", self.leftovers),
        ];
        for (what, number) in rows {
            writeln!(f, "{number:>10}  {what}")?;
        }
        writeln!(
            f,
            "{:>10.0}  killed a second; {:.0} acquisitions",
            self.per_second(killed.all()),
            self.per_second(self.acquisitions),
        )
    }
}
