//! The error of a run.

/// An error that ends a run, or one role of it. The text says which operation failed.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Failure>;
