//! The C interface of [procref](https://docs.rs/procref): the functions of `include/procref.h`.
//!
//! The comments of the exported items are the comments of the header, which the program in `header/` generates with
//! cbindgen. So they address programmers of C.
//!
//! Types carry the rules for pointers. `Option<&T>` may be null, `Option<Box<T>>` moves an object to the callee or the
//! caller, and `Option<&mut MaybeUninit<T>>` is a place that the callee initializes. The caller must pass what the header
//! demands.
//!
//! | module | contents |
//! |---|---|
//! | `error` | status codes, error objects, and the guard that every fallible entry point runs in |
//! | `service`, `definition` | what is shared, and where its description comes from |
//! | `settings`, `on_ready` | what a caller can set |
//! | `handle` | a reference, and the values of its instance |
//! | `cancel`, `wait` | stop a blocking call from another thread or a signal handler |
//! | `json` | the status as JSON |
//! | `text` | strings |

#![expect(
    unsafe_code,
    reason = "an interface for C has symbols without mangling, and pointers to strings"
)]

// The header has the functions in this order.
mod service;

mod handle;

mod cancel;

mod error;

mod text;

mod definition;
mod json;
mod on_ready;
mod settings;
mod wait;

use std::ffi::c_char;

/// The version of this interface. It changes when a program must be compiled again.
pub const ABI_VERSION: u32 = 1;

/// Returns the `PROCREF_ABI_VERSION` of the library.
///
/// A program that loads the library with `dlopen` compares it with the `PROCREF_ABI_VERSION` of the header.
#[unsafe(no_mangle)]
pub extern "C" fn procref_abi_version() -> u32 {
    ABI_VERSION
}

/// Returns the version of procref, such as "0.2.0". The string is static.
#[unsafe(no_mangle)]
pub extern "C" fn procref_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

// The header promises that threads may share these objects.
const _: () = {
    const fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<service::Service>();
    is_shared::<handle::Handle>();
    is_shared::<cancel::Cancel>();
    is_shared::<error::Error>();
};
