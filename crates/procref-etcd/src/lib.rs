//! Shares a procref service among hosts, with etcd as the referee.
//!
//! On each host one process, the *link*, holds one reference in etcd for all local clients. The link is an ordinary
//! local service of procref, and [`link()`] returns its command. The modules are its parts: [`link::Link`] is its state
//! machine, [`registry`] the keys and the steps that change them, and [`timing`] the arithmetic that makes a holder stop
//! before another host may start.

mod cluster;
pub mod drive;
mod error;
mod fuse;
mod host;
pub mod link;
mod local;
mod notify;
#[doc(hidden)]
pub mod program;
pub mod registry;
mod spec;
pub mod timing;

pub use cluster::Cluster;
pub use error::{Error, Result};
pub use spec::{LinkSpec, link};

/// The examples of the crate's page.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
