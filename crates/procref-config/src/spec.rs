//! The description of a service, from a configuration file or from the command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use procref::{Mismatch, StopSignal};

use crate::config::template::uses_port;
use crate::prestart::dependency::Dependency;
use crate::value_parsers::{Health, Port, When};

/// A service as a configuration file or the command line describes it. For each `None`, the library's default applies.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceSpec {
    pub(crate) name: String,
    /// The runtime directory, or `None` for the default one.
    pub(crate) runtime_dir: Option<PathBuf>,
    /// The directory of the project that the service belongs to. `None` if it is shared, or in no file.
    pub(crate) project: Option<PathBuf>,
    /// The program and its arguments. A service without them can only be joined.
    pub(crate) start: Option<Vec<OsString>>,
    /// Variables of the service's environment. If a name is repeated, the last value counts.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) port: Option<Port>,
    pub(crate) ready: Option<When>,
    /// The health check at every join.
    pub(crate) health: Option<Health>,
    pub(crate) health_timeout: Option<Duration>,
    pub(crate) stop_signal: Option<StopSignal>,
    /// The time between the stop signal and SIGKILL.
    pub(crate) grace: Option<Duration>,
    pub(crate) linger: Option<Duration>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) mismatch: Option<Mismatch>,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) wait_timeout: Option<Duration>,
    /// The work before the program.
    pub(crate) prestart: Prestart,
    /// Variables for the service's clients and dependents.
    pub(crate) export: Vec<(String, String)>,
}

/// The work that a service's process does before it executes the program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prestart {
    /// The command that fills the data directory.
    pub(crate) init: Option<Vec<OsString>>,
    /// The data directory, as an absolute path.
    pub(crate) data: Option<String>,
    /// The names of the services whose placeholders may appear in this service's texts.
    pub(crate) depends_on: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
    /// The user that the service runs as if this process is root's.
    pub(crate) user: Option<String>,
}

impl Prestart {
    pub(crate) fn is_needed(&self) -> bool {
        self.data.is_some() || self.user.is_some() || !self.dependencies.is_empty()
    }
}

impl ServiceSpec {
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Returns `true` if the service has a port.
    pub(crate) fn has_port(&self) -> bool {
        let words = self.start.iter().chain(&self.prestart.init).flatten();
        let values = self.env.iter().map(|(_, value)| OsStr::new(value));
        let dir = self.cwd.iter().map(|dir| dir.as_os_str());
        let mut templates = words.map(OsString::as_os_str).chain(values).chain(dir);
        self.port.is_some() || templates.any(|template| uses_port(&template.to_string_lossy()))
    }

    /// Returns this service as a dependency of another one. `runtime_dir` is absolute.
    pub(crate) fn as_dependency(&self, runtime_dir: PathBuf) -> Dependency {
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
