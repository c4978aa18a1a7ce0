//! Windows calls that [procref](https://docs.rs/procref) and its command line share.
//!
//! **This crate is an internal part of procref.** Its interface may change in any release. On other systems it is empty.
//!
//! Each function makes one call, or a few calls that belong together. Return codes become
//! [`io::Error`](std::io::Error), and memory that Windows allocates is freed here. The crate logs nothing and
//! decides nothing: procref's rules are in procref.
//!
//! | module | contents |
//! |---|---|
//! | `process` | open, identify and end processes |
//! | `handle` | wait for a handle, give one to another process, take it back |
//! | `event`, `section`, `job` | named objects of the kernel |
//! | `lock_file` | locks on single bytes of a file |
//! | `security` | owners, and descriptors that admit one user |
//! | `directory` | create, identify and watch directories |
//! | `program` | find a program by its name |
//! | `console`, `window` | ask a process to exit |
//!
//! Named objects, and everything that has an owner, are created for the current user alone. A named object that is already
//! there is used only if the current user owns it: see `OpenFailure`.

#![cfg(windows)]
#![expect(
    unsafe_code,
    reason = "the standard library has no safe wrapper for these calls"
)]

mod call;
pub mod console;
pub mod directory;
pub mod event;
pub mod handle;
pub mod job;
pub mod lock_file;
mod open_failure;
pub mod process;
pub mod program;
pub mod section;
pub mod security;
pub mod window;

pub use call::wide;
pub use open_failure::OpenFailure;
