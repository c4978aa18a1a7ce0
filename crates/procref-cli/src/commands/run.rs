use std::process::ExitCode;

use crate::acquire::AcquiredServices;
use crate::args::RunArgs;
use crate::client::{self, ClientCommand};
use crate::error::Result;
use crate::globals::Globals;
use crate::output;
use crate::resolve;
use crate::text::shown;
use crate::watch::{self, Watcher};

mod wait_stopped;

/// Acquires the services and runs the client.
pub(crate) fn run(globals: &Globals, args: &RunArgs) -> Result<ExitCode> {
    // With `--watch-client`, the process that becomes the client also runs this function.
    let is_client = args.watch_client && watch::is_watched();
    let watcher = match args.watch_client && !is_client {
        true => Some(Watcher::new()?),
        false => None,
    };
    let resolved = resolve::services(globals, &args.names, &args.service)?;
    let client = ClientCommand::new(args, &resolved)?;
    if let Some(place) = client.kept_by_shell().filter(|_| !is_client) {
        let place = shown(place);
        let variable = match resolved.only() {
            Some(_) => "$PROCREF_PORT",
            None => "$PROCREF_PORT_NAME",
        };
        let note = format!(
            "note: `{place}` in the client's shell program is not filled in (use {variable} and similar variables \
             there, use --fill to fill it in, or use --no-fill to hide this note)"
        );
        output::note(globals, &note);
    }
    let acquired = AcquiredServices::new(globals, &resolved)?;
    let Some(watcher) = watcher else {
        watch::restore_signals()?;
        return client::run(globals, &client, acquired);
    };
    let exit = watcher.watch()?;
    acquired.release()?;
    if args.wait_stopped {
        wait_stopped::wait(globals, &resolved);
    }
    Ok(exit.code())
}
