//! The settings of a `Service`, as the library's builder.

use std::sync::{Arc, Mutex, PoisonError};

use procref::{Error, ServiceCommand, ServiceInfo, SharedService, SharedServiceBuilder};
use procref_config::value_parsers::Port;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments;
use crate::errors::from_callback;
use crate::info::Info;

/// Returns the builder of a service. Each setting with the value `None` keeps its default.
pub(crate) fn builder(
    name: &Bound<'_, PyAny>,
    start: &Bound<'_, PyAny>,
    settings: Option<&Bound<'_, PyDict>>,
    interrupt: &Interrupt,
) -> PyResult<SharedServiceBuilder> {
    let mut builder = SharedService::builder(&arguments::text("name", name)?);
    let words = arguments::start(start)?;
    let mut command = ServiceCommand::new(&words[0]).args(&words[1..]);
    let (mut fingerprint, mut mismatch) = (None, None);
    for (setting, value) in settings.into_iter().flatten() {
        let setting: String = setting.extract()?;
        if value.is_none() && SETTINGS.contains(&&*setting) {
            continue;
        }
        match &*setting {
            "port" => {
                // As on the command line. The placeholder also makes the library choose a port.
                command = command.env("PORT", "{port}");
                if let Port::Fixed(port) = arguments::port(&value)? {
                    command = command.port(port);
                }
            }
            "ready" => command = command.ready(arguments::ready(&value)?),
            "env" => {
                for (name, value) in arguments::environment(&value)? {
                    command = command.env(name, value);
                }
            }
            "cwd" => command = command.current_dir(arguments::path(&setting, &value)?),
            "log" => command = command.log(arguments::path(&setting, &value)?),
            "stop_signal" => command = command.stop_signal(arguments::stop_signal(&value)?),
            "grace" => builder = builder.stop_timeout(arguments::seconds(&setting, &value)?),
            "linger" => builder = builder.linger(arguments::seconds(&setting, &value)?),
            "start_timeout" => {
                builder = builder.start_timeout(arguments::seconds(&setting, &value)?);
            }
            "wait_timeout" => builder = builder.wait_timeout(arguments::seconds(&setting, &value)?),
            "fingerprint" => fingerprint = Some(arguments::text(&setting, &value)?),
            "mismatch" => mismatch = Some(arguments::mismatch(&value)?),
            "on_ready" => {
                let call = arguments::callable(&setting, &value)?;
                builder = with_on_ready(builder, move |py, info| call.call1(py, (info,)));
            }
            "health" => {
                let call = arguments::callable(&setting, &value)?;
                builder = with_health(builder, call, interrupt.clone());
            }
            "project" => builder = builder.project(arguments::path(&setting, &value)?),
            "runtime_dir" => builder = builder.base_dir(arguments::path(&setting, &value)?),
            _ => {
                let message = format!("Service() got an unexpected keyword argument '{setting}'");
                return Err(PyTypeError::new_err(message));
            }
        }
    }
    if let Some(text) = fingerprint {
        builder = builder.fingerprint(text, mismatch.unwrap_or_default());
    }
    Ok(builder.command(command))
}

const SETTINGS: [&str; 16] = [
    "port",
    "ready",
    "env",
    "cwd",
    "log",
    "stop_signal",
    "grace",
    "linger",
    "start_timeout",
    "wait_timeout",
    "fingerprint",
    "mismatch",
    "on_ready",
    "health",
    "project",
    "runtime_dir",
];

/// An exception such as `KeyboardInterrupt` that was raised in a health check, which can only return a bool.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<Mutex<Option<PyErr>>>);

impl Interrupt {
    /// Returns the exception, and forgets it. The thread must be attached.
    pub(crate) fn take(&self, _: Python<'_>) -> Option<PyErr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, _: Python<'_>, raised: PyErr) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(raised);
    }
}

/// Sets `on_ready`. The library calls it on a thread that is detached, because the thread polls a future.
///
/// The future makes the call, because the library detects only in a poll that a callback acquires its own service.
pub(crate) fn with_on_ready(
    builder: SharedServiceBuilder,
    call: impl Fn(Python<'_>, Info) -> PyResult<Py<PyAny>> + Send + Sync + 'static,
) -> SharedServiceBuilder {
    let call = Arc::new(call);
    builder.on_ready(move |info| {
        let call = Arc::clone(&call);
        async move {
            match Python::try_attach(|py| call(py, Info(info)).map(drop)) {
                Some(Ok(())) => Ok(()),
                Some(Err(raised)) => Err(from_callback(raised)),
                None => Err(Error::from("the interpreter is exiting")),
            }
        }
    })
}

fn with_health(
    builder: SharedServiceBuilder,
    call: Py<PyAny>,
    interrupt: Interrupt,
) -> SharedServiceBuilder {
    let call = Arc::new(call);
    builder.on_health_check(move |info| {
        let (call, info, interrupt) = (Arc::clone(&call), info.clone(), interrupt.clone());
        // As for `on_ready`, the future makes the call.
        async move { call_health(&call, info, &interrupt) }
    })
}

/// Calls `health`. The thread is detached.
fn call_health(call: &Py<PyAny>, info: ServiceInfo, interrupt: &Interrupt) -> bool {
    let called = Python::try_attach(|py| {
        let returned = call.call1(py, (Info(info),));
        let healthy = returned.and_then(|returned| returned.bind(py).is_truthy());
        healthy.unwrap_or_else(|raised| {
            if raised.is_instance_of::<PyException>(py) {
                raised.write_unraisable(py, Some(call.bind(py)));
            } else {
                interrupt.set(py, raised);
            }
            false
        })
    });
    called.unwrap_or(false)
}
