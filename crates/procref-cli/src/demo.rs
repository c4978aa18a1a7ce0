//! `procref demo`: shows how clients share a service.

pub(crate) mod args;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use sys::{client, run, service};
