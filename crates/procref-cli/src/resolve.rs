//! Resolves a name on the command line to the service that it stands for.

use std::path::Path;

use procref::{Listed, Mismatch, Services, SharedService, State, Status};
use procref_config::cluster;
use procref_config::environment::{self, Variables};
use procref_config::files::find::FILE_NAME;
use procref_config::resolved::ResolvedServices;
use procref_config::running::RunningService;
use procref_config::spec::ServiceSpec;

use crate::args::Which;
use crate::config;
use crate::describe;
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::helper;
use crate::runtime_dir;
use crate::service_flags::ServiceFlags;
use crate::signals::Unsuspended;
use crate::text::shown;

/// Resolves names to services with all their dependencies, as `run`, `hold` and `pin` acquire them, and applies the
/// options. Without names, resolves the default services.
pub(crate) fn services(
    globals: &Globals,
    names: &[String],
    flags: &ServiceFlags,
) -> Result<ResolvedServices> {
    let mut resolved = by_names(globals, names)?;
    match (resolved.only_mut(), flags.first_given()) {
        (Some(only), _) => flags.apply_to(only),
        (None, Some(option)) => {
            return Err(Error::Usage(format!(
                "--{option} describes one service, and the command names several (write the setting to {FILE_NAME})"
            )));
        }
        (None, None) => {}
    }
    apply_cluster(globals, &mut resolved, flags)?;
    // The options can replace the command that has `{port}`.
    if let Some((spec, variable)) = resolved
        .named()
        .find_map(|spec| Some((spec, spec.export_without_port()?)))
    {
        return Err(Error::Usage(format!(
            "service `{}`: `export`: {variable}: `{{port}}` is used, but the service has no port (set --port, or write \
             `{{port}}` in `--start`)",
            shown(&spec.name)
        )));
    }
    check(globals, &resolved, flags)?;
    Ok(resolved)
}

/// Applies `--cluster` or its variable to the services that the command names.
fn apply_cluster(
    globals: &Globals,
    resolved: &mut ResolvedServices,
    flags: &ServiceFlags,
) -> Result<()> {
    if let Some(text) = flags.cluster.as_ref().filter(|text| !text.is_empty()) {
        let url = config::read(globals)?.cluster(text);
        let url = url.map_err(|reason| Error::Usage(format!("--cluster: {reason}")))?;
        for spec in resolved.named_mut() {
            spec.cluster.get_or_insert_default().url.clone_from(&url);
        }
    }
    for spec in resolved.all().filter(|spec| spec.cluster.is_some()) {
        let service = shown(&spec.name);
        if let Some(reason) = spec.unshareable_reason() {
            return Err(Error::Usage(format!("service `{service}`: {reason}")));
        }
        if spec.start.is_some() && !cluster::is_installed(&helper::path()) {
            return Err(Error::Usage(format!(
                "service `{service}`: the program {}, which shares a service among hosts, is neither beside procref nor in \
                 the PATH (install it: `cargo install --path crates/procref-etcd` in a checkout)",
                cluster::PROGRAM
            )));
        }
    }
    Ok(())
}

fn by_names(globals: &Globals, names: &[String]) -> Result<ResolvedServices> {
    let names = match names.is_empty() {
        true => config::default_names(globals)?,
        false => names.to_vec(),
    };
    let files = config::read(globals)?;
    let runtime_dir = globals.runtime_dir.as_deref();
    let found = {
        // This removes what projects that do not exist any more have left.
        let _unsuspended = Unsuspended::begin();
        files.resolve(runtime_dir, &names)?
    };
    let unknown = |name: &str| {
        Ok(ServiceSpec {
            runtime_dir: runtime_dir.map(Path::to_owned),
            ..ServiceSpec::named(name)
        })
    };
    Ok(ResolvedServices::new(found, &names, unknown)?)
}

/// Selects the instance with this fingerprint.
fn select(resolved: &mut ResolvedServices, which: &Which) -> Result<()> {
    let Some(text) = &which.fingerprint else {
        return Ok(());
    };
    let Some(spec) = resolved.only_mut() else {
        let what = "--fingerprint selects one service, and the command names several";
        return Err(Error::Usage(what.to_owned()));
    };
    spec.fingerprint = Some(text.clone());
    spec.mismatch = Some(Mismatch::Separate);
    Ok(())
}

/// Fails if a named service can neither be started nor joined.
fn check(globals: &Globals, resolved: &ResolvedServices, flags: &ServiceFlags) -> Result<()> {
    for spec in resolved.named().filter(|spec| spec.start.is_none()) {
        if flags.health.is_some() {
            let what = "`--health` needs `--start`, or a configuration file that describes the service, because an \
                        unhealthy service is restarted";
            return Err(Error::Usage(what.to_owned()));
        }
        // A service without a start command can only be joined. Without this check, the client would
        // create a semaphore set that no process removes.
        require(&NamedService::from_spec(globals, spec.clone())?)?;
    }
    Ok(())
}

/// A service that a command reads or stops, but does not start.
pub(crate) struct NamedService<'a> {
    globals: &'a Globals,
    pub(crate) spec: ServiceSpec,
    pub(crate) service: SharedService,
}

impl<'a> NamedService<'a> {
    pub(crate) fn new(globals: &'a Globals, name: &str, which: &Which) -> Result<Self> {
        let mut resolved = by_names(globals, &[name.to_owned()])?;
        select(&mut resolved, which)?;
        let spec = resolved.all().last().expect("a name was resolved");
        Self::from_spec(globals, spec.clone())
    }

    fn from_spec(globals: &'a Globals, spec: ServiceSpec) -> Result<Self> {
        let service = helper::build(&spec)?;
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
        let object = listed.kernel_object();
        let fingerprint = listed.status().fingerprint();
        Self::of_object(globals, dir, name, object, fingerprint).map(Some)
    }

    /// Returns the service of that directory with this name and kernel object, as a service that cannot be started.
    pub(crate) fn of_object(
        globals: &'a Globals,
        dir: &Path,
        name: &str,
        object: &str,
        fingerprint: Option<&str>,
    ) -> Result<Self> {
        let mut spec = ServiceSpec {
            runtime_dir: Some(dir.to_owned()),
            ..ServiceSpec::named(name)
        };
        let named = Self::from_spec(globals, spec.clone())?;
        if named.service.kernel_object() == object {
            return Ok(named);
        }
        // The service runs once for each fingerprint.
        spec.fingerprint = fingerprint.map(str::to_owned);
        spec.mismatch = Some(Mismatch::Separate);
        Self::from_spec(globals, spec)
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

    /// Returns the status of the service. If the service is not running, the error states what starts it.
    pub(crate) fn required(&self) -> Result<Status> {
        let status = self.service.status()?;
        match status.state() {
            State::Absent if status.clients() == 0 => Err(self.to_start()),
            _ => Ok(status),
        }
    }

    /// Returns the error that the service is not running, with the command that starts it.
    pub(crate) fn to_start(&self) -> Error {
        let mut error = self.not_running();
        if let (Error::NotRunning { service, hint, .. }, true) =
            (&mut error, self.spec.start.is_some())
        {
            if hint.is_empty() {
                let quoted = shell_words::quote(service);
                *hint = format!(
                    " (`procref run {quoted} -- COMMAND` starts it for a command, and `procref pin {quoted}` keeps it \
                     running)"
                );
            }
        }
        error
    }

    /// Returns the service as a client would find it now. Fails if it is not ready.
    fn ready(&self) -> Result<RunningService> {
        let status = self.required()?;
        let dir = self.service.runtime_dir();
        match (status.state(), status.instance()) {
            (State::Ready, Some(info)) => Ok(RunningService::new(
                &self.spec,
                dir,
                info,
                status.definition(),
            )),
            (State::Dead, _) => Err(dead(&self.service, &status)),
            (state, _) => {
                let name = shown(self.service.name());
                let quoted = shell_words::quote(&name);
                Err(Error::NotRunning {
                    service: name.clone(),
                    dir: dir.to_owned(),
                    hint: format!(
                        "; it is {state} (`procref wait {quoted}` waits until it is ready)"
                    ),
                })
            }
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

/// Returns the variables that a client of these services would get. Fails if one of the services or of their
/// dependencies is not ready. Without names, returns those of the default services.
pub(crate) fn running_variables(
    globals: &Globals,
    names: &[String],
    which: &Which,
) -> Result<Variables> {
    let mut resolved = by_names(globals, names)?;
    select(&mut resolved, which)?;
    let running = resolved.all().map(|spec| {
        let named = NamedService::from_spec(globals, spec.clone())?;
        named.ready()
    });
    let running: Vec<RunningService> = running.collect::<Result<_>>()?;
    let own = resolved.only().map(|only| &running[only]);
    Ok(environment::of_clients(&running, own))
}

/// Returns the error that the service is dead.
pub(crate) fn dead(service: &SharedService, status: &Status) -> Error {
    let how = status.exit_status();
    let how = how.map(|status| format!(": {}", describe::exit(status)));
    Error::Dead {
        service: shown(service.name()),
        how: how.unwrap_or_default(),
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
        let Ok(services) = runtime_dir::services(namespace.dir.as_deref()) else {
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
