//! The options that every command has.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::runtime_dir;

/// The options that every command has.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Runtime directory; processes with the same one share services
    #[arg(long_help = runtime_dir::HELP)]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) runtime_dir: Option<PathBuf>,

    /// Configuration file [default: the nearest procref.toml in this directory or above it]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "no_config")]
    pub(crate) config: Option<PathBuf>,

    /// Read no configuration file
    #[arg(long, global = true)]
    pub(crate) no_config: bool,

    /// Print only results and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print progress; -vv prints every step
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(flatten)]
    pub(crate) color: colorchoice_clap::Color,
}
