//! The class `ProjectFile`, on which the package builds its `Project`.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use procref::SharedServiceBuilder;
use procref_config::{Project, ResolvedService};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;

use crate::arguments;
use crate::errors::{from_config, invalid_argument};
use crate::service::Service;
use crate::settings::with_on_ready;

/// The services that apply to a directory.
#[pyclass(frozen, module = "procref._native")]
pub(crate) struct ProjectFile {
    project: Project,
    helper: PathBuf,
}

#[pymethods]
impl ProjectFile {
    /// Reads a file, or the nearest one above the working directory.
    #[new]
    fn new(py: Python<'_>, path: Option<&Bound<'_, PyAny>>, helper: PathBuf) -> PyResult<Self> {
        let path = path.map(|path| arguments::path("path", path)).transpose()?;
        let read = py.detach(|| match &path {
            Some(path) => Project::read(path).map(Some),
            None => Project::find(".".as_ref()),
        });
        match read {
            Ok(Some(project)) => Ok(Self { project, helper }),
            Ok(None) => {
                let dir = std::env::current_dir().unwrap_or_default();
                let message = format!(
                    "no procref.toml in {} or above it (write one with `procref init`)",
                    dir.display()
                );
                Err(invalid_argument(py, message))
            }
            Err(error) => Err(from_config(py, &error)),
        }
    }

    /// The absolute path of the file.
    #[getter]
    fn file(&self) -> PathBuf {
        self.project.file().to_owned()
    }

    /// The names of the services.
    #[getter]
    fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        // A name may be in the project's file and in the user's.
        for name in self.project.names() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Returns a service.
    fn service(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        linger: Option<&Bound<'_, PyAny>>,
        on_ready: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Service> {
        let name = arguments::text("name", name)?;
        if !self.project.names().any(|known| known == name) {
            return Err(PyKeyError::new_err(name));
        }
        let linger = linger.map(|linger| arguments::seconds("linger", linger));
        let on_ready = on_ready.map(|call| arguments::callable("on_ready", call));
        let changes = Changes {
            linger: linger.transpose()?,
            on_ready: on_ready.transpose()?.map(Arc::new),
        };
        let resolved = py.detach(|| {
            let resolved = self.project.service(&name, &self.helper)?;
            let shared = resolved.shared_service()?;
            Ok((resolved, shared))
        });
        match resolved {
            Ok((resolved, shared)) => Ok(Service::of_project(shared, resolved, changes)),
            Err(error) => Err(from_config(py, &error)),
        }
    }
}

/// What a program adds to the settings in a file, for a service and its dependencies.
pub(crate) struct Changes {
    /// The least time for which a service lingers.
    linger: Option<Duration>,
    /// Called with the name and the instance.
    on_ready: Option<Arc<Py<PyAny>>>,
}

impl Changes {
    /// Returns the function that changes the builder of each service, dependencies first.
    pub(crate) fn function(
        &self,
        resolved: &ResolvedService,
    ) -> impl Fn(SharedServiceBuilder) -> SharedServiceBuilder + use<> {
        let (least, on_ready) = (self.linger, self.on_ready.clone());
        let names = resolved.dependencies().chain([resolved.name()]);
        let names: Vec<String> = names.map(str::to_owned).collect();
        let lingers: Vec<Duration> = resolved.lingers().collect();
        let position = Cell::new(0);
        move |mut builder| {
            let at = position.replace(position.get() + 1);
            if let Some(least) = least {
                builder = builder.linger(least.max(lingers[at]));
            }
            if let Some(call) = &on_ready {
                let (call, name) = (Arc::clone(call), names[at].clone());
                builder = with_on_ready(builder, move |py, info| call.call1(py, (&name, info)));
            }
            builder
        }
    }
}
