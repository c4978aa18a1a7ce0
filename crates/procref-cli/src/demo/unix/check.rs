//! Whether it was as it was shown.

use std::fs;

use super::Demo;
use super::observe::{self, Run, lines_with};
use crate::error::{Error, Result};

impl Demo {
    /// Looks from outside, tells what is so, and whether all of it is.
    pub(super) fn judge(&mut self) -> Result<bool> {
        let log = self.cast.log();
        let log = fs::read_to_string(&log)
            .map_err(|error| Error::io(format!("read {}", log.display()), error))?;
        let told: usize = self
            .cast
            .clients()
            .iter()
            .map(|client| client.answers)
            .sum();
        let clients = self.cast.clients().len();
        let services: Vec<Run> = self.seen.services.iter().copied().collect();
        let pid = services.first().map_or(0, |service| service.pid);
        let answers = lines_with(&log, "answer ");
        let set = self.service.kernel_object();
        let left = observe::listing(self.service.runtime_dir())?;
        let counts: Vec<String> = self
            .seen
            .counts
            .iter()
            .map(|(count, _)| count.to_string())
            .collect();
        let everybody = services.iter().chain(&self.seen.supervisors);
        let over = everybody.clone().all(|run| run.is_over());
        let set_is_gone = !observe::semaphore_set_exists(&set)?;
        let checks = [
            (
                services.len() == 1 && self.cast.answered_by == [pid],
                format!("{clients} clients, {told} answers, and all of them came from pid {pid}"),
            ),
            (
                lines_with(&log, "started ") == 1 && log.starts_with(&format!("started pid={pid} ")),
                "the service's log: started once".to_owned(),
            ),
            (
                answers >= told && lines_with(&log, &format!("answer pid={pid} ")) == answers,
                format!("the service's log: {answers} answers, all given by that pid"),
            ),
            (
                lines_with(&log, "stopped ") == 1
                    && log.ends_with(&format!("stopped pid={pid} after={answers}\n")),
                "the service's log: stopped once, in an orderly way, after the last client was killed"
                    .to_owned(),
            ),
            (
                self.seen.counts.iter().all(|(count, there)| usize::try_from(*count) == Ok(*there)),
                format!("the kernel's count of clients was right each time: {}", counts.join(", ")),
            ),
            (
                self.seen.supervisors.len() == 1 && over,
                "/proc: the service and its supervisor are gone".to_owned(),
            ),
            (
                self.seen.set_was_there && set_is_gone,
                format!("/proc/sysvipc/sem: semaphore set {set} was there, and is gone"),
            ),
            (left.is_empty(), "the runtime directory is empty".to_owned()),
        ];
        self.stage.caption("Seen from outside:")?;
        for (right, what) in &checks {
            self.stage.check(*right, what)?;
        }
        let wrong = checks.iter().filter(|(right, _)| !right).count();
        self.stage.verdict(checks.len(), wrong)?;
        Ok(wrong == 0)
    }
}
