//! Connections and waits on Windows.

pub(super) mod connection;
pub(super) mod wait;
