//! Tests with real programs: the recipes, a shared PostgreSQL, and other shells than bash.
//!
//! The feature `real-servers` turns these tests on. They need `redis-server`, `nginx`, `python3`, PostgreSQL, MariaDB,
//! memcached, NATS, Xvfb, `xdpyinfo`, `curl`, `zsh`, `fish` and
//! `direnv`.

#[path = "../support/mod.rs"]
mod support;

mod env_formats;
mod postgres;
mod recipes;
mod shells;
