//! Does the work before the program, and then executes the program.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode};

use procref::{Mismatch, ServiceHandle};
use procref_config::environment;
use procref_config::prestart::dependency::Dependency;
use procref_config::prestart::task::PrestartTask;
use procref_config::program;
use procref_config::running::{RunningService, value_of_dependency};
use procref_config::spec::ServiceSpec;

use super::args::PrestartArgs;
use super::{data, log, sys};
use crate::error::{Error, Result};
use crate::helper;
use crate::text::shown;

/// Does the work and becomes the service's program. Reports a failure to the client through the log.
pub(crate) fn run(args: &PrestartArgs) -> Result<ExitCode> {
    execute(args).or_else(|error| Ok(log::report(&error)))
}

fn execute(args: &PrestartArgs) -> Result<ExitCode> {
    let task: PrestartTask = serde_json::from_str(&args.task)
        .map_err(|error| Error::Usage(format!("invalid `--task`: {error}")))?;
    // The work takes time. Without the reservation, another process could take the port in that time.
    let _reserved = args.port.map(sys::reserve);
    let (mut running, mut joined) = (Vec::new(), Vec::new());
    for dependency in &task.dependencies {
        let (service, handle) = join(dependency, &task.service)?;
        running.push(service);
        joined.push(handle);
    }
    let filled = |template: &OsStr| {
        procref::fill_in(template, |place| match place {
            // A template of a service without a port has no such placeholder, but it may have an escaped one.
            "port" => Some(args.port.unwrap_or(0).to_string().into()),
            "dir" => Some(args.dir.clone().into()),
            _ => value_of_dependency(place, &task.depends_on, &running),
        })
    };
    let mut variables = environment::of_dependents(&running);
    variables.retain(|(name, _)| !task.own.contains(name));
    for name in &task.templates {
        if let Some(value) = env::var_os(name) {
            variables.push((name.clone(), filled(&value)));
        }
    }
    let user = sys::switch_user(&task.service, task.user.as_deref())?;
    let command = |words: &[OsString]| {
        let mut words = words.iter().map(|word| filled(word));
        let mut command = Command::new(program::find(words.next().unwrap_or_default()));
        user.apply(&mut command, &task.own);
        command.args(words).envs(variables.iter().cloned());
        command
    };
    // This process holds the lock until it becomes the program, and then the program holds it.
    let _lock = match &task.data {
        Some(data) => {
            let init = (!args.init.is_empty()).then(|| command(&args.init));
            Some(data::prepare(
                &task.service,
                &args.dir,
                Path::new(data),
                &user,
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
    let (service, named) = (shown(&task.service), program.get_program());
    Err(Error::Failed(format!(
        "service `{service}`: could not execute `{}`: {}",
        shown(&named.to_string_lossy()),
        log::exec_reason(named, &error)
    )))
}

/// Takes a reference to a dependency, which must be running.
fn join(dependency: &Dependency, dependent: &str) -> Result<(RunningService, ServiceHandle)> {
    let mut spec = ServiceSpec::named(&dependency.name);
    spec.export.clone_from(&dependency.export);
    spec.prestart.depends_on.clone_from(&dependency.depends_on);
    spec.runtime_dir = Some(dependency.runtime_dir.clone());
    spec.fingerprint.clone_from(&dependency.fingerprint);
    spec.mismatch = dependency.fingerprint.as_ref().map(|_| Mismatch::Separate);
    let service = helper::build(&spec)?;
    match pollster::block_on(service.try_join())? {
        Some(handle) => {
            let (dir, info) = (service.runtime_dir(), handle.info());
            let running = RunningService::new(&spec, dir, info, handle.definition());
            Ok((running, handle))
        }
        None => {
            let (dependent, name) = (shown(dependent), shown(&dependency.name));
            Err(Error::Failed(format!(
                "service `{dependent}`: could not join `{name}`, which it depends on: `{name}` is not running any \
                 more (run `procref status {}` and try again)",
                shell_words::quote(&name)
            )))
        }
    }
}
