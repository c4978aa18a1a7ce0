//! `procref demo`, which is not there on Windows: what it shows is told by signals and by `/proc`.

use std::process::ExitCode;

use crate::error::{Error, Result};

pub(crate) fn run() -> Result<ExitCode> {
    let reason = "`demo` is not there on Windows; `procref hold` in some terminals, and `procref ps --watch` in \
                  another, show much of it";
    Err(Error::Usage(reason.to_owned()))
}

pub(crate) mod roles {
    use std::ffi::OsString;

    use super::*;

    pub(crate) const CLIENT: &str = "__demo-client";
    pub(crate) const SERVICE: &str = "__demo-service";

    #[derive(clap::Args, Debug)]
    pub(crate) struct ServiceArgs {
        /// Where it writes down what it does.
        log: OsString,
    }

    pub(crate) fn client() -> Result<ExitCode> {
        run()
    }

    pub(crate) fn service(_: &ServiceArgs) -> Result<ExitCode> {
        run()
    }
}
