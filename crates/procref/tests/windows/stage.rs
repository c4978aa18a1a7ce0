//! A directory for one test, and what can be seen from there.

use std::fs;
use std::path::Path;
use std::time::Duration;

use procref::SharedService;
use procref::process::Process;

use crate::client::{self, Client};
use crate::service;

/// How long anything may take here: Wine on a busy machine takes its time.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stage {
    dir: tempfile::TempDir,
}

impl Stage {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A process that has nothing yet.
    pub fn client(&self) -> Client {
        Client::start(self.dir(), &[])
    }

    pub fn client_with(&self, env: &[(&str, &str)]) -> Client {
        Client::start(self.dir(), env)
    }

    pub fn clients(&self, number: usize) -> Vec<Client> {
        (0..number).map(|_| self.client()).collect()
    }

    /// The service, as this very process sees it: it only looks.
    pub fn service(&self) -> SharedService {
        client::service(self.dir())
    }

    /// The lines of the service's own log that begin with this word, and what stands behind it.
    pub fn log(&self, word: &str) -> Vec<u32> {
        let log = fs::read_to_string(service::log(self.dir())).unwrap_or_default();
        let lines = log.lines().filter_map(|line| line.split_once(' '));
        lines
            .filter(|(first, _)| *first == word)
            .map(|(_, pid)| pid.parse().unwrap())
            .collect()
    }

    /// Nobody is left, and nothing but what belongs to the directory.
    pub fn check_nothing_left(&self) {
        let stopped = self.service().wait_stopped_blocking(PATIENCE).unwrap();
        assert!(stopped, "it is not stopped: {:?}", self.service().status());
        for pid in self.log("begin").into_iter().chain(self.log("child")) {
            assert!(wait_dead(pid), "{pid} still lives");
        }
        self.check_never_two();
        assert_eq!(self.service().count().unwrap(), 0);
    }

    /// And no file is left of the service. Not after a crash: then the next client removes them.
    pub fn check_no_files(&self) {
        let own = ["procref.lock", service::LOG, service::ALONE];
        let names = fs::read_dir(self.dir()).unwrap();
        let left: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !own.contains(&name.as_str()))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    pub fn check_never_two(&self) {
        assert_eq!(self.log("two"), [0; 0], "two instances lived at once");
    }
}

/// Whether a process of the test's is gone, at the latest after a while.
pub fn wait_dead(pid: u32) -> bool {
    match Process::open(pid) {
        Ok(process) => process.wait(PATIENCE).unwrap(),
        Err(_) => true,
    }
}
