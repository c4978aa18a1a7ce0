use std::process::ExitCode;

use crate::args::ManArgs;
use crate::error::{Error, Result};

pub(crate) fn run(_args: &ManArgs) -> Result<ExitCode> {
    Err(Error::Usage("not written yet".to_owned()))
}
