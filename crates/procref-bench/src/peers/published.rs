//! The crate procref 0.1.0, used as its documentation shows.

use std::future::Future;

use procref_published::{ServiceHandle, ServiceInfo, SharedService, process};
use tokio::runtime::Runtime;

use super::Client;
use crate::error::Result;
use crate::site::Site;

/// Number of directories to try. The crate refuses some directories ("ftok failed"), and always the same ones. All
/// processes try them in the same order.
const DIRECTORIES: u32 = 30;

pub struct Published {
    service: SharedService,
    held: Vec<ServiceHandle>,
    runtime: Runtime,
}

impl Published {
    pub fn new(site: &Site) -> Result<Self> {
        let mut number = 0;
        let service = loop {
            match service(site, number) {
                Err(_) if number < DIRECTORIES => number += 1,
                service => break service?,
            }
        };
        Ok(Self {
            service,
            held: Vec::new(),
            // Dropping a handle needs a multi-threaded runtime.
            runtime: Runtime::new()?,
        })
    }

    fn block_on<T>(&self, future: impl Future<Output = procref_published::Result<T>>) -> Result<T> {
        Ok(self.runtime.block_on(future)?)
    }
}

fn service(site: &Site, number: u32) -> Result<SharedService> {
    let start = site.clone();
    let name = format!("{}-{number}", site.name());
    let dir = site.file(&format!("run-{number}"));
    // The crate does not create the directory.
    std::fs::create_dir_all(&dir)?;
    let service = SharedService::builder(&name)
        .base_dir(dir)
        .on_first_acquire(move || {
            let started = start.start();
            async { Ok(ServiceInfo::new(started?, 0)) }
        })
        .on_last_release(|info| async move {
            process::terminate(info.pid());
            Ok(())
        })
        .on_health_check(|info| {
            let pid = info.pid();
            async move { process::is_alive(pid) }
        })
        .build()?;
    Ok(service)
}

impl Client for Published {
    fn attach(&mut self) -> Result<()> {
        self.held.push(self.block_on(self.service.acquire())?);
        Ok(())
    }

    fn detach(&mut self) -> Result<()> {
        let handle = self.held.pop();
        self.block_on(async {
            drop(handle);
            Ok(())
        })
    }
}
