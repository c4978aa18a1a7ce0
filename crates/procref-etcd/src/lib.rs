//! Shares a procref service among hosts, with etcd as the referee.
//!
//! On each host one process, the *link*, holds one reference in etcd for all local clients. [`link::Link`] is its state
//! machine, [`registry`] the keys and the steps that change them, and [`timing`] the arithmetic that makes a holder stop
//! before another host may start.

pub mod drive;
pub mod link;
pub mod registry;
pub mod timing;
