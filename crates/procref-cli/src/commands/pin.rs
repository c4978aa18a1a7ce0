use std::process::ExitCode;

use crate::args::{Globals, PinArgs};
use crate::error::{Error, Result};

pub(crate) fn run(_globals: &Globals, _args: &PinArgs) -> Result<ExitCode> {
    Err(Error::Usage("not written yet".to_owned()))
}
