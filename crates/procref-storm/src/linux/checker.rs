//! The checker: decides whether an event is a violation, or whether a fault excuses it.

use procref_testkit::observe::Identity;

use crate::linux::event::{Event, EventKind, PORT_LOST};
use crate::linux::history::History;
use crate::linux::stats::Stats;

impl History {
    /// Adds a client's event to the history. Returns an error if the event is a violation.
    pub fn check_event(&mut self, event: Event, stats: &mut Stats) -> Result<(), String> {
        let Event {
            process, at, kind, ..
        } = event;
        self.note(format!("{process} {kind:?}"));
        match kind {
            EventKind::Acquired { since, pid, answer } => {
                stats.acquisitions += 1;
                self.holders.insert(process);
                self.check_answer("acquired", process, (since, at), pid, answer, stats)
            }
            EventKind::Checked { since, pid, answer } => {
                stats.checks += 1;
                self.check_answer("held", process, (since, at), pid, answer, stats)
            }
            EventKind::Failed {
                since,
                intended,
                error,
            } => {
                if intended {
                    stats.intended += 1;
                } else if error.contains("Address already in use") || error.ends_with(PORT_LOST) {
                    // procref reserves a port until it executes the program. Between the two, a connection or
                    // another service can take the port. This is a documented limit.
                    stats.lost_ports += 1;
                } else if self.is_disturbed(since, at) {
                    stats.excused += 1;
                } else {
                    return Err(format!("{process} got an error: {error}"));
                }
                Ok(())
            }
            EventKind::ReleasedAll => {
                let held = self.holders.remove(&process);
                if held && self.live_holders().is_empty() {
                    self.released_at = self.steps.get(&process).copied().unwrap_or(0);
                }
                Ok(())
            }
            EventKind::Step(step) => {
                self.steps.insert(process, at);
                if matches!(step.as_str(), "End::Drop" | "End::Release") {
                    self.exiting.insert(process);
                }
                Ok(())
            }
            EventKind::Forked => {
                stats.forks += 1;
                Ok(())
            }
            EventKind::Executing => {
                stats.execs += 1;
                Ok(())
            }
            EventKind::Unfinished => {
                self.exiting.remove(&process);
                Ok(())
            }
            EventKind::Pinned => {
                stats.pins += 1;
                Ok(())
            }
            EventKind::Violation(text) => Err(format!("{process}: {text}")),
            EventKind::Unpinned | EventKind::Mark(_) => Ok(()),
        }
    }

    fn check_answer(
        &self,
        operation: &str,
        process: Identity,
        (since, at): (u64, u64),
        pid: u32,
        answer: Result<(), String>,
        stats: &mut Stats,
    ) -> Result<(), String> {
        let Err(answer) = answer else { return Ok(()) };
        if self.is_disturbed(since, at) || self.disturbed.contains(&pid) {
            stats.excused += 1;
            return Ok(());
        }
        Err(format!(
            "{process} {operation} instance {pid}, which answered {answer}"
        ))
    }
}
