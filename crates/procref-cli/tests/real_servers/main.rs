//! Tests with real programs: the recipes, a shared PostgreSQL, other shells than bash, and a terminal.
//!
//! The feature `real-servers` turns these tests on. They need `redis-server`, `nginx`, `python3`, PostgreSQL, MariaDB,
//! memcached, NATS, Xvfb, `xdpyinfo`, `curl`, `zsh`, `fish`, `direnv` and `tmux`.

#[path = "../support/mod.rs"]
mod support;

mod env_formats;
mod postgres;
mod recipes;
mod shells;
mod watch_screen;
