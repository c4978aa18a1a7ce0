//! The services that this process holds, and the variables that they give to programs.

use std::ffi::OsString;
use std::path::PathBuf;

use procref::{ServiceHandle, SharedService};

use crate::config::template::AtStart;
use crate::definition;
use crate::spec::ServiceSpec;

/// A service that this process holds.
#[derive(Debug)]
pub(crate) struct Acquired {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) export: Vec<(String, String)>,
    /// The names of the services whose placeholders may appear in `export`.
    pub(crate) depends_on: Vec<String>,
    pub(crate) handle: ServiceHandle,
}

impl Acquired {
    pub(crate) fn new(spec: &ServiceSpec, service: &SharedService, handle: ServiceHandle) -> Self {
        Self {
            name: spec.name.clone(),
            dir: service.runtime_dir().to_owned(),
            export: definition::exports(spec, handle.definition()),
            depends_on: spec.prestart.depends_on.clone(),
            handle,
        }
    }

    /// Returns `true` if the service has a process on this machine and that process has exited.
    pub(crate) fn has_exited(&self) -> bool {
        self.handle.pid() != 0 && !self.handle.info().is_alive()
    }

    fn value_of(&self, what: &str) -> Option<OsString> {
        match what {
            "port" => Some(self.handle.port().to_string().into()),
            "dir" => Some(self.dir.clone().into()),
            _ => None,
        }
    }
}

/// Returns a text as the end of a variable's name: upper-case letters, digits, and `_` for all other characters.
pub(crate) fn variable_name(text: &str) -> String {
    text.chars()
        .map(|c| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_uppercase(),
            false => '_',
        })
        .collect()
}

/// Returns the variables for the dependents of these services: `PROCREF_PORT_NAME`, `PROCREF_PID_NAME`,
/// `PROCREF_DIR_NAME`, and the exports of each configuration. If a name is repeated, the last value counts.
pub(crate) fn environment(services: &[Acquired]) -> Vec<(String, OsString)> {
    let mut variables = Vec::new();
    for service in services {
        let suffix = variable_name(&service.name);
        let (port, pid) = (service.handle.port(), service.handle.pid());
        if port != 0 {
            variables.push((format!("PROCREF_PORT_{suffix}"), port.to_string().into()));
        }
        variables.push((format!("PROCREF_PID_{suffix}"), pid.to_string().into()));
        let dir = service.dir.clone().into();
        variables.push((format!("PROCREF_DIR_{suffix}"), dir));
        variables.extend(exported(service, services));
    }
    variables
}

/// Returns the exports of a service. `{port}` and `{dir}` in them are those of the service.
fn exported(service: &Acquired, dependencies: &[Acquired]) -> Vec<(String, OsString)> {
    let pairs = service.export.iter();
    pairs
        .map(|(name, value)| {
            let value = procref::fill_in(value, |place| {
                let own = service.value_of(place);
                own.or_else(|| value_of_dependency(place, &service.depends_on, dependencies))
            });
            (name.clone(), value)
        })
        .collect()
}

/// Returns the value of `{NAME.port}` or `{NAME.dir}`, if `NAME` is in `depends_on`.
pub(crate) fn value_of_dependency(
    place: &str,
    depends_on: &[String],
    services: &[Acquired],
) -> Option<OsString> {
    let (name, what) = AtStart(depends_on).dependency(place)?;
    services.iter().find(|it| it.name == name)?.value_of(what)
}
