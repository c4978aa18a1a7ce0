//! Tests with real programs: the recipes, a shared PostgreSQL, and completions in other shells than bash.
//!
//! The feature `real-servers` turns these tests on. They need `redis-server`, `nginx`, `python3`, PostgreSQL, MariaDB,
//! memcached, NATS, Xvfb, `xdpyinfo`, `curl`, `zsh` and `fish`.

#[path = "../support/mod.rs"]
mod support;

mod postgres;
mod recipes;
mod shells;
