use std::process::ExitCode;

use crate::args::{DoctorArgs, Globals};
use crate::error::{Error, Result};

pub(crate) fn run(_globals: &Globals, _args: &DoctorArgs) -> Result<ExitCode> {
    Err(Error::Usage("not written yet".to_owned()))
}
