//! Rejects `procref demo`, which Windows does not support: it uses signals and `/proc`.

use std::process::ExitCode;

use super::args::DemoServiceArgs;
use crate::error::{Error, Result};

pub(crate) fn run() -> Result<ExitCode> {
    let reason = "`demo` is not supported on Windows; run `procref hold` in several terminals, and `procref ps --watch` \
                  in another one";
    Err(Error::Usage(reason.to_owned()))
}

pub(crate) fn client() -> Result<ExitCode> {
    run()
}

pub(crate) fn service(_: &DemoServiceArgs) -> Result<ExitCode> {
    run()
}
