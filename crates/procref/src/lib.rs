//! Share ONE background service between many processes: the first process to acquire it starts it,
//! the others join, the last one stops it, and a process that crashes gives its reference back,
//! because the kernel counts and not a file.
//!
//! For N editors, agents or test processes that would each start their own database, language
//! server or model server, leave orphans behind, or race each other at start-up. No daemon is
//! installed, and nothing polls.
//!
//! # A service
//!
//! A program that procref executes, with everything that belongs to it:
//!
//! ```no_run
//! use procref::{ServiceCommand, SharedService};
//!
//! # async fn example() -> procref::Result<()> {
//! let server = ServiceCommand::new("python3")
//!     .args(["-m", "http.server", "--bind", "127.0.0.1", "{port}"]);
//! let service = SharedService::builder("web").command(server).build()?;
//!
//! let handle = service.acquire().await?; // starts it, or joins
//! println!("http://127.0.0.1:{}", handle.port());
//! handle.release().await?; // if nobody else holds it, it stops
//! # Ok(())
//! # }
//! ```
//!
//! [`Ready`] tells when it is ready to be used. For whatever is not a program that stays in the
//! foreground there are callbacks, [`on_first_acquire`](SharedServiceBuilder::on_first_acquire) first
//! of all.
//!
//! [`SharedService`] tells how a service is started, checked, recovered and stopped;
//! [`ServiceHandle`] keeps it alive. [`Services`] lists all of them and removes what crashes have left.
//! Two processes meet if they use the same name **and** the same
//! [runtime directory](SharedServiceBuilder::base_dir). Without a service, [`RefCounter`] is the
//! bare count.
//!
//! The [guide] goes through all that in the order in which it comes to be needed: from a database that
//! tests share to what is left when the machine dies.
//!
//! # What holds
//!
//! - At most one instance lives per directory and name, whatever races or crashes.
//! - A dead process holds no reference: killed, out of memory, exited, or replaced by `exec`.
//! - `acquire` returns a service that is alive, ready and healthy, or an error that says what
//!   happened. Who waits for another's start sleeps in the kernel, and takes over if it fails.
//! - No process is signalled but the one that was started: see [`process`].
//! - Nothing is left behind after the last release, and what a crash left the next acquire cleans.
//! - Once no process holds a reference the service is stopped, also when the last one was killed, or
//!   all of them in the same instant: a [supervisor](SharedServiceBuilder::orphan), forked by whoever
//!   starts the service, sees to that. With [`linger`](SharedServiceBuilder::linger) it waits a while first.
//!
//! # Async and not
//!
//! Futures of this crate run on any executor, or none: [`SharedService::acquire_blocking`].
//!
//! # Features
//!
//! - `tokio` (on by default): callbacks that run where no runtime is, in `Drop` and in the blocking calls,
//!   get a tokio runtime of their own. Without it they are polled without a runtime there, and tokio is no
//!   dependency.
//! - `crash-points` and `fuzzing`: for procref's own tests, and not covered by semantic versioning.
//!
//! # Examples
//!
//! Beside the examples of each item there are programs, to be run by `cargo run --release --example NAME`:
//! `redis` (a whole program of 23 lines), `quickstart` (an HTTP server and five processes), and `postgres`
//! (sixteen processes, by callbacks or as a command). The latter two are checked from outside.
//!
//! # What is going on
//!
//! Every transition is a [`tracing`](https://docs.rs/tracing) event under the target `procref`: with
//! a subscriber that obeys `RUST_LOG`, `RUST_LOG=procref=debug` tells who started, joined, recovered
//! and stopped what, and how long it took.
//!
//! # Platforms
//!
//! Linux. The mechanism is a [System V semaphore
//! set](https://man7.org/linux/man-pages/man7/sysvipc.7.html) per service, whose adjustments the
//! kernel takes back when a process ends.
//!
//! Windows, where references are handles on a named object and the service is in a job that ends with its
//! last client. After a crash that end is hard, [`linger`](SharedServiceBuilder::linger) is an error, and a
//! service has to listen to an [event](process) to be asked to stop.

mod command;
mod counter;
mod crash;
mod engine;
mod error;
mod file;
#[cfg(all(unix, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[doc = include_str!("guide.md")]
pub mod guide {}
mod host;
mod info;
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
