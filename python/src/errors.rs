//! Errors of the library as exceptions of `procref._errors`.

use std::io;

use procref::Error;
use procref_config::Error as ConfigurationError;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::status::return_code;

/// Returns the exception for an error of the library.
pub(crate) fn to_exception(py: Python<'_>, error: &Error) -> PyErr {
    match exception(py, error, &error.to_string()) {
        Ok(exception) | Err(exception) => exception,
    }
}

/// Returns the exception for an error about a configuration or its services.
pub(crate) fn from_config(py: Python<'_>, error: &ConfigurationError) -> PyErr {
    let message = error.to_string();
    let made = match about_service(error) {
        Some(source) => exception(py, source, &message),
        None => configuration_exception(py, error, &message),
    };
    match made {
        Ok(exception) | Err(exception) => exception,
    }
}

/// Returns the library's error that an error explains.
fn about_service(error: &ConfigurationError) -> Option<&Error> {
    match error {
        ConfigurationError::Service(source) => Some(source),
        ConfigurationError::Advised { error, .. }
        | ConfigurationError::AfterFailures { error, .. } => about_service(error),
        _ => None,
    }
}

fn configuration_exception(
    py: Python<'_>,
    error: &ConfigurationError,
    message: &str,
) -> PyResult<PyErr> {
    let class = match error {
        ConfigurationError::Config(_)
        | ConfigurationError::Conflict(_)
        | ConfigurationError::UnknownService { .. } => "ConfigError",
        ConfigurationError::Exited { .. } => "Dead",
        ConfigurationError::BeforeProgram { .. } => "StartError",
        ConfigurationError::Advised { error, .. }
        | ConfigurationError::AfterFailures { error, .. } => {
            return configuration_exception(py, error, message);
        }
        _ => "Error",
    };
    let raised = raised(py, class, message)?;
    if class == "ConfigError" {
        let problems = match error {
            ConfigurationError::Config(error) => error
                .diagnostics()
                .iter()
                .map(|it| it.to_string())
                .collect(),
            _ => vec![message.to_owned()],
        };
        raised.setattr("problems", PyTuple::new(py, problems)?)?;
    }
    Ok(PyErr::from_value(raised))
}

/// Returns an exception for an invalid argument.
pub(crate) fn invalid_argument(py: Python<'_>, message: String) -> PyErr {
    let made = raised(py, "ConfigError", &message).and_then(|raised| {
        raised.setattr("problems", (&message,))?;
        Ok(PyErr::from_value(raised))
    });
    match made {
        Ok(exception) | Err(exception) => exception,
    }
}

/// Returns the plain exception of procref with this text.
pub(crate) fn plain(py: Python<'_>, message: &str) -> PyErr {
    match raised(py, "Error", message) {
        Ok(raised) => PyErr::from_value(raised),
        Err(error) => error,
    }
}

fn exception(py: Python<'_>, error: &Error, message: &str) -> PyResult<PyErr> {
    match error {
        // The class is that of the client's own failure.
        Error::StartsFailed { source, .. } => return exception(py, source, message),
        Error::InvalidName { .. } => return Ok(invalid_argument(py, message.to_owned())),
        Error::InvalidSetting {
            service,
            setting,
            reason,
            ..
        } => {
            let argument = argument_of(setting);
            let message = format!("service `{service}`: invalid {argument}: {reason}");
            return Ok(invalid_argument(py, message));
        }
        _ => {}
    }
    let raised = raised(py, class_of(error), message)?;
    match error {
        Error::Exited { status, output, .. } => {
            raised.setattr("exit_status", return_code(*status))?;
            raised.setattr("log_tail", &output.lines)?;
            raised.setattr("log", &output.log)?;
        }
        Error::NotReady { output, .. } => {
            raised.setattr("log_tail", &output.lines)?;
            raised.setattr("log", &output.log)?;
        }
        Error::Timeout { holder, .. } => raised.setattr("holder", holder)?,
        Error::Held { holders, .. } => raised.setattr("holders", PyTuple::new(py, holders)?)?,
        Error::Fingerprint { ours, theirs, .. } => {
            raised.setattr("wanted", ours)?;
            raised.setattr("running", theirs.as_deref())?;
        }
        _ => {}
    }
    let exception = PyErr::from_value(raised);
    if let Some(cause) = python_cause(error) {
        if !cause.is_instance_of::<PyException>(py) {
            // KeyboardInterrupt and SystemExit must not become ordinary errors.
            return Ok(cause.clone_ref(py));
        }
        exception.set_cause(py, Some(cause.clone_ref(py)));
    }
    Ok(exception)
}

/// Returns the argument of `Service` for a method of the library's builder.
fn argument_of(setting: &str) -> &str {
    match setting {
        "base_dir" => "runtime_dir",
        "command" => "start",
        "current_dir" => "cwd",
        "on_health_check" => "health",
        "stop_timeout" => "grace",
        other => other,
    }
}

fn class_of(error: &Error) -> &'static str {
    match error {
        Error::Callback { .. }
        | Error::CallbackPanicked { .. }
        | Error::Exec { .. }
        | Error::Exited { .. }
        | Error::InvalidInstance { .. }
        | Error::Log { .. }
        | Error::NoStart { .. }
        | Error::NotReady { .. }
        | Error::Port { .. }
        | Error::Supervisor { .. }
        | Error::Unhealthy { .. } => "StartError",
        Error::Timeout { .. } => "Timeout",
        Error::Held { .. } => "Held",
        Error::Fingerprint { .. } => "Mismatch",
        Error::Namespaces { .. } | Error::Proc { .. } => "Unsupported",
        _ => "Error",
    }
}

/// Returns an instance of a class of `procref._errors`.
fn raised<'py>(py: Python<'py>, class: &str, message: &str) -> PyResult<Bound<'py, PyAny>> {
    let class = py.import("procref._errors")?.getattr(class)?;
    class.cast_into::<PyType>()?.call1((message,))
}

/// Returns an error of the library for an exception that a callback has raised. [`to_exception`] finds it again.
pub(crate) fn from_callback(raised: PyErr) -> Error {
    io::Error::other(raised).into()
}

fn python_cause(error: &Error) -> Option<&PyErr> {
    match error {
        Error::Callback { source, .. } => python_cause(source),
        Error::Io(source) => source.get_ref()?.downcast_ref(),
        _ => None,
    }
}
