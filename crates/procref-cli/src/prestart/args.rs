//! The command line of the hidden subcommand.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// The arguments that [`wrap`](procref_config::prestart::command_line::wrap) writes.
#[derive(Args, Debug)]
pub(crate) struct PrestartArgs {
    /// A `PrestartTask` in JSON.
    #[arg(long)]
    pub(super) task: String,
    /// The service's port, which stays reserved until the program runs.
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// The service's runtime directory.
    #[arg(long, allow_hyphen_values = true)]
    pub(super) dir: PathBuf,
    /// A word of the command that fills the data directory.
    #[arg(long, allow_hyphen_values = true)]
    pub(super) init: Vec<OsString>,
    /// The service's program and its arguments.
    #[arg(last = true, required = true)]
    pub(super) program: Vec<OsString>,
}
