//! The command line on Windows, with real processes.
//!
//! The tests check the output of `procref`, and the events that the service itself has recorded in a file.

#![cfg(windows)]
#![expect(
    clippy::print_stdout,
    reason = "child processes of the tests report on standard output"
)]

mod clients;
mod configuration;
mod doctor;
mod hold;
mod refusals;
mod sandbox;
mod services;
mod stop_request;
