//! Shares one background service between many processes. The first process that acquires the service starts
//! it, the others join, and the last one stops it. The kernel counts the references, so a process that
//! crashes releases its reference, too.
//!
//! Editors, agents and test processes often need the same database, language server or model server. If each starts
//! its own, they waste memory, race each other at start-up and leave orphans. With procref they share one. procref
//! installs no daemon and polls nothing.
//!
//! # A service
//!
//! A service is a program that procref executes:
//!
//! ```no_run
//! use procref::{ServiceCommand, SharedService};
//!
//! # async fn example() -> procref::Result<()> {
//! let server = ServiceCommand::new("python3")
//!     .args(["-m", "http.server", "--bind", "127.0.0.1", "{port}"]);
//! let service = SharedService::builder("web").command(server).build()?;
//!
//! let handle = service.acquire().await?; // starts the service, or joins it
//! println!("http://127.0.0.1:{}", handle.port());
//! handle.release().await?; // stops the service if no other process holds it
//! # Ok(())
//! # }
//! ```
//!
//! - [`SharedService`] defines how a service is started, checked, recovered and stopped.
//! - [`ServiceHandle`] is a reference. It keeps the service alive.
//! - [`Ready`] defines when the program counts as ready.
//! - [`Services`] lists all services, and removes what crashes have left.
//! - Callbacks replace the program if the service is not a program that stays in the foreground: start with
//!   [`on_first_acquire`](SharedServiceBuilder::on_first_acquire).
//! - [`RefCounter`] is only the count, without a service.
//!
//! Two processes meet if they use the same name **and** the same [runtime directory](SharedServiceBuilder::base_dir).
//!
//! The [guide] explains all of this in the order in which most programs need it.
//!
//! # Guarantees
//!
//! - At most one instance of a service is alive per directory and name, despite races and crashes.
//! - A dead process holds no reference. It may have been killed, have exited, have run out of memory, or have been
//!   replaced by `exec`.
//! - `acquire` returns a service that is alive, ready and healthy, or an error that states what happened. A client
//!   that waits for another client's start sleeps in the kernel, and takes over if that start fails.
//! - When no process holds a reference, the service is stopped, even if the last process, or all processes at
//!   once, were killed. A [supervisor](SharedServiceBuilder::orphan) does that: a small process that the
//!   starter of the service forks. With [`linger`](SharedServiceBuilder::linger), the supervisor first waits
//!   for that time.
//! - procref signals only the process that was started: see [`process`].
//! - The last release leaves nothing behind. The next acquire cleans up the leftovers of a crash.
//!
//! # Async and blocking calls
//!
//! The futures of this crate run on any executor. [`SharedService::acquire_blocking`] needs none.
//!
//! # Features
//!
//! - `tokio` (default): callbacks that run outside a runtime, in `Drop` and in the blocking calls, get a tokio
//!   runtime. Without this feature they are polled without a runtime, and procref does not depend on tokio.
//! - `crash-points` and `fuzzing`: for procref's own tests, without semantic versioning.
//!
//! # Examples
//!
//! Each item has examples. There are also example programs. Run one with `cargo run --example NAME`:
//!
//! - `redis`: a complete program of 23 lines,
//! - `quickstart`: an HTTP server and five processes,
//! - `postgres`: a database and sixteen processes, by callbacks or as a command.
//!
//! # Log
//!
//! Every transition is a [`tracing`](https://docs.rs/tracing) event with the target `procref`. With a
//! subscriber that reads `RUST_LOG`, `RUST_LOG=procref=debug` shows each start, join, recovery and stop with
//! its process and its duration.
//!
//! # Platforms
//!
//! **Linux.** Each service has a [System V semaphore set](https://man7.org/linux/man-pages/man7/sysvipc.7.html). When
//! a process ends, the kernel reverts its adjustments.
//!
//! **macOS.** Each service has a keeper, a small process that counts the references. The library compiles for macOS, but has
//! not run on a Mac yet.
//!
//! **Windows.** References are handles on a named object, and the service is in a job that ends with its last
//! client. The differences are:
//!
//! - After a crash of the last client, the service is terminated immediately, without its grace.
//! - [`linger`](SharedServiceBuilder::linger) is an error.
//! - A service waits for stop requests by an [event](process#windows).

mod command;
mod counter;
mod crash;
#[cfg(unix)]
mod descriptor;
mod engine;
mod error;
mod file;
#[cfg(all(target_os = "linux", feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[doc = include_str!("guide.md")]
pub mod guide {}
mod host;
mod info;
#[cfg(unix)]
mod keeper;
mod kernel;
mod key;
mod launch;
#[cfg(all(test, target_os = "linux"))]
mod model;
mod name;
mod namespace;
mod platform_check;
pub mod process;
mod ready;
mod record;
mod registry;
mod runtime;
mod service;
#[cfg(unix)]
mod supervisor;
mod template;

pub use command::{ServiceCommand, StopSignal};
pub use counter::{PlatformRefCounter, RefCounter};
#[cfg(feature = "crash-points")]
pub use crash::{CRASH_POINTS, CrashPoint, CrashSite, die_at};
pub use error::{Error, LogTail, Result};
pub use info::ServiceInfo;
pub use ready::Ready;
pub use service::{
    Collected, Holder, Listed, Mismatch, Orphan, Removed, ServiceHandle, Services, SharedService,
    SharedServiceBuilder, State, Status, is_managed,
};
pub use template::fill_in;
