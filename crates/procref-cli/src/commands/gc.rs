use std::process::ExitCode;

use crate::args::{GcArgs, Globals};
use crate::error::{Error, Result};

pub(crate) fn run(_globals: &Globals, _args: &GcArgs) -> Result<ExitCode> {
    Err(Error::Usage("not written yet".to_owned()))
}
