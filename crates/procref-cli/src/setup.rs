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
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use procref::{Mismatch, ServiceHandle, SharedService};
use serde::{Deserialize, Serialize};

use crate::config::template::{fill, literal};
use crate::definition;
use crate::error::{Error, Result};
use crate::output;
use crate::program;
use crate::spec::ServiceSpec;

mod data;
mod failure;
#[cfg_attr(unix, path = "setup/unix.rs")]
#[cfg_attr(windows, path = "setup/windows.rs")]
mod sys;

pub(crate) use failure::about_program;
pub(crate) use sys::{executed, ready_after_setup};

/// What comes before a service's program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// What fills the data directory.
    pub(crate) init: Option<Vec<OsString>>,
    /// An absolute path.
    pub(crate) data: Option<String>,
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
    dependencies: Vec<Dependency>,
    /// The variables that the service is given by its own configuration.
    own: Vec<String>,
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
            dependencies: self.dependencies.clone(),
            own: spec.env.iter().map(|(name, _)| name.clone()).collect(),
        };
        let task = serde_json::to_string(&task).expect("texts and lists of them can be written");
        let mut words = vec![sys::myself(), SUBCOMMAND.into()];
        words.extend(["--task".into(), literal(&task).into()]);
        if spec.has_port() {
            words.extend(["--port".into(), "{port}".into()]);
        }
        for word in self.init.iter().flatten() {
            words.extend(["--init".into(), word.clone()]);
        }
        words.push("--".into());
        words.extend_from_slice(program);
        words
    }
}

/// How the hidden subcommand is called.
pub(crate) const SUBCOMMAND: &str = "__service";

/// The warning that the library gives for a service without anything before its program.
const UNASKED: &str = "nothing tells when the service is ready: it has neither a port nor `ready`, so its clients \
                       may run before it can serve them, or although it has failed (set `ready`; `started` if \
                       this is right)";

/// The command line of a service's program, without what comes before it.
pub(crate) fn program_of(command_line: &[String]) -> &[String] {
    let is_ours = command_line.get(1).is_some_and(|word| word == SUBCOMMAND);
    let end = command_line.iter().position(|word| word == "--");
    match end.filter(|_| is_ours) {
        Some(end) => &command_line[end + 1..],
        None => command_line,
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
    let mut surroundings = environment(&joined);
    surroundings.retain(|(name, _)| !task.own.contains(name));
    for name in &task.own {
        if let Ok(value) = env::var(name) {
            surroundings.push((name.clone(), filled_in(&value, &joined)));
        }
    }
    let command = |words: &[OsString]| {
        let mut words = words.iter().map(|word| match word.to_str() {
            Some(word) => OsString::from(filled_in(word, &joined)),
            None => word.clone(),
        });
        let mut command = Command::new(program::find(words.next().unwrap_or_default()));
        command.args(words).envs(surroundings.iter().cloned());
        command
    };
    // Held until this process becomes the program, and then by that.
    let _lock = match &task.data {
        Some(data) => {
            let init = (!args.init.is_empty()).then(|| command(&args.init));
            Some(data::prepare(&task.service, Path::new(data), init)?)
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
    runtime_dir: Option<PathBuf>,
    /// Only if that tells it from others of its name.
    fingerprint: Option<String>,
    export: Vec<(String, String)>,
}

impl Dependency {
    pub(crate) fn of(spec: &ServiceSpec) -> Self {
        let separate = matches!(spec.mismatch, Some(Mismatch::Separate));
        Self {
            name: spec.name.clone(),
            runtime_dir: spec.runtime_dir.clone(),
            fingerprint: spec.fingerprint.clone().filter(|_| separate),
            export: spec.export.clone(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn join(&self, dependent: &str) -> Result<Acquired> {
        let mut spec = ServiceSpec::named(&self.name);
        spec.export.clone_from(&self.export);
        spec.runtime_dir.clone_from(&self.runtime_dir);
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
pub(crate) fn environment(services: &[Acquired]) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for service in services {
        let suffix = variable_name(&service.name);
        let (port, pid) = (service.handle.port(), service.handle.pid());
        if port != 0 {
            variables.push((format!("PROCREF_PORT_{suffix}"), port.to_string()));
        }
        variables.push((format!("PROCREF_PID_{suffix}"), pid.to_string()));
        let dir = service.dir.to_string_lossy().into_owned();
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
            handle,
        }
    }

    /// Returns `true` if the service's process, if it has one on this machine, has exited.
    pub(crate) fn has_ended(&self) -> bool {
        self.handle.pid() != 0 && !self.handle.info().is_alive()
    }

    fn value_of(&self, what: &str) -> Option<String> {
        match what {
            "port" => Some(self.handle.port().to_string()),
            "dir" => Some(self.dir.to_string_lossy().into_owned()),
            _ => None,
        }
    }
}

/// A text with `{NAME.port}` and `{NAME.dir}` of these services filled in.
fn filled_in(text: &str, services: &[Acquired]) -> String {
    fill(text, |place| {
        let (name, what) = place.rsplit_once('.')?;
        services.iter().find(|it| it.name == name)?.value_of(what)
    })
}

/// What the configuration of a service gives its clients; `{port}` and `{dir}` are its own there.
pub(crate) fn exported(service: &Acquired, dependencies: &[Acquired]) -> Vec<(String, String)> {
    let pairs = service.export.iter();
    pairs
        .map(|(name, value)| {
            let value = fill(value, |place| service.value_of(place));
            (name.clone(), filled_in(&value, dependencies))
        })
        .collect()
}
