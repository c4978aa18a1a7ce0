//! Tests with real servers: the recipes, and a shared PostgreSQL.
//!
//! The feature `real-servers` turns these tests on. They need `redis-server`, `nginx`, `python3`, PostgreSQL and `curl`.

#[path = "../support/workspace.rs"]
mod project;
#[path = "../support/sandbox.rs"]
mod stage;

mod postgres;
mod recipes;
