use std::process::ExitCode;

use crate::acquire::Held;
use crate::args::{Globals, RunArgs};
use crate::client::{self, Words};
use crate::error::Result;
use crate::output::{self, shown};
use crate::resolve::Plan;
use crate::watch::{self, Watcher};

mod stopped;

/// Acquires the service and runs the client.
pub(crate) fn run(globals: &Globals, args: &RunArgs) -> Result<ExitCode> {
    // With `--watch-client` this runs a second time in the process that becomes the client.
    let is_client = args.watch_client && watch::is_watched();
    let watcher = match args.watch_client && !is_client {
        true => Some(Watcher::new()?),
        false => None,
    };
    let plan = Plan::new(globals, &args.name, &args.service)?;
    let words = Words::new(args, &plan)?;
    if let Some(place) = words.kept_by_shell().filter(|_| !is_client) {
        let place = shown(place);
        let note = format!(
            "note: `{place}` in the client's program stays as it is; a shell has $PROCREF_PORT and the like, \
             --fill fills it in, and --no-fill hides this note"
        );
        output::note(globals, &note);
    }
    let held = Held::new(globals, &plan)?;
    let Some(watcher) = watcher else {
        watch::restore_signals()?;
        return client::run(&words, held);
    };
    let ended = watcher.watch()?;
    held.release()?;
    if args.wait_stopped {
        stopped::wait(globals, &plan);
    }
    Ok(ended.code())
}
