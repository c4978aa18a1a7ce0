//! The hidden subcommands of the demonstration.

use std::ffi::OsString;

use clap::Args;

/// The subcommand that runs a client.
pub(crate) const CLIENT: &str = "__demo-client";
/// The subcommand that runs the service.
pub(crate) const SERVICE: &str = "__demo-service";

#[derive(Args, Debug)]
pub(crate) struct DemoServiceArgs {
    /// File that records what the service does.
    pub(super) log: OsString,
}
