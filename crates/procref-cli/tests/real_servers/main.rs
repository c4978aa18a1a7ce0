//! Tests with real servers: the recipes, and a shared PostgreSQL.
//!
//! The feature `real-servers` turns these tests on. They need `redis-server`, `nginx`, `python3`, PostgreSQL and `curl`.

#[path = "../project/mod.rs"]
mod project;
#[path = "../stage/mod.rs"]
mod stage;

mod postgres;
mod recipes;
