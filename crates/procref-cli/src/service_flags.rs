//! The options that describe a service on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};
use procref::{Mismatch, StopSignal};

use procref_config::relative_paths::absolute_program;
use procref_config::spec::ServiceSpec;
use procref_config::value_parsers::{self, Health, Port, When};

const READY_DEFAULT: &str = "By default, the condition is tcp if the service has a port, and otherwise started, with a \
                             warning. A service is started if its program was executed and was alive 100 ms later. tcp \
                             and http connect to 127.0.0.1 and ::1.";

const HEALTH_DEFAULT: &str = "A service that does not answer is stopped and restarted, even if other clients use it. By \
                              default, a service is healthy if its process is alive.";

/// A service as the command line describes it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Service options")]
pub(crate) struct ServiceFlags {
    /// Command that starts the service: a program that stays in the foreground, and its arguments
    ///
    /// The command is quoted as in a shell, but no shell reads it. For shell syntax, write sh -c '...'. {port} is the
    /// service's port and {dir} the runtime directory.
    #[arg(long, value_name = "COMMAND", value_parser = argv, value_hint = ValueHint::CommandString)]
    pub(crate) start: Option<Argv>,

    /// Port of the service: a number, or auto for a free one
    ///
    /// The service finds its port in $PORT, and in place of each {port}. By default, the service has a free port if
    /// {port} is written anywhere, and no port otherwise.
    #[arg(long, value_name = "PORT", value_parser = value_parsers::port)]
    pub(crate) port: Option<Port>,

    /// Condition under which the service is ready
    #[arg(help = format!("Condition under which the service is ready: {}", value_parsers::READY))]
    #[arg(long_help = format!("Condition under which the service is ready: {}\n\n{READY_DEFAULT}", value_parsers::READY))]
    #[arg(long, value_name = "WHEN", value_parser = readiness)]
    pub(crate) ready: Option<Readiness>,

    /// Cluster whose hosts share the service: a URL such as etcd://h1,h2,h3/ci, or the name of one in procref.toml
    ///
    /// The program procref-etcd must be installed. See https://github.com/putao520/procref/blob/HEAD/docs/cluster.md.
    #[arg(
        long,
        value_name = "URL|NAME",
        env = "PROCREF_CLUSTER",
        hide_env_values = true
    )]
    pub(crate) cluster: Option<String>,

    /// Health check at every join
    #[arg(help = format!("Health check at every join: {}", value_parsers::HEALTH))]
    #[arg(long_help = format!("Health check at every join: {}\n\n{HEALTH_DEFAULT}", value_parsers::HEALTH))]
    #[arg(long, value_name = "WHEN", value_parser = value_parsers::health)]
    pub(crate) health: Option<Health>,

    /// Time limit of the health check [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::interval)]
    pub(crate) health_timeout: Option<Duration>,

    /// Signal that stops the service [default: TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = value_parsers::signal)]
    pub(crate) stop_signal: Option<StopSignal>,

    /// Time to wait for the service to stop before killing it [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::duration)]
    pub(crate) grace: Option<Duration>,

    /// Time to keep the service running after its last client [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::duration)]
    pub(crate) linger: Option<Duration>,

    /// Set a variable of the service's environment
    #[arg(long, value_name = "KEY=VALUE", value_parser = value_parsers::variable)]
    pub(crate) env: Vec<(String, String)>,

    /// Working directory of the service
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cwd: Option<PathBuf>,

    /// File that keeps the service's output [default: a log that is kept until the next start]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) log: Option<PathBuf>,

    /// Fingerprint that the service must have, such as a version or a digest of its configuration
    #[arg(long, value_name = "TEXT")]
    pub(crate) fingerprint: Option<String>,

    /// Action if a service with another fingerprint runs [default: refuse]
    #[arg(long, value_name = "WHAT", requires = "fingerprint")]
    pub(crate) mismatch: Option<OnMismatch>,

    /// Time limit for a start of the service [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::interval)]
    pub(crate) start_timeout: Option<Duration>,

    /// Time to wait for other processes that start or stop the service [default: as long as their limits allow]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::duration)]
    pub(crate) wait_timeout: Option<Duration>,
}

impl ServiceFlags {
    /// Replaces the settings of `spec` for which there is an option, and adds the variables.
    pub(crate) fn apply_to(&self, spec: &mut ServiceSpec) {
        fn replace<T: Clone>(ours: &mut Option<T>, theirs: &Option<T>) {
            if theirs.is_some() {
                ours.clone_from(theirs);
            }
        }
        replace(&mut spec.start, &self.start.clone().map(|argv| argv.0));
        // The work before the program runs in the service's working directory, so the program's path must not depend
        // on the client's.
        if let (true, Some(program)) = (
            spec.prestart.is_needed() && self.start.is_some(),
            spec.start.iter_mut().flatten().next(),
        ) {
            *program = absolute_program(program);
        }
        spec.env.extend(self.env.iter().cloned());
        replace(&mut spec.cwd, &self.cwd);
        replace(&mut spec.port, &self.port);
        if let Some(Readiness { text, when }) = &self.ready {
            spec.ready = Some(when.clone());
            spec.ready_text = Some(text.clone());
        }
        replace(&mut spec.health, &self.health);
        replace(&mut spec.health_timeout, &self.health_timeout);
        replace(&mut spec.stop_signal, &self.stop_signal);
        replace(&mut spec.grace, &self.grace);
        replace(&mut spec.linger, &self.linger);
        replace(&mut spec.log, &self.log);
        replace(&mut spec.fingerprint, &self.fingerprint);
        replace(&mut spec.mismatch, &self.mismatch.map(Into::into));
        replace(&mut spec.start_timeout, &self.start_timeout);
        replace(&mut spec.wait_timeout, &self.wait_timeout);
    }
}

impl ServiceFlags {
    /// Returns the name of the first option that is set.
    pub(crate) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("start", self.start.is_some()),
            ("port", self.port.is_some()),
            ("ready", self.ready.is_some()),
            ("health", self.health.is_some()),
            ("health-timeout", self.health_timeout.is_some()),
            ("stop-signal", self.stop_signal.is_some()),
            ("grace", self.grace.is_some()),
            ("linger", self.linger.is_some()),
            ("env", !self.env.is_empty()),
            ("cwd", self.cwd.is_some()),
            ("log", self.log.is_some()),
            ("fingerprint", self.fingerprint.is_some()),
            ("mismatch", self.mismatch.is_some()),
            ("start-timeout", self.start_timeout.is_some()),
            ("wait-timeout", self.wait_timeout.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.next().map(|(option, _)| option)
    }
}

/// A program and its arguments, as one value of one option.
#[derive(Clone, Debug)]
pub(crate) struct Argv(pub(crate) Vec<OsString>);

fn argv(text: &str) -> Result<Argv, String> {
    value_parsers::argv(text).map(Argv)
}

/// A readiness condition with its text.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    text: String,
    when: When,
}

fn readiness(text: &str) -> Result<Readiness, String> {
    let (text, when) = (text.to_owned(), value_parsers::ready(text)?);
    Ok(Readiness { text, when })
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnMismatch {
    /// Fail
    Refuse,
    /// Use the service anyway
    Join,
    /// Run another instance beside it
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
