//! The client: the program that runs with a service, its environment and its arguments.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{Command, ExitCode};

use procref::ServiceInfo;

use crate::acquire::AcquiredServices;
use crate::acquired::{self, Acquired};
use crate::error::{Error, Result};
use crate::output;
use crate::program;
use crate::relative_paths;
use crate::shell::advice;
use crate::text::shown;
use crate::watch;

mod placeholders;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use placeholders::ClientCommand;

/// Variables that an outer `procref run` may have set. They would be wrong for this client.
const OWN: [&str; 4] = ["PROCREF_PORT", "PROCREF_PID", "PROCREF_NAME", "PROCREF_DIR"];

/// The prefix of the variables for a service's metadata.
const METADATA: &str = "PROCREF_META_";

/// Runs the client. If the system can pass references on, the client then holds the services itself.
pub(crate) fn run(client: &ClientCommand, services: AcquiredServices) -> Result<ExitCode> {
    let mut command = command(client, &services);
    let (source, services) = match sys::run(&mut command, services) {
        Ok(code) => return Ok(code),
        Err(failed) => failed,
    };
    if let Err(error) = services.release() {
        output::error(&error);
    }
    let found = source.kind() != io::ErrorKind::NotFound;
    let (program, arguments) = (command.get_program(), command.get_args());
    let hint = match found {
        true => None,
        false => advice::about_client(program, &arguments.collect::<Vec<_>>()),
    };
    Err(Error::Client {
        program: shown(&program.to_string_lossy()),
        found,
        hint: hint.map_or_else(String::new, |hint| format!(" ({hint})")),
        source,
    })
}

fn command(client: &ClientCommand, services: &AcquiredServices) -> Command {
    let mut words = client.filled(|word| fill(word, services));
    let mut command = Command::new(program::find(words.next().unwrap_or_default()));
    command.args(words);
    let inherited = env::vars_os().map(|(name, _)| name);
    let stale = inherited.filter(|name| name.to_string_lossy().starts_with(METADATA));
    for name in stale.chain(OWN.map(OsString::from)) {
        command.env_remove(name);
    }
    command.env_remove(watch::WATCHED);
    command.envs(relative_paths::absolute_variables());
    command.envs(acquired::environment(services.all()));
    command.envs(variables(services.service()));
    command
}

/// Returns the client's variables about the service itself.
fn variables(service: &Acquired) -> Vec<(String, OsString)> {
    let info = service.handle.info();
    let mut variables = vec![
        ("PROCREF_NAME".to_owned(), service.name.clone().into()),
        ("PROCREF_PID".to_owned(), info.pid().to_string().into()),
        ("PROCREF_DIR".to_owned(), service.dir.clone().into()),
    ];
    if info.port() != 0 {
        variables.push(("PROCREF_PORT".to_owned(), info.port().to_string().into()));
    }
    for (key, value) in info.metadata() {
        // The system's texts cannot contain a NUL.
        if !value.contains('\0') {
            variables.push((
                format!("{METADATA}{}", acquired::variable_name(key)),
                value.into(),
            ));
        }
    }
    variables
}

/// Fills in each placeholder that is known. All other braces are part of the client's text.
fn fill(word: &OsStr, services: &AcquiredServices) -> OsString {
    let service = services.service();
    procref::fill_in(word, |place| {
        if let Some(value) = value(service, service.handle.info(), place) {
            return Some(value);
        }
        let (name, what) = place.rsplit_once('.')?;
        let other = services.all().iter().find(|other| other.name == name)?;
        value(other, other.handle.info(), what)
    })
}

fn value(service: &Acquired, info: &ServiceInfo, what: &str) -> Option<OsString> {
    match what {
        "port" => Some(info.port().to_string().into()),
        "pid" => Some(info.pid().to_string().into()),
        "name" => Some(service.name.clone().into()),
        "dir" => Some(service.dir.clone().into()),
        _ => {
            let key = what.strip_prefix("meta.")?;
            info.get_metadata(key).map(OsString::from)
        }
    }
}
