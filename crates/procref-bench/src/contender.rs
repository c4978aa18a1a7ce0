//! The contenders of the comparison.

use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::peers::{Client, current, daemon, dbus, lockfile, published, sqlite};
use crate::site::Site;

/// A way to share one service between processes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// procref, which executes the service
    Command,
    /// procref, where a callback starts the service
    Callback,
    /// The crate procref 0.1.0
    Published,
    /// flock(2) and a JSON file with a counter, in Rust
    LockFile,
    /// The same with Python's filelock, as pytest-xdist's documentation recommends
    Filelock,
    /// A daemon that counts the connections to its Unix socket
    Daemon,
    /// A service that a D-Bus bus activates and that counts its callers
    Dbus,
    /// A counter in an SQLite database
    Sqlite,
}

impl Contender {
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// The name in tables and plots.
    pub fn title(self) -> &'static str {
        match self {
            Self::Command => "procref, command",
            Self::Callback => "procref, callbacks",
            Self::Published => "procref 0.1.0",
            Self::LockFile => "lock file + JSON (Rust)",
            Self::Filelock => "filelock + JSON (Python)",
            Self::Daemon => "counting daemon",
            Self::Dbus => "D-Bus activation",
            Self::Sqlite => "SQLite counter",
        }
    }

    pub fn name(self) -> String {
        self.to_possible_value()
            .expect("every contender has a name")
            .get_name()
            .to_owned()
    }

    /// Returns `true` if the contender is this library.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Command | Self::Callback)
    }

    /// Creates a client in this process. The Python client is a separate program.
    pub fn client(self, dir: &Path) -> Result<Box<dyn Client>> {
        let site = Site::new(dir);
        Ok(match self {
            Self::Command => Box::new(current::Current::with_command(&site)?),
            Self::Callback => Box::new(current::Current::with_callback(&site)?),
            Self::Published => Box::new(published::Published::new(&site)?),
            Self::LockFile => Box::new(lockfile::LockFile::new(&site)?),
            Self::Filelock => return Err("the client is a Python program".into()),
            Self::Daemon => Box::new(daemon::Connected::new(&site)),
            Self::Dbus => Box::new(dbus::Caller::new(&site)),
            Self::Sqlite => Box::new(sqlite::Counter::new(&site)?),
        })
    }
}
