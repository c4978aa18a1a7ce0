//! The description of an instance.

use procref::ServiceInfo;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMappingProxy};

/// An instance of a service: its process, its port, and what its starter told all clients about it.
#[pyclass(frozen, eq, module = "procref")]
#[derive(Clone, PartialEq)]
pub(crate) struct Info(pub(crate) ServiceInfo);

#[pymethods]
impl Info {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("pid", "port", "metadata")
    }

    /// The process id.
    #[getter]
    fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// The port, or 0 if the service has none.
    #[getter]
    fn port(&self) -> u16 {
        self.0.port()
    }

    /// The metadata that the service or its starter has set.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMappingProxy>> {
        let metadata = self.dict(py)?;
        Ok(PyMappingProxy::new(py, metadata.as_mapping()))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let metadata = self.dict(py)?.repr()?;
        let (pid, port) = (self.0.pid(), self.0.port());
        Ok(format!("Info(pid={pid}, port={port}, metadata={metadata})"))
    }
}

impl Info {
    fn dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metadata = PyDict::new(py);
        for (key, value) in self.0.metadata() {
            metadata.set_item(key, value)?;
        }
        Ok(metadata)
    }
}
