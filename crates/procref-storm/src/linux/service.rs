//! The services of the storm, and the paths of their files.

use std::path::PathBuf;

use procref_testkit::observe::Identity;
use procref_testkit::protocol::FakeService;
use serde::{Deserialize, Serialize};

use crate::linux::workload::Settings;
use crate::options::Kind;

/// Length to which the kernel truncates the name of a process.
const COMM_LEN: usize = 15;

/// A service of the storm, with the directory of its files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    pub kind: Kind,
    /// No other service has this name, in any runtime directory.
    pub name: String,
    /// Directory for the service's own files. The runtime directory has the same parent.
    pub dir: PathBuf,
}

impl Service {
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.with_file_name("run")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub fn unhealthy_file(&self) -> PathBuf {
        self.dir.join("unhealthy")
    }

    /// The file that a client keeps locked during its start callback.
    pub fn start_lock(&self) -> PathBuf {
        self.dir.join("starting")
    }

    /// The file whose existence makes the clients finish.
    pub fn stop_file(&self) -> PathBuf {
        self.dir.with_file_name("stop")
    }

    pub fn fake(&self, guardian: Identity, settings: &Settings) -> FakeService {
        FakeService {
            log: self.log(),
            witness: self.dir.join("witness"),
            ignore_sigterm: settings.ignore_sigterm,
            slow_stop_ms: settings.slow_stop_ms,
            unhealthy_file: Some(self.unhealthy_file()),
            guardian: Some(guardian),
            ..FakeService::default()
        }
    }

    /// Returns the name of its supervisors, as the kernel truncates it.
    pub fn supervisor_comm(&self) -> String {
        format!("procref: {}", self.name)
            .chars()
            .take(COMM_LEN)
            .collect()
    }

    /// Returns the name of its clients, as the kernel truncates it.
    pub fn client_comm(&self) -> String {
        format!("client {}", self.name)
            .chars()
            .take(COMM_LEN)
            .collect()
    }
}
