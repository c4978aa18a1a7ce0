use std::process::ExitCode;

use crate::acquire::Held;
use crate::args::{Globals, RunArgs};
use crate::client::{self, Words};
use crate::error::Result;
use crate::output::{self, shown};
use crate::plan::Plan;
use crate::watch;

/// Acquires the service and runs the client.
pub(crate) fn run(globals: &Globals, args: &RunArgs) -> Result<ExitCode> {
    if args.watch_client {
        watch::check()?;
    }
    let plan = Plan::new(globals, &args.name, &args.service)?;
    let words = Words::new(args, &plan)?;
    // With `--watch-client` this runs a second time in the process that becomes the client.
    let is_client = args.watch_client && watch::is_watched();
    if let Some(place) = words.kept_by_shell().filter(|_| !is_client) {
        let place = shown(place);
        let note = format!(
            "note: `{place}` in the client's program stays as it is; a shell has $PROCREF_PORT and the like, \
             --fill fills it in, and --no-fill hides this note"
        );
        output::note(globals, &note);
    }
    let held = Held::new(globals, &plan)?;
    if args.watch_client && !is_client {
        return watch::run(held);
    }
    client::run(&words, held)
}
