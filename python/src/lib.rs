//! The extension module `procref._native`: the library's service and handle as Python classes.
//!
//! | file | concept |
//! |---|---|
//! | `service.rs`, `handle.rs` | the classes `Service` and `Handle` |
//! | `project.rs` | the services of a `procref.toml` |
//! | `info.rs`, `status.rs` | the values that they return |
//! | `settings.rs`, `arguments.rs` | the arguments of `Service`, checked and converted |
//! | `wait.rs` | futures of the library, polled on the calling thread or on a thread for asyncio |
//! | `errors.rs` | errors of the library as Python exceptions |
//! | `interpreter.rs` | which interpreter this is, and whether it exits |
//!
//! Every call that can wait detaches from the interpreter. A lock of this module is only taken while the thread is
//! attached, and never kept while it detaches. So no fork in Python finds such a lock taken by another thread.

use pyo3::prelude::*;

mod arguments;
mod errors;
mod handle;
mod info;
mod interpreter;
mod project;
mod service;
mod settings;
mod status;
mod wait;

/// The native part of the package `procref`.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::handle::Handle;
    #[pymodule_export]
    use crate::info::Info;
    #[pymodule_export]
    use crate::project::ProjectFile;
    #[pymodule_export]
    use crate::service::Service;
    #[pymodule_export]
    use crate::status::{Holder, Status};
    #[pymodule_export]
    use crate::wait::Pending;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::interpreter::check(module.py())?;
        crate::interpreter::watch_exit(module.py())
    }
}
