use std::process::ExitCode;

use crate::args::{Globals, UnpinArgs};
use crate::error::{Error, Result};

pub(crate) fn run(_globals: &Globals, _args: &UnpinArgs) -> Result<ExitCode> {
    Err(Error::Usage("not written yet".to_owned()))
}
