//! The processes after the fork: attendant, supervisor, and the service's process until its program runs.
//!
//! ```text
//!  starter ----clone----> first child ----clone----> supervisor ----clone----> service's process
//!                         (entry)                    (entry, subreaper)        (exec)
//!                         becomes the attendant
//! ```
//!
//! Nothing here allocates, locks, panics or uses a thread-local value of the standard library. Each process has one
//! thread.

mod attendant;
mod calls;
mod children;
pub mod entry;
mod signals;
mod subreaper;
