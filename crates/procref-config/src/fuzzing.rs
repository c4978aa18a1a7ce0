//! Fuzz targets for configuration files and option values.
//!
//! Like the targets of `procref::fuzzing`, each target accepts any bytes, and panics if a property is violated.

pub use crate::files::fuzz::config;
pub use crate::value_parsers::fuzz::values;

/// The name of a target's corpus, and the function that tests an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[("config", config), ("values", values)];
