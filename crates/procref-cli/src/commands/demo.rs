use std::process::ExitCode;

use crate::args::{DemoArgs, Globals};
use crate::error::{Error, Result};

pub(crate) fn run(_globals: &Globals, _args: &DemoArgs) -> Result<ExitCode> {
    Err(Error::Usage("not written yet".to_owned()))
}
