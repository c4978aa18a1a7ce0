//! The layout of a semaphore set, and the steps on it.

pub mod layout;
pub mod op_list;
pub mod signal_safe;
pub mod steps;
