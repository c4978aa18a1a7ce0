//! A running service, as the programs that use it see it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use procref::{ServiceInfo, State, Status};

use crate::definition::{self, Definition};
use crate::files::template::AtStart;
use crate::spec::ServiceSpec;

/// A running service: its instance, and the templates of the variables that it exports.
#[derive(Clone, Debug)]
pub struct RunningService {
    pub name: String,
    pub dir: PathBuf,
    pub export: Vec<(String, String)>,
    /// The names of the services whose placeholders may appear in `export`.
    pub depends_on: Vec<String>,
    pub info: ServiceInfo,
}

impl RunningService {
    /// Returns a service that a client describes. `recorded` are the settings with which the instance was started.
    pub fn new(spec: &ServiceSpec, dir: &Path, info: &ServiceInfo, recorded: &Definition) -> Self {
        Self {
            name: spec.name.clone(),
            dir: dir.to_owned(),
            export: definition::exports(spec, recorded),
            depends_on: spec.prestart.depends_on.clone(),
            info: info.clone(),
        }
    }

    /// Returns a service as its record describes it. Returns `None` if it is not ready.
    pub fn recorded(name: &str, status: &Status, dir: &Path) -> Option<Self> {
        if status.state() != State::Ready {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            dir: dir.to_owned(),
            export: definition::recorded_exports(status.definition()),
            depends_on: definition::recorded_dependencies(status.definition()),
            info: status.instance()?.clone(),
        })
    }

    /// Fills in `{port}` and `{dir}` of this service.
    pub fn filled(&self, template: &OsStr) -> OsString {
        procref::fill_in(template, |place| self.value_of(place))
    }

    /// Returns the value of `port` or `dir`.
    pub fn value_of(&self, what: &str) -> Option<OsString> {
        match what {
            "port" => Some(self.info.port().to_string().into()),
            "dir" => Some(self.dir.clone().into()),
            _ => None,
        }
    }
}

/// Returns the value of `{NAME.port}` or `{NAME.dir}`, if `NAME` is in `depends_on`.
pub fn value_of_dependency(
    place: &str,
    depends_on: &[String],
    services: &[RunningService],
) -> Option<OsString> {
    let (name, what) = AtStart(depends_on).dependency(place)?;
    services.iter().find(|it| it.name == name)?.value_of(what)
}
