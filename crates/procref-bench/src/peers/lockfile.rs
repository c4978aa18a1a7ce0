//! A counter in a JSON file that a lock file protects. pytest-xdist's documentation recommends this for a fixture that all
//! workers share; the counter is added to stop the service.

use std::fs::{self, File};
use std::io;

use procref_testkit::observe::Identity;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::Client;
use crate::error::Result;
use crate::site::Site;

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Shared {
    count: u32,
    pid: u32,
}

pub struct LockFile {
    site: Site,
    lock: File,
}

impl LockFile {
    pub fn new(site: &Site) -> Result<Self> {
        let lock = File::options()
            .create(true)
            .append(true)
            .open(site.file("lock"))?;
        Ok(Self {
            site: site.clone(),
            lock,
        })
    }

    /// Changes the content of the file while the lock is held. `None` stands for no file.
    fn locked(&self, change: impl FnOnce(Option<Shared>) -> Result<Option<Shared>>) -> Result<()> {
        flock(&self.lock, FlockOperation::LockExclusive)?;
        let done = self.rewrite(change);
        flock(&self.lock, FlockOperation::Unlock)?;
        done
    }

    fn rewrite(&self, change: impl FnOnce(Option<Shared>) -> Result<Option<Shared>>) -> Result<()> {
        let file = self.site.file("shared.json");
        let found = match fs::read(&file) {
            Ok(text) => Some(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        match change(found)? {
            Some(shared) => fs::write(file, serde_json::to_vec(&shared)?)?,
            None => fs::remove_file(file)?,
        }
        Ok(())
    }
}

impl Client for LockFile {
    fn attach(&mut self) -> Result<()> {
        self.locked(|found| {
            let shared = match found {
                Some(shared) => Shared {
                    count: shared.count + 1,
                    ..shared
                },
                None => Shared {
                    count: 1,
                    pid: self.site.start()?,
                },
            };
            Ok(Some(shared))
        })
    }

    fn detach(&mut self) -> Result<()> {
        self.locked(|found| {
            let shared = found.ok_or("the file does not exist")?;
            if shared.count == 1 {
                stop(shared.pid);
                return Ok(None);
            }
            Ok(Some(Shared {
                count: shared.count - 1,
                ..shared
            }))
        })
    }
}

/// Stops a service and waits for its exit. The last client of a counter has to do this.
pub fn stop(pid: u32) {
    if let Some(service) = Identity::of(pid) {
        service.signal(Signal::TERM);
        service.wait_exit();
    }
}
