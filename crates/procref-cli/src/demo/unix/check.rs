//! Compares the output of the demonstration with independent observations.

use std::fs;

use super::Demo;
use super::observe::{self, ProcessId, lines_with};
use crate::error::{Error, Result};

impl Demo {
    /// Prints the result of each check, and returns `true` if all checks passed.
    pub(super) fn check(&mut self) -> Result<bool> {
        let log = self.clients.log();
        let log = fs::read_to_string(&log)
            .map_err(|error| Error::io(format!("read {}", log.display()), error))?;
        let reported: usize = self
            .clients
            .clients()
            .iter()
            .map(|client| client.answers)
            .sum();
        let clients = self.clients.clients().len();
        let services: Vec<ProcessId> = self.observed.services.iter().copied().collect();
        let pid = services.first().map_or(0, |service| service.pid);
        let answers = lines_with(&log, "answer ");
        let object = self.service.kernel_object();
        let is_file = observe::is_file(&object);
        let mut files = observe::listing(self.service.runtime_dir())?;
        // The choice of the keeper belongs to the directory, and stays.
        files.retain(|name| !is_file || name != "kernel");
        let counts: Vec<String> = self
            .observed
            .counts
            .iter()
            .map(|(count, _)| count.to_string())
            .collect();
        let processes = services.iter().chain(&self.observed.supervisors);
        let have_exited = processes.clone().all(|it| it.has_exited());
        let object_is_gone = !observe::object_exists(&object)?;
        let checks = [
            (
                services.len() == 1 && self.clients.answered_by == [pid],
                format!("{clients} clients, {reported} answers, all of them from pid {pid}"),
            ),
            (
                lines_with(&log, "started ") == 1
                    && log.starts_with(&format!("started pid={pid} ")),
                "the service's log: started once".to_owned(),
            ),
            (
                answers >= reported && lines_with(&log, &format!("answer pid={pid} ")) == answers,
                format!("the service's log: {answers} answers, all given by that pid"),
            ),
            (
                lines_with(&log, "stopped ") == 1
                    && log.ends_with(&format!("stopped pid={pid} after={answers}\n")),
                "the service's log: stopped once, by SIGTERM, after the last client was killed"
                    .to_owned(),
            ),
            (
                self.observed
                    .counts
                    .iter()
                    .all(|(count, present)| usize::try_from(*count) == Ok(*present)),
                format!(
                    "the kernel's count of clients was right each time: {}",
                    counts.join(", ")
                ),
            ),
            (
                self.observed.supervisors.len() == 1 && have_exited,
                format!(
                    "{}: the service and its supervisor have exited",
                    observe::PROCESSES
                ),
            ),
            (
                self.observed.object_existed && object_is_gone,
                match is_file {
                    true => format!("the keeper's file {object} existed and was removed"),
                    false => {
                        format!("/proc/sysvipc/sem: semaphore set {object} existed and was removed")
                    }
                },
            ),
            (
                files.is_empty(),
                match is_file {
                    true => "the runtime directory contains only the file `kernel`".to_owned(),
                    false => "the runtime directory is empty".to_owned(),
                },
            ),
        ];
        self.view.caption("Checks without procref:")?;
        for (passed, what) in &checks {
            self.view.check(*passed, what)?;
        }
        let failed = checks.iter().filter(|(passed, _)| !passed).count();
        self.view.summary(checks.len(), failed)?;
        Ok(failed == 0)
    }
}
