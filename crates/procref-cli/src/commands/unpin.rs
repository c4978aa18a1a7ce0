use std::process::ExitCode;

use serde::Serialize;

use crate::args::NamedArgs;
use crate::error::Result;
use crate::globals::Globals;
use crate::output;
use crate::resolve::NamedService;
use crate::signals::Unsuspended;
use crate::text::shown;

#[derive(Serialize)]
struct UnpinJson<'a> {
    name: &'a str,
    unpinned: bool,
}

pub(crate) fn run(globals: &Globals, args: &NamedArgs) -> Result<ExitCode> {
    let named = NamedService::new(globals, &args.name, &args.which)?;
    named.check_name()?;
    let unpinned = {
        let _unsuspended = Unsuspended::begin();
        named.service.unpin_blocking()?
    };
    if args.json.json {
        output::print_json(&UnpinJson {
            name: &args.name,
            unpinned,
        })?;
    } else {
        let what = if unpinned { "unpinned" } else { "not pinned:" };
        output::note(globals, &format!("{what} `{}`", shown(&args.name)));
    }
    Ok(ExitCode::SUCCESS)
}
