//! Connections and waits on Unix.

pub(super) mod connection;
pub(super) mod wait;
