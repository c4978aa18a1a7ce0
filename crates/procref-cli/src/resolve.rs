//! From a name on the command line to the services that are meant.

use std::path::Path;

use procref::{Listed, Mismatch, Services, SharedService, State, Status};

use crate::args::{Globals, Which};
use crate::config;
use crate::error::{Error, Result};
use crate::output::shown;
use crate::spec::{ServiceFlags, ServiceSpec};

/// What `run`, `hold` and `pin` acquire.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What the service needs, in the order in which they are acquired.
    pub(crate) dependencies: Vec<ServiceSpec>,
    pub(crate) service: ServiceSpec,
}

impl Plan {
    /// The service of this name, as the configuration describes it and the flags change it.
    pub(crate) fn new(globals: &Globals, name: &str, flags: &ServiceFlags) -> Result<Self> {
        let mut plan = Self::of_name(globals, name)?;
        plan.service = plan.service.overridden_by(flags);
        if plan.service.start.is_none() {
            if flags.health.is_some() {
                let what = "`--health` needs `--start`, or a configuration file that describes the service: a \
                            service that does not answer is started anew";
                return Err(Error::Usage(what.to_owned()));
            }
            // What nobody can start can only be joined: without a set that is made for it and left.
            require(&Known::of(globals, plan.service.clone())?)?;
        }
        Ok(plan)
    }

    fn of_name(globals: &Globals, name: &str) -> Result<Self> {
        if let Some(plan) = config::find(globals, name)? {
            return Ok(plan);
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
}

/// A service that a command looks at or stops, and does not start.
pub(crate) struct Known<'a> {
    globals: &'a Globals,
    pub(crate) spec: ServiceSpec,
    pub(crate) service: SharedService,
}

impl<'a> Known<'a> {
    pub(crate) fn new(globals: &'a Globals, name: &str, which: &Which) -> Result<Self> {
        let mut spec = Plan::of_name(globals, name)?.service;
        if let Some(text) = &which.fingerprint {
            spec.fingerprint = Some(text.clone());
            spec.mismatch = Some(Mismatch::Separate);
        }
        Self::of(globals, spec)
    }

    fn of(globals: &'a Globals, spec: ServiceSpec) -> Result<Self> {
        let service = spec.build()?;
        Ok(Self {
            globals,
            spec,
            service,
        })
    }

    /// Fails if neither a configuration file nor a running service has the name: it is mistyped, or belongs
    /// to another directory.
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

    /// Why it is not there, and what may be meant.
    pub(crate) fn not_running(&self) -> Error {
        let service = self.service.name();
        let dir = self.service.runtime_dir();
        let mut hint = String::new();
        let others = separate(dir, service);
        for fingerprint in &others {
            hint += &format!("; one with --fingerprint {fingerprint} does");
        }
        for place in elsewhere(self.globals, dir, service) {
            hint += &format!("; one {place}");
        }
        if self.spec.start.is_none() && others.is_empty() {
            let running: Vec<String> = listed(dir).iter().filter_map(name_of).collect();
            // The files were read a moment ago; an error now is none of this command's.
            if let Ok(Some(more)) = config::hint(self.globals, service, &running) {
                hint += &format!("; {more}");
            }
        }
        Error::NotRunning {
            service: shown(service),
            dir: dir.to_owned(),
            hint,
        }
    }
}

/// How the service is, or an error if it does not run.
pub(crate) fn require(known: &Known<'_>) -> Result<Status> {
    let status = known.service.status()?;
    match status.state() {
        State::Absent if status.clients() == 0 => Err(known.not_running()),
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

/// The other runtime directories in which a service of this name runs, as the end of a sentence about it.
fn elsewhere(globals: &Globals, own: &Path, service: &str) -> Vec<String> {
    let mut places = Vec::new();
    for namespace in config::namespaces(globals, true).unwrap_or_default() {
        let services = match &namespace.dir {
            Some(dir) => Services::in_dir(dir),
            None => Services::open(),
        };
        let Ok(services) = services else {
            continue;
        };
        let runs = |it: &Listed| it.name() == Some(service) && it.status().state() != State::Absent;
        if services.dir() == own || !listed(services.dir()).iter().any(runs) {
            continue;
        }
        places.push(match &namespace.project {
            Some(project) => {
                let project = shown(&project.to_string_lossy());
                format!("of the project {project} does (run procref there)")
            }
            None => "of the common runtime directory does (use --no-config)".to_owned(),
        });
    }
    places
}

/// The fingerprints of services of this name that run beside each other, quoted.
fn separate(dir: &Path, service: &str) -> Vec<String> {
    listed(dir)
        .iter()
        .filter(|listed| listed.name() == Some(service))
        .filter_map(|listed| listed.status().fingerprint())
        .map(|text| shell_words::quote(text).into_owned())
        .collect()
}
