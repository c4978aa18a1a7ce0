//! The program that is run with a service: its environment, its arguments, and running it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{Command, ExitCode};

use procref::ServiceInfo;

use crate::acquire::Held;
use crate::error::{Error, Result};
use crate::output;
use crate::prestart::{self, Acquired};
use crate::program;
use crate::relative_paths;
use crate::shell;
use crate::watch;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;
mod placeholders;

pub(crate) use placeholders::Words;

/// What an outer `procref run` may have set, and would be wrong here.
const OWN: [&str; 4] = ["PROCREF_PORT", "PROCREF_PID", "PROCREF_NAME", "PROCREF_DIR"];

/// The variables of a service's metadata begin with this.
const METADATA: &str = "PROCREF_META_";

/// Runs the client, and what is held is its own from then on, as far as the system has such a thing.
pub(crate) fn run(words: &Words, held: Held) -> Result<ExitCode> {
    let mut command = command(words, &held);
    let (source, held) = match sys::run(&mut command, held) {
        Ok(code) => return Ok(code),
        Err(failed) => failed,
    };
    if let Err(error) = held.release() {
        output::error(&error);
    }
    let found = source.kind() != io::ErrorKind::NotFound;
    let (program, arguments) = (command.get_program(), command.get_args());
    let hint = match found {
        true => None,
        false => shell::about_client(program, &arguments.collect::<Vec<_>>()),
    };
    Err(Error::Client {
        program: program.to_string_lossy().into_owned(),
        found,
        hint: hint.map_or_else(String::new, |hint| format!("; {hint}")),
        source,
    })
}

fn command(words: &Words, held: &Held) -> Command {
    let mut words = words.filled(|word| fill(word, held));
    let mut command = Command::new(program::find(words.next().unwrap_or_default()));
    command.args(words);
    let inherited = env::vars_os().map(|(name, _)| name);
    let stale = inherited.filter(|name| name.to_string_lossy().starts_with(METADATA));
    for name in stale.chain(OWN.map(OsString::from)) {
        command.env_remove(name);
    }
    command.env_remove(watch::WATCHED);
    command.envs(relative_paths::absolute_variables());
    command.envs(prestart::environment(held.all()));
    command.envs(variables(held.service()));
    command
}

/// What the client is told of the service in its environment.
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
        // The system's texts have no NUL.
        if !value.contains('\0') {
            variables.push((
                format!("{METADATA}{}", prestart::variable_name(key)),
                value.into(),
            ));
        }
    }
    variables
}

/// The word with every placeholder filled in that is known. All other braces are the client's own.
fn fill(word: &OsStr, held: &Held) -> OsString {
    let service = held.service();
    procref::fill_in(word, |place| {
        if let Some(value) = value(service, service.handle.info(), place) {
            return Some(value);
        }
        let (name, what) = place.rsplit_once('.')?;
        let other = held.all().iter().find(|other| other.name == name)?;
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
