//! The figures of a storm.

use std::fmt;
use std::time::Duration;

/// The figures of a storm so far.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub took: Duration,
    pub rounds: u64,
    pub clients: u64,
    pub acquisitions: u64,
    pub checks: u64,
    /// Errors that the workload caused.
    pub intended: u64,
    /// Errors and bad answers while a fault disturbed the service.
    pub excused: u64,
    pub lost_ports: u64,
    pub starts: u64,
    pub most_at_once: usize,
    pub forks: u64,
    pub execs: u64,
    pub pins: u64,
    pub killed: Killed,
    pub suspended_clients: u64,
    pub unhealthy: u64,
    /// Services that remained after their supervisor was killed, until a cleanup.
    pub unsupervised: u64,
    /// Sets without an instance, because the starter was killed.
    pub empty: u64,
    /// Notes of failed starts whose only reader was killed.
    pub unread_notes: u64,
    /// Worker processes that lost their supervisor.
    pub stray_workers: u64,
    /// Services with leftovers that no fault excuses.
    pub leftovers: u64,
}

/// Numbers of processes that SIGKILL ended: clients and supervisors by the exit status that the runner reaped,
/// instances by the signals that the runner sent.
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

impl Stats {
    fn per_second(&self, number: u64) -> f64 {
        number as f64 / self.took.as_secs_f64().max(0.001)
    }

    /// Formats a line that overwrites itself each second.
    pub fn progress(&self) -> String {
        let killed = self.killed.all();
        format!(
            "{} s · round {} · {} acquired · {} starts · {} at once · {killed} killed ({:.0} per second)",
            self.took.as_secs(),
            self.rounds,
            self.acquisitions,
            self.starts,
            self.most_at_once,
            self.per_second(killed),
        )
    }
}

impl fmt::Display for Stats {
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
            ("processes killed", killed.all()),
            ("- clients, from outside", killed.clients),
            ("- clients, at a crash point", killed.clients_at_points),
            (
                "- clients, by themselves at a random time",
                killed.clients_at_moments,
            ),
            ("- forked children of clients", killed.children),
            ("- supervisors, from outside", killed.supervisors),
            (
                "- supervisors, at a crash point",
                killed.supervisors_at_points,
            ),
            ("- instances", killed.instances),
            ("clients suspended", self.suspended_clients),
            ("times that a service was unhealthy", self.unhealthy),
            ("forked children", self.forks),
            ("programs executed while holding", self.execs),
            ("pins", self.pins),
            ("errors that the workload caused", self.intended),
            ("errors that a fault excuses", self.excused),
            (
                "starts whose port another process took first",
                self.lost_ports,
            ),
            (
                "services without a supervisor, removed by a cleanup",
                self.unsupervised,
            ),
            ("sets without an instance, removed by a cleanup", self.empty),
            (
                "notes for killed clients, removed by a cleanup",
                self.unread_notes,
            ),
            ("workers without a supervisor", self.stray_workers),
            ("leftovers that no fault excuses", self.leftovers),
        ];
        for (label, number) in rows {
            writeln!(f, "{number:>10}  {label}")?;
        }
        writeln!(
            f,
            "{:>10.0}  killed per second; {:.0} acquisitions per second",
            self.per_second(killed.all()),
            self.per_second(self.acquisitions),
        )
    }
}
