//! Tests with real programs: the recipes, a shared PostgreSQL, other shells than bash, and a terminal.
//!
//! The feature `real-servers` turns these tests on. They need `redis-server`, `nginx`, `python3`, PostgreSQL, MariaDB,
//! memcached, NATS, RabbitMQ, `amqp-tools`, ChromeDriver, Podman, Xvfb, `xdpyinfo`, `curl`, `zsh`, `fish`, `direnv` and
//! `tmux`, and the packages of `scripts/recipe-programs.sh`.

#[path = "../support/mod.rs"]
mod support;

mod containers;
mod env_formats;
mod postgres;
mod recipes;
mod served;
mod shells;
mod watch_screen;
