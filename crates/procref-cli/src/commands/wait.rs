use std::process::ExitCode;

use crate::args::{Globals, WaitArgs};
use crate::error::{Error, Result};

pub(crate) fn run(_globals: &Globals, _args: &WaitArgs) -> Result<ExitCode> {
    Err(Error::Usage("not written yet".to_owned()))
}
