//! The arguments of `Service`, checked and converted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use procref::{Mismatch, Ready, StopSignal};
use procref_config::value_parsers::{self, Port, When};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMapping, PyString};

use crate::errors::invalid_argument;

/// Returns the error of an argument with a value of a wrong type.
fn wrong_type(argument: &str, expected: &str, found: &Bound<'_, PyAny>) -> PyErr {
    let found = match found.repr() {
        Ok(found) => found.to_string(),
        Err(error) => return error,
    };
    PyTypeError::new_err(format!(
        "argument '{argument}': expected {expected}, found {found}"
    ))
}

pub(crate) fn text(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = value.extract();
    text.map_err(|_| wrong_type(argument, "a str", value))
}

pub(crate) fn path(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    let path = value.extract();
    path.map_err(|_| wrong_type(argument, "a str or an os.PathLike", value))
}

fn number(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    let number = value.extract();
    number.map_err(|_| wrong_type(argument, "a number of seconds", value))
}

/// Returns a time in seconds.
pub(crate) fn seconds(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let time = number(argument, value)?;
    Duration::try_from_secs_f64(time).map_err(|_| {
        let message = format!("{argument}: {time} is not a number of seconds, 0 or more");
        invalid_argument(value.py(), message)
    })
}

/// Returns the limit of a call that waits. `None` and infinity mean no limit. A negative time is treated as 0.
pub(crate) fn timeout(value: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    if value.is_none() {
        return Ok(None);
    }
    match number("timeout", value)? {
        time if time.is_nan() => seconds("timeout", value).map(Some),
        // A time that is too large for a duration, such as infinity, is no limit.
        time => Ok(Duration::try_from_secs_f64(time.max(0.0)).ok()),
    }
}

/// The program and its arguments: one text with the quotes of a shell, or a sequence of words.
pub(crate) fn start(value: &Bound<'_, PyAny>) -> PyResult<Vec<OsString>> {
    let py = value.py();
    if let Ok(text) = value.cast::<PyString>() {
        // A lone surrogate is no text. As a word of a list, it would be a byte of a path.
        let text = text
            .to_str()
            .map_err(|_| wrong_type("start", "text that is valid Unicode", value))?;
        let words = value_parsers::words(text);
        let words = words.map_err(|reason| invalid_argument(py, format!("start: {reason}")))?;
        return Ok(words.into_iter().map(OsString::from).collect());
    }
    let wrong = |found: &Bound<'_, PyAny>| {
        wrong_type(
            "start",
            "a str, or a sequence of str and os.PathLike",
            found,
        )
    };
    if value.is_instance_of::<PyBytes>() {
        return Err(wrong(value));
    }
    let mut words = Vec::new();
    for word in value.try_iter().map_err(|_| wrong(value))? {
        let word = word?;
        let path: PathBuf = word.extract().map_err(|_| wrong(&word))?;
        words.push(path.into_os_string());
    }
    if words.is_empty() {
        return Err(invalid_argument(py, "start: it is empty".to_owned()));
    }
    Ok(words)
}

pub(crate) fn port(value: &Bound<'_, PyAny>) -> PyResult<Port> {
    if let Ok(text) = value.extract::<String>() {
        if text == "auto" {
            return Ok(Port::Auto);
        }
    } else if let Ok(number) = value.extract::<i64>() {
        return match u16::try_from(number) {
            Ok(number) if number != 0 => Ok(Port::Fixed(number)),
            _ => {
                let message = format!("port: {number} is not a number from 1 to 65535");
                Err(invalid_argument(value.py(), message))
            }
        };
    }
    Err(wrong_type(
        "port",
        "an int, or \"auto\" for a free port",
        value,
    ))
}

pub(crate) fn stop_signal(value: &Bound<'_, PyAny>) -> PyResult<StopSignal> {
    let py = value.py();
    let invalid = |error: procref::Error| invalid_argument(py, format!("stop_signal: {error}"));
    if let Ok(name) = value.cast::<PyString>() {
        return name.to_str()?.parse().map_err(invalid);
    }
    let Ok(number) = value.extract::<i32>() else {
        return Err(wrong_type("stop_signal", "a str or an int", value));
    };
    let signals = py.import("signal")?.getattr("Signals")?;
    let name = signals.call1((number,)).and_then(|it| it.getattr("name"));
    let name =
        name.map_err(|_| invalid_argument(py, format!("stop_signal: {number} is not a signal")))?;
    name.extract::<String>()?.parse().map_err(invalid)
}

/// The condition under which the service is ready, as on the command line.
pub(crate) fn ready(value: &Bound<'_, PyAny>) -> PyResult<Ready> {
    let text = text("ready", value)?;
    match value_parsers::ready(&text) {
        Ok(When::Started) => Ok(Ready::at_once()),
        Ok(When::Socket(path)) => Ok(Ready::unix(path)),
        Ok(When::Asked(ready)) => Ok(ready),
        Err(reason) => {
            let message = format!("ready: {text:?}: {reason}");
            Err(invalid_argument(value.py(), message))
        }
    }
}

pub(crate) fn mismatch(value: &Bound<'_, PyAny>) -> PyResult<Mismatch> {
    match &*text("mismatch", value)? {
        "refuse" => Ok(Mismatch::Refuse),
        "join" => Ok(Mismatch::Join),
        "separate" => Ok(Mismatch::Separate),
        text => {
            let choices = "use \"refuse\", \"join\" or \"separate\"";
            let message = format!("mismatch: {text:?} is not a policy ({choices})");
            Err(invalid_argument(value.py(), message))
        }
    }
}

pub(crate) fn environment(value: &Bound<'_, PyAny>) -> PyResult<BTreeMap<OsString, OsString>> {
    let wrong = || wrong_type("env", "a mapping of str to str", value);
    let mapping = value.cast::<PyMapping>().map_err(|_| wrong())?;
    let copy = PyDict::new(value.py());
    copy.update(mapping)?;
    let mut variables = BTreeMap::new();
    for (name, text) in copy {
        let pair = (name.extract(), text.extract());
        let (Ok(name), Ok(text)) = pair else {
            return Err(wrong());
        };
        variables.insert(name, text);
    }
    Ok(variables)
}

pub(crate) fn callable(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    match value.is_callable() {
        true => Ok(value.clone().unbind()),
        false => Err(wrong_type(argument, "a callable", value)),
    }
}
