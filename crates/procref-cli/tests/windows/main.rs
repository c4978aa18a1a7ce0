//! The command line on Windows, with real processes.
//!
//! The tests check the output of `procref`, and the events that the service itself has recorded in a file.

#![cfg(windows)]

mod clients;
mod configuration;
mod doctor;
mod refusals;
mod sandbox;
mod services;
mod stop_request;
