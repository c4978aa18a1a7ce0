//! The class `Service`.

use std::path::PathBuf;
use std::sync::Arc;

use procref::SharedService;
use procref_config::ResolvedService;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments;
use crate::errors::{from_config, to_exception};
use crate::handle::{Handle, Reference};
use crate::project::Changes;
use crate::settings::{self, Interrupt};
use crate::status::Status;
use crate::wait::{Pending, wait, wait_within};

/// A service that many processes share.
#[pyclass(frozen, module = "procref")]
pub(crate) struct Service {
    shared: Arc<SharedService>,
    /// The service with its dependencies, if a file describes it.
    described: Option<Described>,
    interrupt: Interrupt,
}

struct Described {
    resolved: ResolvedService,
    changes: Changes,
}

#[pymethods]
impl Service {
    #[new]
    #[pyo3(
        signature = (name, start, **settings),
        text_signature = "(name, start, *, port=None, ready=None, env=None, cwd=None, log=None, \
                          stop_signal='SIGTERM', grace=10.0, linger=0.0, start_timeout=60.0, wait_timeout=None, \
                          fingerprint=None, mismatch='refuse', on_ready=None, health=None, project=None, runtime_dir=None)"
    )]
    fn new(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        start: &Bound<'_, PyAny>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let interrupt = Interrupt::default();
        let builder = settings::builder(name, start, settings, &interrupt)?;
        let built = py.detach(|| builder.build());
        let shared = Arc::new(built.map_err(|error| to_exception(py, &error))?);
        Ok(Self {
            shared,
            described: None,
            interrupt,
        })
    }

    /// The name of the service.
    #[getter]
    fn name(&self) -> &str {
        self.shared.name()
    }

    /// The runtime directory, as an absolute path. Processes that share it share services.
    #[getter]
    fn runtime_dir(&self) -> PathBuf {
        self.shared.runtime_dir().to_owned()
    }

    /// The name of the kernel object that counts the clients, as `ipcs -s` prints it.
    #[getter]
    fn kernel_object(&self) -> String {
        self.shared.kernel_object()
    }

    /// Take a reference to the service, and start the service if it does not run.
    fn acquire(&self, py: Python<'_>) -> PyResult<Handle> {
        let acquired = wait(py, self.begin_acquire())?;
        self.acquired(py, acquired)
    }

    /// Like `acquire`, for asyncio: `await` the result, or use it in `async with`.
    fn acquire_async<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let aio = slf.py().import("procref.aio")?;
        aio.call_method1("AsyncAcquire", (slf,))
    }

    /// Acquires on a thread, and calls `done(handle, error)` there.
    fn _start_acquire(slf: &Bound<'_, Self>, done: Py<PyAny>) -> PyResult<Pending> {
        let service = slf.clone().unbind();
        let acquired = slf.get().begin_acquire();
        Pending::start(acquired, done, move |py, acquired| {
            service.get().acquired(py, acquired)
        })
    }

    /// Take a reference if the service runs and is healthy. Return None otherwise. Never starts the service.
    fn try_join(&self, py: Python<'_>) -> PyResult<Option<Handle>> {
        let joined = wait(py, self.shared.try_join())?;
        let joined = joined.map(|handle| handle.map(Reference::One));
        match joined.map_err(Failure::Library).transpose() {
            Some(joined) => self.acquired(py, joined).map(Some),
            None => Ok(None),
        }
    }

    /// Return the status of the service. Changes nothing.
    fn status(&self, py: Python<'_>) -> PyResult<Status> {
        let status = py.detach(|| self.shared.status());
        status.map(Status).map_err(|error| to_exception(py, &error))
    }

    /// Stop the service if no process holds it. Return True if it ran.
    #[pyo3(signature = (*, force=false))]
    fn stop(&self, py: Python<'_>, force: bool) -> PyResult<bool> {
        let stopped = match force {
            true => wait(py, self.shared.force_stop())?,
            false => wait(py, self.shared.stop())?,
        };
        stopped.map_err(|error| to_exception(py, &error))
    }

    /// End a pin, so that the service stops after its last client. Return True if it was pinned.
    fn unpin(&self, py: Python<'_>) -> PyResult<bool> {
        wait(py, self.shared.unpin())?.map_err(|error| to_exception(py, &error))
    }

    /// Wait until the service has stopped. Return False if it has not within `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait_stopped(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let limit = timeout.map_or(Ok(None), arguments::timeout)?;
        match wait_within(py, limit, self.shared.wait_stopped())? {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(to_exception(py, &error)),
        }
    }

    fn __repr__(&self) -> String {
        let (name, dir) = (self.shared.name(), self.shared.runtime_dir());
        format!("<procref.Service {name:?} in {:?}>", dir.display())
    }
}

impl Service {
    pub(crate) fn of_project(
        shared: SharedService,
        resolved: ResolvedService,
        changes: Changes,
    ) -> Self {
        Self {
            shared: Arc::new(shared),
            described: Some(Described { resolved, changes }),
            interrupt: Interrupt::default(),
        }
    }

    fn begin_acquire(&self) -> impl Future<Output = Result<Reference, Failure>> + Send + 'static {
        let described = self.described.as_ref().map(|it| {
            let change = it.changes.function(&it.resolved);
            it.resolved.clone().acquire(change)
        });
        let shared = Arc::clone(&self.shared);
        async move {
            match described {
                Some(acquired) => {
                    let services = acquired.await.map_err(Failure::Config)?;
                    Ok(Reference::Services(services))
                }
                None => {
                    let handle = shared.acquire().await.map_err(Failure::Library)?;
                    Ok(Reference::One(handle))
                }
            }
        }
    }

    fn acquired(&self, py: Python<'_>, acquired: Result<Reference, Failure>) -> PyResult<Handle> {
        if let Some(interrupt) = self.interrupt.take(py) {
            py.detach(|| drop(acquired));
            return Err(interrupt);
        }
        match acquired {
            Ok(reference) => Ok(Handle::new(reference, &self.shared)),
            Err(Failure::Library(error)) => Err(to_exception(py, &error)),
            Err(Failure::Config(error)) => Err(from_config(py, &error)),
        }
    }
}

/// Why an acquire failed.
enum Failure {
    Library(procref::Error),
    Config(procref_config::Error),
}
