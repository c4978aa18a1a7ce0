//! What this module needs to know about the interpreter: which one it is, and whether it exits.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

static EXITING: AtomicBool = AtomicBool::new(false);

/// Fails in a subinterpreter.
///
/// All interpreters of a process share this module's variables, and their exits differ. PyO3 does not check this for a
/// module with multi-phase initialization.
pub(crate) fn check(py: Python<'_>) -> PyResult<()> {
    if is_main(py)? {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "procref does not support subinterpreters (import it in the main interpreter, or in another process)",
    ))
}

fn is_main(py: Python<'_>) -> PyResult<bool> {
    let thread = py.import("_thread")?;
    if let Ok(is_main) = thread.getattr("_is_main_interpreter") {
        return is_main.call0()?.is_truthy();
    }
    // Python 3.10 and 3.11. A Python without this module cannot create subinterpreters.
    let Ok(interpreters) = py.import("_xxsubinterpreters") else {
        return Ok(true);
    };
    let current = interpreters.call_method0("get_current")?;
    current.eq(interpreters.call_method0("get_main")?)
}

/// Registers a function with `atexit`, which runs before the interpreter is finalized.
pub(crate) fn watch_exit(py: Python<'_>) -> PyResult<()> {
    let begin = PyCFunction::new_closure(py, None, None, |_, _| {
        EXITING.store(true, Ordering::Relaxed);
    })?;
    py.import("atexit")?.call_method1("register", (begin,))?;
    Ok(())
}

/// Returns `true` after the interpreter has begun to exit. Nothing calls Python from then on.
pub(crate) fn is_exiting() -> bool {
    EXITING.load(Ordering::Relaxed)
}
