//! Resolves a name on the command line to the service that it stands for.

use std::path::Path;

use procref::{Listed, Mismatch, Services, SharedService, State, Status};

use crate::args::Which;
use crate::config;
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::runtime_dir::services;
use crate::service_flags::ServiceFlags;
use crate::spec::ServiceSpec;
use crate::text::shown;

/// A service with all its dependencies, as `run`, `hold` and `pin` acquire them.
#[derive(Debug)]
pub(crate) struct ResolvedService {
    /// The direct and indirect dependencies, in the order in which they are acquired.
    pub(crate) dependencies: Vec<ServiceSpec>,
    pub(crate) service: ServiceSpec,
}

impl ResolvedService {
    /// Resolves a name with the configuration, and applies the options.
    pub(crate) fn new(globals: &Globals, name: &str, flags: &ServiceFlags) -> Result<Self> {
        let mut resolved = Self::by_name(globals, name)?;
        flags.apply_to(&mut resolved.service);
        if resolved.service.start.is_none() {
            if flags.health.is_some() {
                let what = "`--health` needs `--start`, or a configuration file that describes the service, because \
                            an unhealthy service is restarted";
                return Err(Error::Usage(what.to_owned()));
            }
            // A service without a start command can only be joined. Without this check, the client would
            // create a semaphore set that no process removes.
            require(&NamedService::from_spec(globals, resolved.service.clone())?)?;
        }
        Ok(resolved)
    }

    fn by_name(globals: &Globals, name: &str) -> Result<Self> {
        if let Some((dependencies, service)) = config::find(globals, name)? {
            return Ok(Self {
                dependencies,
                service,
            });
        }
        let service = ServiceSpec {
            runtime_dir: globals.runtime_dir.clone(),
            ..ServiceSpec::named(name)
        };
        Ok(Self {
            dependencies: Vec::new(),
            service,
        })
    }

    /// Returns the dependencies and then the service, in the order in which they are acquired.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = &ServiceSpec> {
        self.dependencies.iter().chain([&self.service])
    }
}

/// A service that a command reads or stops, but does not start.
pub(crate) struct NamedService<'a> {
    globals: &'a Globals,
    pub(crate) spec: ServiceSpec,
    pub(crate) service: SharedService,
}

impl<'a> NamedService<'a> {
    pub(crate) fn new(globals: &'a Globals, name: &str, which: &Which) -> Result<Self> {
        let mut spec = ResolvedService::by_name(globals, name)?.service;
        if let Some(text) = &which.fingerprint {
            spec.fingerprint = Some(text.clone());
            spec.mismatch = Some(Mismatch::Separate);
        }
        Self::from_spec(globals, spec)
    }

    fn from_spec(globals: &'a Globals, spec: ServiceSpec) -> Result<Self> {
        let service = spec.build()?;
        Ok(Self {
            globals,
            spec,
            service,
        })
    }

    /// Returns a service of a list, as a service of that directory that cannot be started. Returns `None` if its name is
    /// lost.
    pub(crate) fn listed(
        globals: &'a Globals,
        dir: &Path,
        listed: &Listed,
    ) -> Result<Option<Self>> {
        let Some(name) = listed.name() else {
            return Ok(None);
        };
        let mut spec = ServiceSpec {
            runtime_dir: Some(dir.to_owned()),
            ..ServiceSpec::named(name)
        };
        let named = Self::from_spec(globals, spec.clone())?;
        if named.service.kernel_object() == listed.kernel_object() {
            return Ok(Some(named));
        }
        // The service runs once for each fingerprint.
        spec.fingerprint = listed.status().fingerprint().map(str::to_owned);
        spec.mismatch = Some(Mismatch::Separate);
        Self::from_spec(globals, spec).map(Some)
    }

    /// Fails if neither a configuration file nor a running service has the name. The name may be mistyped, or belong to
    /// another directory.
    pub(crate) fn check_name(&self) -> Result<()> {
        if self.spec.start.is_some() {
            return Ok(());
        }
        let status = self.service.status()?;
        let is_known =
            status.state() != State::Absent || status.clients() > 0 || status.is_pinned();
        let dir = self.service.runtime_dir();
        match is_known || !separate(dir, self.service.name()).is_empty() {
            true => Ok(()),
            false => Err(self.not_running()),
        }
    }

    /// Returns the error that the service is not running, with the services that the user may have meant.
    pub(crate) fn not_running(&self) -> Error {
        let service = self.service.name();
        let dir = self.service.runtime_dir();
        let mut hint = String::new();
        let others = separate(dir, service);
        for fingerprint in &others {
            hint += &format!("; one with --fingerprint {fingerprint} is running");
        }
        for place in other_locations(self.globals, dir, service) {
            hint += &format!("; one {place}");
        }
        if self.spec.start.is_none() && others.is_empty() {
            let running: Vec<String> = listed(dir).iter().filter_map(name_of).collect();
            // An error is ignored: the files were read a moment ago, and this is only a hint.
            if let Ok(unknown) = config::unknown_name(self.globals, service, &running) {
                // A service of exactly this name is a better hint than a similar name.
                let hint = match hint.is_empty() {
                    true => unknown.advice,
                    false => hint,
                };
                return Error::UnknownName(unknown.place + &hint);
            }
        }
        Error::NotRunning {
            service: shown(service),
            dir: dir.to_owned(),
            hint,
        }
    }
}

/// Returns the status of the service, or an error if the service is not running.
pub(crate) fn require(named: &NamedService<'_>) -> Result<Status> {
    let status = named.service.status()?;
    match status.state() {
        State::Absent if status.clients() == 0 => Err(named.not_running()),
        _ => Ok(status),
    }
}

fn listed(dir: &Path) -> Vec<Listed> {
    let listed = Services::in_dir(dir).and_then(|services| services.list());
    listed.unwrap_or_default()
}

fn name_of(listed: &Listed) -> Option<String> {
    listed.name().map(shown)
}

/// Returns the other runtime directories in which a service of this name is running. Each continues the text "one".
fn other_locations(globals: &Globals, own: &Path, service: &str) -> Vec<String> {
    let mut places = Vec::new();
    for namespace in config::namespaces(globals, true).unwrap_or_default() {
        let Ok(services) = services(namespace.dir.as_deref()) else {
            continue;
        };
        let runs = |it: &Listed| it.name() == Some(service) && it.status().state() != State::Absent;
        if services.dir() == own || !listed(services.dir()).iter().any(runs) {
            continue;
        }
        places.push(match &namespace.project {
            Some(project) => {
                let project = shown(&project.to_string_lossy());
                format!("is running in the project {project} (run procref there)")
            }
            None => "is running in the common runtime directory (use --no-config)".to_owned(),
        });
    }
    places
}

/// Returns the fingerprints, quoted for a shell, of services of this name that run once for each fingerprint.
fn separate(dir: &Path, service: &str) -> Vec<String> {
    listed(dir)
        .iter()
        .filter(|listed| listed.name() == Some(service))
        .filter_map(|listed| listed.status().fingerprint())
        .map(|text| shell_words::quote(text).into_owned())
        .collect()
}
