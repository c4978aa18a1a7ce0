//! The command line on Windows, with real processes: what a person sees, and what became of the service, which
//! is told by what the service itself has written down.

#![cfg(windows)]

mod clients;
mod configuration;
mod doctor;
mod refusals;
mod sandbox;
mod services;
mod stop_request;
