//! Finds, checks and resolves `procref.toml`, and acquires the services that it describes.
//!
//! The command line `procref` and the bindings for other languages use this crate, so that a service is the same in all
//! of them. The library [`procref`] itself reads no configuration. The keys of the file are described in the
//! [documentation of the command line](https://github.com/putao520/procref/blob/HEAD/docs/cli.md).
//!
//! ```
//! use std::path::Path;
//!
//! use procref_config::Project;
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! std::fs::write(
//!     dir.join("procref.toml"),
//!     r#"
//!     [services.sleeper]
//!     start = "sleep 60"
//!     ready = "started"
//!     export = { SLEEPER = "{dir}" }
//!     "#,
//! )?;
//! # let project = Project::read(&dir.join("procref.toml"))?.with_runtime_dir(dir.join("run"));
//! # #[cfg(any())]
//! let project = Project::find(dir)?.expect("the directory has a procref.toml");
//! let sleeper = project.service("sleeper", Path::new("/usr/bin/procref"))?;
//! # #[cfg(unix)] {
//! let held = sleeper.acquire_blocking(|builder| builder)?;
//! assert!(held.handle().info().is_alive());
//! for (name, value) in held.env() {
//!     println!("{name}={}", value.to_string_lossy());
//! }
//! held.release_blocking()?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The helper
//!
//! A service with `data`, `depends-on` or `user` needs work before its program is executed: its process locks and fills
//! the data directory, and joins the dependencies. The program `procref` does this work. The caller passes its path as
//! the *helper*. It is executed only for such services, and it must have the version of this crate.
//!
//! # Stability
//!
//! Items that are not in this documentation are for procref's own programs, and not covered by semantic versioning.

mod acquired;
mod builder;
mod error;
mod project;

pub use acquired::AcquiredServices;
pub use error::{Error, Result};
pub use files::diagnostic::{ConfigError, Diagnostic};
pub use project::{Project, ResolvedService};

#[doc(hidden)]
pub use acquired::{SideBySide, start_error};
#[doc(hidden)]
pub use error::library::Message;

#[doc(hidden)]
pub mod cluster;
#[doc(hidden)]
pub mod definition;
#[doc(hidden)]
pub mod environment;
#[doc(hidden)]
pub mod exited;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod log_files;
#[doc(hidden)]
pub mod prestart;
#[doc(hidden)]
pub mod program;
#[doc(hidden)]
pub mod recipes;
#[doc(hidden)]
pub mod relative_paths;
#[doc(hidden)]
pub mod resolved;
#[doc(hidden)]
pub mod running;
#[doc(hidden)]
pub mod shell;
#[doc(hidden)]
pub mod spec;
#[doc(hidden)]
pub mod text;
#[doc(hidden)]
pub mod value_parsers;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
