//! What has to be known of a service to start it, wherever that comes from.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};
use procref::{Mismatch, Ready, ServiceCommand, SharedService, SharedServiceBuilder, StopSignal};

use crate::config::template::{literal, uses_port};
use crate::definition;
use crate::prestart::{self, Setup};
use crate::relative_paths::{self, absolute_program};
use crate::value_parsers::{self, Health, Port, When};

/// A service as a configuration file or the command line describes it. What is `None` is as the library
/// has it by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceSpec {
    pub(crate) name: String,
    /// The runtime directory; the default one without it.
    pub(crate) runtime_dir: Option<PathBuf>,
    /// Program and arguments. Without it, the service can only be joined.
    pub(crate) start: Option<Vec<OsString>>,
    /// Variables of the service's environment; later ones win.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) port: Option<Port>,
    pub(crate) ready: Option<When>,
    /// What is asked at every join.
    pub(crate) health: Option<Health>,
    pub(crate) health_timeout: Option<Duration>,
    pub(crate) stop_signal: Option<StopSignal>,
    /// How long it has to end before it is killed.
    pub(crate) grace: Option<Duration>,
    pub(crate) linger: Option<Duration>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) mismatch: Option<Mismatch>,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) wait_timeout: Option<Duration>,
    /// What is done before its program is executed.
    pub(crate) setup: Setup,
    /// Variables for its clients, and for what depends on it.
    pub(crate) export: Vec<(String, String)>,
}

impl ServiceSpec {
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// What the flags say wins; variables are added.
    pub(crate) fn overridden_by(mut self, flags: &ServiceFlags) -> Self {
        fn replace<T: Clone>(ours: &mut Option<T>, theirs: &Option<T>) {
            if theirs.is_some() {
                ours.clone_from(theirs);
            }
        }
        replace(&mut self.start, &flags.start.clone().map(|argv| argv.0));
        // What comes before its program runs in the service's own directory.
        if let (true, Some(program)) = (
            self.setup.is_needed() && flags.start.is_some(),
            self.start.iter_mut().flatten().next(),
        ) {
            *program = absolute_program(program);
        }
        self.env.extend(flags.env.iter().cloned());
        replace(&mut self.cwd, &flags.cwd);
        replace(&mut self.port, &flags.port);
        replace(&mut self.ready, &flags.ready);
        replace(&mut self.health, &flags.health);
        replace(&mut self.health_timeout, &flags.health_timeout);
        replace(&mut self.stop_signal, &flags.stop_signal);
        replace(&mut self.grace, &flags.grace);
        replace(&mut self.linger, &flags.linger);
        replace(&mut self.log, &flags.log);
        replace(&mut self.fingerprint, &flags.fingerprint);
        replace(&mut self.mismatch, &flags.mismatch.map(Into::into));
        replace(&mut self.start_timeout, &flags.start_timeout);
        replace(&mut self.wait_timeout, &flags.wait_timeout);
        self
    }

    /// The library's idea of the service.
    pub(crate) fn build(&self) -> procref::Result<SharedService> {
        self.builder().build()
    }

    pub(crate) fn builder(&self) -> SharedServiceBuilder {
        let mut builder = SharedService::builder(&self.name);
        if let Some(command) = self.command() {
            builder = builder.command(command);
        }
        if let Some(dir) = &self.runtime_dir {
            builder = builder.base_dir(dir);
        }
        if let Some(text) = &self.fingerprint {
            builder = builder.fingerprint(text, self.mismatch.unwrap_or_default());
        }
        if let Some(grace) = self.grace {
            builder = builder.stop_timeout(grace);
        }
        if let Some(linger) = self.linger {
            builder = builder.linger(linger);
        }
        if let Some(limit) = self.start_timeout {
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

    /// Whether the library will give it one.
    pub(crate) fn has_port(&self) -> bool {
        let words = self.start.iter().chain(&self.setup.init).flatten();
        let values = self.env.iter().map(|(_, value)| OsStr::new(value));
        let dir = self.cwd.iter().map(|dir| dir.as_os_str());
        let mut templates = words.map(OsString::as_os_str).chain(values).chain(dir);
        self.port.is_some() || templates.any(|template| uses_port(&template.to_string_lossy()))
    }

    fn command(&self) -> Option<ServiceCommand> {
        let words = self.setup.around(self, self.start.as_ref()?);
        let (program, args) = words.split_first()?;
        let mut command = ServiceCommand::new(program).args(args);
        match self.port {
            Some(Port::Fixed(port)) => command = command.env("PORT", "{port}").port(port),
            // Also what makes procref choose one.
            Some(Port::Auto) => command = command.env("PORT", "{port}"),
            None => {}
        }
        for (name, path) in relative_paths::absolute_variables() {
            command = command.env(name, literal(path.as_os_str()));
        }
        for (name, value) in &self.env {
            command = command.env(name, self.setup.variable(value));
        }
        if let Some(dir) = &self.cwd {
            command = command.current_dir(dir);
        }
        command = match &self.ready {
            Some(When::Asked(ready)) => command.ready(ready.clone()),
            // What comes before its program is not the service yet.
            Some(When::Started) if self.setup.is_needed() => command.ready(prestart::started()),
            None if self.setup.is_needed() && !self.has_port() => {
                prestart::started_unasked(command)
            }
            Some(When::Started) => command.ready(Ready::at_once()),
            None => command,
        };
        if self.setup.is_needed() {
            command = prestart::ready_after_setup(command);
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
        if let Some(log) = &self.log {
            command = command.log(log);
        }
        Some(command)
    }
}

const WITHOUT_READY: &str = "Without this: tcp if it has a port, and started otherwise, with a warning. Started is a service whose \
                             program was executed and was alive 100 ms later. tcp and http ask 127.0.0.1 and ::1.";

const HEALTH: &str = "One that does not answer is stopped and started anew, also if others use it. Without this, one whose \
                      process is alive is well.";

/// A service as the command line describes it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Service options")]
pub(crate) struct ServiceFlags {
    /// What starts the service: a program that stays in the foreground, and its arguments
    ///
    /// Quoted as in a shell, but no shell looks at it; write sh -c '...' for what needs one. {port} is
    /// its port and {dir} the runtime directory.
    #[arg(long, value_name = "COMMAND", value_parser = argv, value_hint = ValueHint::CommandString)]
    pub(crate) start: Option<Argv>,

    /// Its port: a number, or auto for a free one
    ///
    /// It is told to the service in $PORT, and wherever {port} is written. Without this the service has
    /// a free port if {port} is written anywhere, and none otherwise.
    #[arg(long, value_name = "PORT", value_parser = value_parsers::port)]
    pub(crate) port: Option<Port>,

    /// When it is ready
    #[arg(help = format!("When it is ready: {}", value_parsers::READY))]
    #[arg(long_help = format!("When it is ready: {}\n\n{WITHOUT_READY}", value_parsers::READY))]
    #[arg(long, value_name = "WHEN", value_parser = value_parsers::ready)]
    pub(crate) ready: Option<When>,

    /// What asks it at every join whether it is well
    #[arg(help = format!("What asks it at every join whether it is well: {}", value_parsers::HEALTH))]
    #[arg(long_help = format!("What asks it at every join whether it is well: {}\n\n{HEALTH}", value_parsers::HEALTH))]
    #[arg(long, value_name = "WHEN", value_parser = value_parsers::health)]
    pub(crate) health: Option<Health>,

    /// How long it may take to say that it is well [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::interval)]
    pub(crate) health_timeout: Option<Duration>,

    /// The signal that asks it to stop [default: TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = value_parsers::signal)]
    pub(crate) stop_signal: Option<StopSignal>,

    /// How long it may take to stop before it is killed [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::duration)]
    pub(crate) grace: Option<Duration>,

    /// How long it is kept warm after its last client [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::duration)]
    pub(crate) linger: Option<Duration>,

    /// Set a variable of its environment
    #[arg(long, value_name = "KEY=VALUE", value_parser = value_parsers::variable)]
    pub(crate) env: Vec<(String, String)>,

    /// Its working directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cwd: Option<PathBuf>,

    /// The file that gets its output, and stays; without this one that goes with the service
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) log: Option<PathBuf>,

    /// What the service has to be: a version, a digest of its configuration
    #[arg(long, value_name = "TEXT")]
    pub(crate) fingerprint: Option<String>,

    /// What to do where one with another fingerprint runs [default: refuse]
    #[arg(long, value_name = "WHAT", requires = "fingerprint")]
    pub(crate) mismatch: Option<OnMismatch>,

    /// How long its start may take [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::duration)]
    pub(crate) start_timeout: Option<Duration>,

    /// How long to wait for others that start or stop it [default: as long as their limits allow]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::duration)]
    pub(crate) wait_timeout: Option<Duration>,
}

/// A program and its arguments, as one value of one flag.
#[derive(Clone, Debug)]
pub(crate) struct Argv(pub(crate) Vec<OsString>);

fn argv(text: &str) -> Result<Argv, String> {
    value_parsers::argv(text).map(Argv)
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnMismatch {
    /// Fail
    Refuse,
    /// Use it all the same
    Join,
    /// Run another one beside it
    Separate,
}

impl From<OnMismatch> for Mismatch {
    fn from(what: OnMismatch) -> Self {
        match what {
            OnMismatch::Refuse => Self::Refuse,
            OnMismatch::Join => Self::Join,
            OnMismatch::Separate => Self::Separate,
        }
    }
}
