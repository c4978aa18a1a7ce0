//! The error of this crate.

use std::fmt;

/// A complete message: what failed, on what, its cause, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
