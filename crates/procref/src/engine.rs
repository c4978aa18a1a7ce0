//! The engine: how a process takes a reference to a service, starts it, and stops it.

pub(crate) mod acquire;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod describe;
pub(crate) mod fingerprint;
pub(crate) mod follow;
pub(crate) mod handle;
pub(crate) mod health;
pub(crate) mod pin;
pub(crate) mod platform;
pub(crate) mod recursion;
pub(crate) mod registry;
pub(crate) mod release;
pub(crate) mod resolved_instance;
pub(crate) mod shared_wait;
pub(crate) mod start;
pub(crate) mod start_command;
pub(crate) mod stop;
pub(crate) mod stop_service;
pub(crate) mod transition;
pub(crate) mod unhealthy;
pub(crate) mod waiting;
