//! The output for an actor's messages.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::Output;
#[cfg(windows)]
pub use windows::Output;
