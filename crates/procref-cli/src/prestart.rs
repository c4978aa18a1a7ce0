//! What is done before a service's program is executed: in the service's own process, by `procref` itself,
//! which then becomes the program.
//!
//! # Dependencies
//!
//! The service's process takes a reference to each service that it depends on, and then executes its program:
//! references belong to the process and stay. So a dependency lives as long as what depends on it,
//! whatever becomes of the clients: the kernel sees to the order. It only joins, and never starts one:
//! the clients have acquired them before, in that order. A supervisor that was started from in here would
//! be a part of this service, and end with it.
//!
//! # Initialisation
//!
//! The library gives one start of a service at a time, in one runtime directory. A data directory may be used
//! from several, and outlives them all. So it has a lock of its own, and notes that tell whether it was filled: see
//! [`data`].

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use procref::{Mismatch, ServiceHandle, SharedService};
use serde::{Deserialize, Serialize};

use crate::config::template::{self, AtStart, literal};
use crate::definition;
use crate::error::{Error, Result};
use crate::output;
use crate::program;
use crate::spec::ServiceSpec;

mod data;
mod failure;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use failure::about_program;
pub(crate) use sys::{ready_after_setup, started, started_unasked};

/// What comes before a service's program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// What fills the data directory.
    pub(crate) init: Option<Vec<OsString>>,
    /// An absolute path.
    pub(crate) data: Option<String>,
    /// The names that its texts may have placeholders of.
    pub(crate) depends_on: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// The command line that [`Setup::around`] makes.
#[derive(Args, Debug)]
pub(crate) struct SetupArgs {
    /// A [`Task`].
    #[arg(long)]
    task: String,
    /// The service's port, which is to be kept for it.
    #[arg(long)]
    port: Option<u16>,
    /// Its runtime directory.
    #[arg(long, allow_hyphen_values = true)]
    dir: PathBuf,
    /// A word of the command that fills the data directory.
    #[arg(long, allow_hyphen_values = true)]
    init: Vec<OsString>,
    /// The service's program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// What is the same at every start, in JSON on the command line: what a configuration says then can be
/// another thing by now.
#[derive(Deserialize, Serialize)]
struct Task {
    service: String,
    data: Option<String>,
    depends_on: Vec<String>,
    dependencies: Vec<Dependency>,
    /// The variables that the service is given by its own configuration.
    own: Vec<String>,
    /// Those of them that are still templates.
    templates: Vec<String>,
}

impl Setup {
    pub(crate) fn is_needed(&self) -> bool {
        self.data.is_some() || !self.dependencies.is_empty()
    }

    /// The command line of a service: that of its program, behind what is to be done before.
    pub(crate) fn around(&self, spec: &ServiceSpec, program: &[OsString]) -> Vec<OsString> {
        if !self.is_needed() {
            return program.to_vec();
        }
        let task = Task {
            service: spec.name.clone(),
            data: self.data.clone(),
            depends_on: self.depends_on.clone(),
            dependencies: self.dependencies.clone(),
            own: spec.env.iter().map(|(name, _)| name.clone()).collect(),
            templates: spec
                .env
                .iter()
                .filter(|(_, value)| self.is_filled_in_late(value))
                .map(|(name, _)| name.clone())
                .collect(),
        };
        let task = serde_json::to_string(&task).expect("texts and lists of them can be written");
        let mut words = vec![literal(&sys::myself()), SUBCOMMAND.into()];
        words.extend(["--task".into(), literal(OsStr::new(&task))]);
        if spec.has_port() {
            words.extend(["--port".into(), "{port}".into()]);
        }
        words.extend(["--dir".into(), "{dir}".into()]);
        // Each is filled in once, when all values are known: a runtime directory that the library has filled in
        // would be treated as a template here.
        for word in self.init.iter().flatten() {
            words.extend(["--init".into(), literal(word)]);
        }
        words.push("--".into());
        words.extend(program.iter().map(|word| literal(word)));
        words
    }

    /// A variable of the service's environment, for the library. Values with a placeholder of another service are
    /// filled in by the service's process.
    pub(crate) fn variable(&self, value: &str) -> OsString {
        match self.is_filled_in_late(value) {
            true => literal(OsStr::new(value)),
            false => value.into(),
        }
    }

    fn is_filled_in_late(&self, value: &str) -> bool {
        self.is_needed() && AtStart(&self.depends_on).mentions_dependency(value)
    }
}

/// How the hidden subcommand is called.
pub(crate) const SUBCOMMAND: &str = "__service";

/// The command line of a service's program, without what comes before it.
pub(crate) fn program_of(command_line: &[String]) -> Vec<String> {
    let is_ours = command_line.get(1).is_some_and(|word| word == SUBCOMMAND);
    let end = command_line.iter().position(|word| word == "--");
    match end.filter(|_| is_ours) {
        Some(end) => {
            let words = command_line[end + 1..].iter();
            words.map(|word| template::shown(word)).collect()
        }
        None => command_line.to_vec(),
    }
}

/// Does what is to be done, and becomes the service's program. What fails is reported to the client by the log.
pub(crate) fn run(args: &SetupArgs) -> Result<ExitCode> {
    execute(args).or_else(|error| Ok(failure::report(&error)))
}

fn execute(args: &SetupArgs) -> Result<ExitCode> {
    let task: Task = serde_json::from_str(&args.task)
        .map_err(|error| Error::Usage(format!("`--task`: {error}")))?;
    // All this takes time, in which the port would be anybody's.
    let _reserved = args.port.map(sys::reserve);
    let mut joined = Vec::new();
    for dependency in &task.dependencies {
        joined.push(dependency.join(&task.service)?);
    }
    let filled = |template: &OsStr| {
        procref::fill_in(template, |place| match place {
            // Without a port there is no such placeholder. But an escaped one is unescaped.
            "port" => Some(args.port.unwrap_or(0).to_string().into()),
            "dir" => Some(args.dir.clone().into()),
            _ => value_of_dependency(place, &task.depends_on, &joined),
        })
    };
    let mut surroundings = environment(&joined);
    surroundings.retain(|(name, _)| !task.own.contains(name));
    for name in &task.templates {
        if let Some(value) = env::var_os(name) {
            surroundings.push((name.clone(), filled(&value)));
        }
    }
    let command = |words: &[OsString]| {
        let mut words = words.iter().map(|word| filled(word));
        let mut command = Command::new(program::find(words.next().unwrap_or_default()));
        command.args(words).envs(surroundings.iter().cloned());
        command
    };
    // Held until this process becomes the program, and then by that.
    let _lock = match &task.data {
        Some(data) => {
            let init = (!args.init.is_empty()).then(|| command(&args.init));
            Some(data::prepare(
                &task.service,
                &args.dir,
                Path::new(data),
                init,
            )?)
        }
        None => None,
    };
    let mut program = command(&args.program);
    let error = match sys::become_program(&mut program, joined) {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    let shown = output::shown(&program.get_program().to_string_lossy());
    let reason = failure::exec_reason(program.get_program(), &error);
    let service = &task.service;
    Err(Error::Failed(format!(
        "service {service:?}: could not execute `{shown}`: {reason}"
    )))
}

/// A service that another one depends on: how to find it, and what it gives its clients.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Dependency {
    name: String,
    /// An absolute path: the dependent has a working directory, and may have an environment, of its own.
    #[serde(with = "path_text")]
    runtime_dir: PathBuf,
    /// Only if that tells it from others of its name.
    fingerprint: Option<String>,
    export: Vec<(String, String)>,
    depends_on: Vec<String>,
}

/// A path in JSON: as text, or as the list of its bytes if it is no Unicode.
mod path_text {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(PathBuf),
        Other(OsString),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => to.serialize_str(text),
            None => path.as_os_str().serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(match Written::deserialize(from)? {
            Written::Text(path) => path,
            Written::Other(path) => path.into(),
        })
    }
}

impl Dependency {
    pub(crate) fn of(spec: &ServiceSpec, runtime_dir: PathBuf) -> Self {
        let separate = matches!(spec.mismatch, Some(Mismatch::Separate));
        Self {
            name: spec.name.clone(),
            runtime_dir,
            fingerprint: spec.fingerprint.clone().filter(|_| separate),
            export: spec.export.clone(),
            depends_on: spec.setup.depends_on.clone(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn join(&self, dependent: &str) -> Result<Acquired> {
        let mut spec = ServiceSpec::named(&self.name);
        spec.export.clone_from(&self.export);
        spec.setup.depends_on.clone_from(&self.depends_on);
        spec.runtime_dir = Some(self.runtime_dir.clone());
        spec.fingerprint.clone_from(&self.fingerprint);
        spec.mismatch = self.fingerprint.as_ref().map(|_| Mismatch::Separate);
        let service = spec.build()?;
        match pollster::block_on(service.try_join())? {
            Some(handle) => Ok(Acquired::new(&spec, &service, handle)),
            None => Err(Error::Failed(format!(
                "service {dependent:?} depends on {:?}, which does not run any more; run `procref status {}` \
                 and try again",
                self.name, self.name
            ))),
        }
    }
}

/// A service that this process holds, for what depends on it.
#[derive(Debug)]
pub(crate) struct Acquired {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) export: Vec<(String, String)>,
    /// The names that what is exported may have placeholders of.
    pub(crate) depends_on: Vec<String>,
    pub(crate) handle: ServiceHandle,
}

/// A text as the end of a variable's name: capital letters, digits, and `_` for everything else.
pub(crate) fn variable_name(text: &str) -> String {
    text.chars()
        .map(|c| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_uppercase(),
            false => '_',
        })
        .collect()
}

/// What services tell those who depend on them: `PROCREF_PORT_NAME`, `PROCREF_PID_NAME`, `PROCREF_DIR_NAME`,
/// and what their configuration exports. Of two with the same name the later one wins.
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

impl Acquired {
    pub(crate) fn new(spec: &ServiceSpec, service: &SharedService, handle: ServiceHandle) -> Self {
        Self {
            name: spec.name.clone(),
            dir: service.runtime_dir().to_owned(),
            export: definition::exports(spec, handle.definition()),
            depends_on: spec.setup.depends_on.clone(),
            handle,
        }
    }

    /// Returns `true` if the service's process, if it has one on this machine, has exited.
    pub(crate) fn has_ended(&self) -> bool {
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

/// The value of `{NAME.port}` or `{NAME.dir}`, if `NAME` is one of these names.
fn value_of_dependency(
    place: &str,
    depends_on: &[String],
    services: &[Acquired],
) -> Option<OsString> {
    let (name, what) = AtStart(depends_on).dependency(place)?;
    services.iter().find(|it| it.name == name)?.value_of(what)
}

/// What the configuration of a service gives its clients; `{port}` and `{dir}` are its own there.
pub(crate) fn exported(service: &Acquired, dependencies: &[Acquired]) -> Vec<(String, OsString)> {
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
