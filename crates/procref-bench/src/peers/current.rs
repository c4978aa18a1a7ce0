//! This procref, in both of its ways to start a service.

use procref::{Ready, ServiceCommand, ServiceHandle, ServiceInfo, SharedService};

use crate::Result;
use crate::contender::Client;
use crate::site::Site;

pub struct Current {
    service: SharedService,
    held: Vec<ServiceHandle>,
}

impl Current {
    pub fn executed(site: &Site) -> Result<Self> {
        let command = site.command();
        let command = ServiceCommand::new(command.get_program())
            .args(command.get_args())
            .ready(Ready::notify());
        Self::new(builder(site).command(command))
    }

    pub fn called_back(site: &Site) -> Result<Self> {
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
        // Where it is the last one this waits for the end of the service, as a user's would.
        drop(self.held.pop());
        Ok(())
    }
}
