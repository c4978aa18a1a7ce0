use std::process::ExitCode;

use crate::args::CompletionsArgs;
use crate::error::{Error, Result};

pub(crate) fn run(_args: &CompletionsArgs) -> Result<ExitCode> {
    Err(Error::Usage("not written yet".to_owned()))
}
