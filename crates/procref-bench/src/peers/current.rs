//! This version of procref, with both ways to start a service.

use procref::{Ready, ServiceCommand, ServiceHandle, ServiceInfo, SharedService};

use super::Client;
use crate::error::Result;
use crate::site::Site;

pub struct Current {
    service: SharedService,
    held: Vec<ServiceHandle>,
}

impl Current {
    pub fn with_command(site: &Site) -> Result<Self> {
        let command = site.command();
        let command = ServiceCommand::new(command.get_program())
            .args(command.get_args())
            .ready(Ready::notify());
        Self::new(builder(site).command(command))
    }

    pub fn with_callback(site: &Site) -> Result<Self> {
        let start = site.clone();
        Self::new(builder(site).on_first_acquire(move || {
            let started = start.start();
            async { Ok(ServiceInfo::with_pid(started?)) }
        }))
    }

    fn new(builder: procref::SharedServiceBuilder) -> Result<Self> {
        Ok(Self {
            service: builder.build()?,
            held: Vec::new(),
        })
    }
}

fn builder(site: &Site) -> procref::SharedServiceBuilder {
    SharedService::builder(&site.name()).base_dir(site.file("run"))
}

impl Client for Current {
    fn attach(&mut self) -> Result<()> {
        self.held.push(self.service.acquire_blocking()?);
        Ok(())
    }

    fn detach(&mut self) -> Result<()> {
        // As in a user's program, dropping the last handle waits until the service has stopped.
        drop(self.held.pop());
        Ok(())
    }
}
