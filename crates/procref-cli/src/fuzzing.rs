//! What must hold for whatever people write into a configuration file or behind a flag.
//!
//! As `procref::fuzzing`: each target takes any bytes and panics if something does not hold.

pub use crate::config::fuzz::config;
pub use crate::values::fuzz::values;

/// Every target, with the name of its corpus.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[("config", config), ("values", values)];
