//! The guarantees on Windows: several processes, killed by `TerminateProcess`, judged from outside.
//!
//! The testkit watches by means of Linux. Here the test program runs itself again, as a client that does what
//! it is told or as a service. Whether two instances live at once the kernel tells: each has the same file open
//! and shares it with nobody. `scripts/windows.sh` runs this under Wine.

#![cfg(windows)]

mod client;
#[cfg(feature = "crash-points")]
mod deaths;
mod guarantees;
mod service;
mod stage;
mod storm;
