//! The runtime directory in messages.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use procref_config::files::namespace::services;
pub(crate) use sys::HELP;
