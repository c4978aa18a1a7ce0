//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::contender::Contender;
use crate::groups::Group;
use crate::{many, raw};

#[derive(Parser)]
#[command(
    name = "procref-bench",
    about = "Measure procref beside the kernel and beside common alternatives"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub role: Option<Role>,
    /// Run briefly, to check that everything works; the figures mean little
    #[arg(long)]
    pub quick: bool,
    /// Measure only these groups
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Group>,
    /// Measure only these contenders
    #[arg(long, value_delimiter = ',')]
    pub contenders: Vec<Contender>,
    /// Directory for table.md, results.json and the plots
    #[arg(long, value_name = "DIR", default_value = "target/benchmarks")]
    pub out: PathBuf,
    /// Fail if a ratio to the floor, or a count of the group `steps`, is above its limit
    #[arg(long)]
    pub check: bool,
}

/// The other roles of this program. All processes of a measurement run this program.
#[derive(Subcommand)]
pub enum Role {
    /// Measure, in new namespaces
    #[command(hide = true)]
    Measure { scratch: PathBuf },
    /// Run a client that reads commands from its standard input
    #[command(hide = true)]
    Client { contender: Contender, site: PathBuf },
    /// Run the service
    #[command(hide = true)]
    Serve { site: PathBuf },
    /// Run the service that a D-Bus bus starts
    #[command(hide = true)]
    ServeDbus { site: PathBuf },
    /// Run the daemon that counts the connections of its clients
    #[command(hide = true)]
    Daemon { site: PathBuf },
    /// Start many services that this process hosts
    #[command(hide = true)]
    Host {
        dir: PathBuf,
        count: usize,
        /// Start a supervisor for each service
        #[arg(long)]
        supervised: bool,
    },
    /// Hold a reference on a bare set
    #[command(hide = true)]
    RawHold { id: i32 },
    /// Wait in a bare array
    #[command(hide = true)]
    RawWait { id: i32, until: raw::Until },
    /// Count up and down on a bare set
    #[command(hide = true)]
    RawLast { id: i32, seconds: f64 },
    /// Hold more and more services, and print the cost of each
    #[command(hide = true)]
    Many {
        kind: many::Kind,
        dir: PathBuf,
        points: Vec<usize>,
    },
    /// Take many handles of one service, and print the size of each
    #[command(hide = true)]
    Handles { site: PathBuf, count: usize },
}
