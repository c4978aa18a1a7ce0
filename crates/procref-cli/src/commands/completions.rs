use std::process::ExitCode;

use crate::args::{self, CompletionsArgs};
use crate::error::Result;
use crate::output;

pub(crate) fn run(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    let mut command = args::public_command();
    clap_complete::generate(args.shell, &mut command, "procref", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
