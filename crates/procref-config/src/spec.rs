//! The description of a service, from a configuration file or from the command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use procref::{Mismatch, Ready, StopSignal};

use crate::cluster::ClusterSpec;
use crate::files::template::uses_port;
use crate::prestart::dependency::Dependency;
use crate::value_parsers::{Health, Port, When};

/// A service as a configuration file or the command line describes it. For each `None`, the library's default applies.
#[derive(Clone, Debug, Default)]
pub struct ServiceSpec {
    pub name: String,
    /// The runtime directory, or `None` for the default one.
    pub runtime_dir: Option<PathBuf>,
    /// The directory of the project that the service belongs to. `None` if it is shared, or in no file.
    pub project: Option<PathBuf>,
    /// The program and its arguments. A service without them can only be joined.
    pub start: Option<Vec<OsString>>,
    /// Variables of the service's environment. If a name is repeated, the last value counts.
    pub env: Vec<(String, String)>,
    pub cwd: Option<PathBuf>,
    pub port: Option<Port>,
    pub ready: Option<When>,
    /// The text of `ready`, as a link parses it.
    pub ready_text: Option<String>,
    /// The health check at every join.
    pub health: Option<Health>,
    pub health_timeout: Option<Duration>,
    pub stop_signal: Option<StopSignal>,
    /// The time between the stop signal and SIGKILL.
    pub grace: Option<Duration>,
    pub linger: Option<Duration>,
    pub log: Option<PathBuf>,
    pub fingerprint: Option<String>,
    pub mismatch: Option<Mismatch>,
    pub start_timeout: Option<Duration>,
    pub wait_timeout: Option<Duration>,
    /// The cluster whose hosts share the service.
    pub cluster: Option<ClusterSpec>,
    /// The work before the program.
    pub prestart: Prestart,
    /// Variables for the service's clients and dependents.
    pub export: Vec<(String, String)>,
}

/// The work that a service's process does before it executes the program.
#[derive(Clone, Debug, Default)]
pub struct Prestart {
    /// The command that fills the data directory.
    pub init: Option<Vec<OsString>>,
    /// The data directory, as an absolute path.
    pub data: Option<String>,
    /// The names of the services whose placeholders may appear in this service's texts.
    pub depends_on: Vec<String>,
    pub dependencies: Vec<Dependency>,
    /// The user that the service runs as if this process is root's.
    pub user: Option<String>,
}

impl Prestart {
    pub fn is_needed(&self) -> bool {
        self.data.is_some() || self.user.is_some() || !self.dependencies.is_empty()
    }
}

impl ServiceSpec {
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Returns `true` if the service has a port.
    pub fn has_port(&self) -> bool {
        let words = self.start.iter().chain(&self.prestart.init).flatten();
        let values = self.env.iter().map(|(_, value)| OsStr::new(value));
        let dir = self.cwd.iter().map(|dir| dir.as_os_str());
        let socket = match &self.ready {
            Some(When::Socket(path)) => Some(path.as_os_str()),
            _ => None,
        };
        let templates = words.map(OsString::as_os_str).chain(values).chain(dir);
        let mut templates = templates.chain(socket);
        let ready = match &self.ready {
            Some(When::Asked(probe)) => Some(probe),
            _ => None,
        };
        let health = match &self.health {
            Some(Health::Asked(probe)) => Some(probe),
            _ => None,
        };
        self.port.is_some()
            || templates.any(|template| uses_port(&template.to_string_lossy()))
            || ready.into_iter().chain(health).any(Ready::uses_port)
    }

    /// Returns `true` if the service has a port, or may send one when it is ready.
    pub fn may_have_port(&self) -> bool {
        let sends = matches!(&self.ready, Some(When::Asked(probe)) if probe.may_send_port());
        sends || self.has_port() || self.cluster.is_some()
    }

    /// Returns the name of an exported variable that has the port of a service without one.
    pub fn export_without_port(&self) -> Option<&str> {
        let mut exports = self.export.iter();
        let (name, _) = exports.find(|(_, value)| uses_port(value))?;
        (!self.may_have_port()).then_some(name)
    }

    /// Returns this service as a dependency of another one. `runtime_dir` is absolute.
    pub fn as_dependency(&self, runtime_dir: PathBuf) -> Dependency {
        let separate = matches!(self.mismatch, Some(Mismatch::Separate));
        Dependency {
            name: self.name.clone(),
            runtime_dir,
            fingerprint: self.fingerprint.clone().filter(|_| separate),
            export: self.export.clone(),
            depends_on: self.prestart.depends_on.clone(),
        }
    }
}
