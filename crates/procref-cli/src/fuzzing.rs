//! What must hold for whatever people write into a configuration file or behind a flag.
//!
//! As `procref::fuzzing`: each target takes any bytes and panics if something does not hold.

pub use crate::config::fuzz::config;
pub use crate::value_parsers::fuzz::values;

/// The name of a target's corpus, and what tries an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[("config", config), ("values", values)];
