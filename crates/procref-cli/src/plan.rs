//! From a name on the command line to the services that are meant.

use std::path::Path;

use procref::{Mismatch, Services, SharedService, State, Status};

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
pub(crate) struct Known {
    pub(crate) spec: ServiceSpec,
    pub(crate) service: SharedService,
    /// What to say of a name that is not in the configuration.
    hint: Option<String>,
}

impl Known {
    pub(crate) fn new(globals: &Globals, name: &str, which: &Which) -> Result<Self> {
        let mut spec = Plan::of_name(globals, name)?.service;
        if let Some(text) = &which.fingerprint {
            spec.fingerprint = Some(text.clone());
            spec.mismatch = Some(Mismatch::Separate);
        }
        Self::of(globals, spec)
    }

    fn of(globals: &Globals, spec: ServiceSpec) -> Result<Self> {
        let service = spec.build()?;
        let hint = match spec.start {
            Some(_) => None,
            None => config::hint(globals, &spec.name)?,
        };
        Ok(Self {
            spec,
            service,
            hint,
        })
    }

    /// Why it is not there, and what may be meant.
    pub(crate) fn not_running(&self) -> Error {
        let service = self.service.name();
        let dir = self.service.runtime_dir();
        let mut hint = String::new();
        for others in separate(dir, service) {
            hint += &format!("; one with --fingerprint {others} does");
        }
        if let Some(more) = &self.hint {
            hint += &format!("; {more}");
        }
        Error::NotRunning {
            service: shown(service),
            dir: dir.to_owned(),
            hint,
        }
    }
}

/// How the service is, or an error if it does not run.
pub(crate) fn require(known: &Known) -> Result<Status> {
    let status = known.service.status()?;
    match status.state() {
        State::Absent if status.clients() == 0 => Err(known.not_running()),
        _ => Ok(status),
    }
}

/// The fingerprints of services of this name that run beside each other, quoted.
fn separate(dir: &Path, service: &str) -> Vec<String> {
    let listed = Services::in_dir(dir).and_then(|services| services.list());
    listed
        .unwrap_or_default()
        .iter()
        .filter(|listed| listed.name() == Some(service))
        .filter_map(|listed| listed.status().fingerprint())
        .map(|text| shell_words::quote(text).into_owned())
        .collect()
}
