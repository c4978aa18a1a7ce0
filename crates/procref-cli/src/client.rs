//! The client: the program that runs with a service, its environment and its arguments.

use std::cell::RefCell;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{self, PathBuf};
use std::process::{Command, ExitCode};

use procref_config::environment::{METADATA, OWN};
use procref_config::files::find::VARIABLE as CONFIG;
use procref_config::program;
use procref_config::relative_paths::{self, RUNTIME_DIR};
use procref_config::running::RunningService;
use procref_config::shell::advice;

use crate::acquire::AcquiredServices;
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::output;
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

/// Runs the client. If the system can pass references on, the client then holds the services itself.
pub(crate) fn run(
    globals: &Globals,
    client: &ClientCommand,
    services: AcquiredServices,
) -> Result<ExitCode> {
    if let Err(error) = check_ports(client, &services) {
        services.release()?;
        return Err(error);
    }
    let mut command = command(globals, client, &services);
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

/// Fails if a word contains the port of a service without one. The port would be 0.
fn check_ports(client: &ClientCommand, services: &AcquiredServices) -> Result<()> {
    let service_of = |place: &str| match services.only().filter(|_| place == "port") {
        Some((only, _)) => Some(only),
        None => {
            let mut others = services.running().iter();
            others.find(|other| placeholders::value_of(&other.name, place) == Some("port"))
        }
    };
    for word in client.filled_words() {
        let without_port = RefCell::new(None);
        // Only the placeholders are needed, and not the filled-in word.
        procref::fill_in(word, |place| {
            let service = service_of(place).filter(|it| it.info.port() == 0)?;
            without_port.replace(Some((place.to_owned(), service.name.clone())));
            None
        });
        if let Some((place, service)) = without_port.into_inner() {
            return Err(Error::Usage(format!(
                "service `{}` has no port, and the client's argument `{}` contains `{{{}}}` (set `port` or --port, or \
                 write `{{port}}` in the command of the service)",
                shown(&service),
                shown(&word.to_string_lossy()),
                shown(&place)
            )));
        }
    }
    Ok(())
}

fn command(globals: &Globals, client: &ClientCommand, services: &AcquiredServices) -> Command {
    let mut words = client.filled(|word| fill(word, services));
    let mut command = Command::new(program::find(words.next().unwrap_or_default()));
    command.args(words);
    // An outer `procref run` may have set these variables. They would be wrong for this client.
    let inherited = env::vars_os().map(|(name, _)| name);
    let stale = inherited.filter(|name| name.to_string_lossy().starts_with(METADATA));
    for name in stale.chain(OWN.map(OsString::from)) {
        command.env_remove(name);
    }
    command.env_remove(watch::WATCHED);
    command.envs(relative_paths::absolute_variables());
    command.envs(selection(globals));
    command.envs(services.variables());
    command
}

/// Returns the variables with which a `procref` of the client uses the same file and the same runtime directory as this
/// command.
fn selection(globals: &Globals) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let options = [
        (CONFIG, &globals.config),
        (RUNTIME_DIR, &globals.runtime_dir),
    ];
    let given = options.into_iter();
    given.filter_map(|(name, path)| Some((name, path::absolute(path.as_ref()?).ok()?)))
}

/// Fills in each placeholder that is known. All other braces are part of the client's text.
fn fill(word: &OsStr, services: &AcquiredServices) -> OsString {
    let running = services.running();
    let only = services.only();
    procref::fill_in(word, |place| {
        if let Some(value) = only.and_then(|(service, _)| value(service, place)) {
            return Some(value);
        }
        let mut others = running.iter();
        others.find_map(|other| value(other, placeholders::value_of(&other.name, place)?))
    })
}

fn value(service: &RunningService, what: &str) -> Option<OsString> {
    match what {
        "pid" => Some(service.info.pid().to_string().into()),
        "name" => Some(service.name.clone().into()),
        "port" | "dir" => service.value_of(what),
        _ => {
            let key = what.strip_prefix("meta.")?;
            service.info.get_metadata(key).map(OsString::from)
        }
    }
}
