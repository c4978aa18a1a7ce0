//! The counted kernel: each object is a table in a *keeper*, a small process for each service.
//!
//! ```text
//! client 1 ──┐
//! client 2 ──┼── Unix socket: requests ──> keeper ──> state file: table, sessions, journal
//! client n ──┘                               └─ watches the clients: ends the references of dead processes
//! ```
//!
//! The keeper performs the same arrays as a System V semaphore set. It identifies a client by pid and start time, which
//! the kernel reports, and watches the process by a pidfd, on macOS by kqueue. So a reference ends with the process, survives `exec`, and
//! is not inherited by a fork.
//!
//! If the keeper dies, nothing is lost. The next step of any client finds the lock on the state file free and starts a
//! successor, which reads the table from the file. The client sends its request again, with the same number, and the
//! change happens once.
//!
//! | module | contents |
//! |---|---|
//! | [`wire`], [`order`] | requests and answers, and the order to launch a service |
//! | [`state`] | the state file: layout, journal, recovery |
//! | [`ledger`] | the object: table, sessions and file |
//! | `open`, `channel`, `session`, `instances` | the client's side |
//! | `place`, `sys`, `helper` | paths, system calls, and the program that becomes a keeper |

mod channel;
mod client;
#[cfg(all(target_os = "linux", feature = "fuzzing"))]
pub(crate) mod fuzz;
pub(crate) mod helper;
mod instances;
pub(crate) mod ledger;
mod main_program;
pub(crate) mod mapped;
pub(crate) mod open;
pub(crate) mod order;
pub(crate) mod place;
mod session;
pub(crate) mod state;
pub(crate) mod sys;
pub(crate) mod wire;

pub(crate) use client::{Counted, RemoteArray};
