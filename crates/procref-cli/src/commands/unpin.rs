use std::process::ExitCode;

use serde::Serialize;

use crate::args::{Globals, UnpinArgs};
use crate::error::Result;
use crate::output::{self, shown};
use crate::resolve::Known;
use crate::signals::Unsuspended;

#[derive(Serialize)]
struct Unpinned<'a> {
    name: &'a str,
    unpinned: bool,
}

pub(crate) fn run(globals: &Globals, args: &UnpinArgs) -> Result<ExitCode> {
    let known = Known::new(globals, &args.name, &args.which)?;
    known.check_name()?;
    let unpinned = {
        let _unsuspended = Unsuspended::begin();
        known.service.unpin_blocking()?
    };
    if args.json.json {
        output::print_json(&Unpinned {
            name: &args.name,
            unpinned,
        })?;
    } else {
        let what = if unpinned { "unpinned" } else { "not pinned:" };
        output::note(globals, &format!("{what} {}", shown(&args.name)));
    }
    Ok(ExitCode::SUCCESS)
}
