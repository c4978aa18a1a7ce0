//! Tests with real servers: the recipes, and a shared PostgreSQL.
//!
//! The feature `real-servers` turns these tests on. They need `redis-server`, `nginx`, `python3`, PostgreSQL and `curl`.

#[path = "../support/mod.rs"]
mod support;

mod postgres;
mod recipes;
