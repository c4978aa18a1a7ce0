//! An adapter for each contender.
//!
//! Each adapter works as the users of its contender work, in the variant that favors the contender. The table of facts
//! shows what a contender does not do.

pub mod current;
pub mod daemon;
pub mod dbus;
pub mod lockfile;
pub mod published;
pub mod python;
pub mod sqlite;

use crate::error::Result;

/// A client's access to the service, inside its process.
pub trait Client {
    /// Takes a reference. Starts the service if necessary, and returns when it is ready.
    fn attach(&mut self) -> Result<()>;
    /// Releases the reference that was taken last. The very last reference stops the service.
    fn detach(&mut self) -> Result<()>;
}
