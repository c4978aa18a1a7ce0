//! Builds the library's service from its description.

use std::ffi::OsStr;
use std::path::Path;

use procref::{Ready, ServiceCommand, SharedService, SharedServiceBuilder};

use crate::definition;
use crate::files::template::{literal, uses_port};
use crate::prestart::{self, command_line};
use crate::relative_paths;
use crate::spec::ServiceSpec;
use crate::value_parsers::{Health, Port, When};

impl ServiceSpec {
    /// Builds the service for the library. `helper` is the program `procref`, which does the work before the service's
    /// program.
    pub fn build(&self, helper: &Path) -> procref::Result<SharedService> {
        self.builder(helper).build()
    }

    /// Returns the builder of the service.
    pub fn builder(&self, helper: &Path) -> SharedServiceBuilder {
        let mut builder = SharedService::builder(&self.name);
        if let Some(command) = self.command(helper) {
            builder = builder.command(command);
        }
        if let Some(dir) = &self.runtime_dir {
            builder = builder.base_dir(dir);
        }
        if let Some(text) = &self.fingerprint {
            builder = builder.fingerprint(text, self.mismatch.unwrap_or_default());
        }
        if let Some(grace) = self.stop_timeout() {
            builder = builder.stop_timeout(grace);
        }
        if let Some(linger) = self.linger {
            builder = builder.linger(linger);
        }
        if let Some(limit) = self.start_limit() {
            builder = builder.start_timeout(limit);
        }
        if let Some(limit) = self.wait_timeout {
            builder = builder.wait_timeout(limit);
        }
        if self.start.is_some() {
            builder = builder.definition(definition::of(self));
        }
        builder
    }

    fn command(&self, helper: &Path) -> Option<ServiceCommand> {
        if let Some(cluster) = &self.cluster {
            let command = self.link_command(cluster, helper)?;
            return Some(self.with_surroundings(command));
        }
        let words = command_line::wrap(self, helper, self.start.as_ref()?);
        let (program, args) = words.split_first()?;
        let mut command = ServiceCommand::new(program).args(args);
        match self.port {
            Some(Port::Fixed(port)) => command = command.env("PORT", "{port}").port(port),
            // The placeholder also makes the library choose a port.
            Some(Port::Auto) => command = command.env("PORT", "{port}"),
            None => {}
        }
        command = self.with_surroundings(command);
        let is_prestart_needed = self.prestart.is_needed();
        command = match &self.ready {
            Some(When::Asked(ready)) => command.ready(ready.clone()),
            Some(When::Socket(path)) => command.ready(Ready::unix(path)),
            // The process that does the work before the program is not the service yet.
            Some(When::Started) if is_prestart_needed => command.ready(prestart::started()),
            None if is_prestart_needed && !self.has_port() => prestart::started_by_default(command),
            Some(When::Started) => command.ready(Ready::at_once()),
            None => command,
        };
        if is_prestart_needed {
            command = prestart::ready_after_exec(command);
        }
        command = match &self.health {
            Some(Health::Asked(probe)) => command.health(probe.clone()),
            Some(Health::AsReady) => command.health_as_ready(),
            None => command,
        };
        if let Some(limit) = self.health_timeout {
            command = command.health_timeout(limit);
        }
        if let Some(signal) = self.stop_signal {
            command = command.stop_signal(signal);
        }
        Some(command)
    }

    /// Sets the environment, the working directory and the log.
    fn with_surroundings(&self, mut command: ServiceCommand) -> ServiceCommand {
        for (name, path) in relative_paths::absolute_variables() {
            command = command.env(name, literal(path.as_os_str()));
        }
        for (name, value) in &self.env {
            let value = match self.cluster {
                // The link fills it in.
                Some(_) if uses_port(value) => literal(OsStr::new(value)),
                _ => command_line::variable(self, value),
            };
            command = command.env(name, value);
        }
        if let Some(dir) = &self.cwd {
            command = command.current_dir(dir);
        }
        match &self.log {
            Some(log) => command.log(log),
            None => command.keep_log(),
        }
    }
}
