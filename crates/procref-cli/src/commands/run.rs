use std::process::ExitCode;

use crate::args::{Globals, RunArgs};
use crate::error::{Error, Result};

pub(crate) fn run(_globals: &Globals, _args: &RunArgs) -> Result<ExitCode> {
    Err(Error::Usage("not written yet".to_owned()))
}
