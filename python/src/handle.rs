//! The class `Handle`.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::future::poll_fn;
use std::pin::pin;
use std::process;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Instant;

use procref::{ServiceHandle, ServiceInfo, SharedService, State};
use procref_config::AcquiredServices;
use procref_config::environment::{self, Variables};
use procref_config::running::RunningService;
use procref_config::spec::ServiceSpec;
use pyo3::exceptions::PyResourceWarning;
use pyo3::prelude::*;

use crate::arguments;
use crate::errors::{from_config, plain, to_exception};
use crate::info::Info;
use crate::interpreter;
use crate::wait::{CHECK, Pending, wait, wait_within};

/// What a handle holds.
pub(crate) enum Reference {
    One(ServiceHandle),
    /// A service with its dependencies.
    Services(AcquiredServices),
}

impl Reference {
    fn handle(&self) -> &ServiceHandle {
        match self {
            Self::One(handle) => handle,
            Self::Services(services) => services.handle(),
        }
    }

    fn env(&self, shared: &SharedService) -> Variables {
        match self {
            Self::Services(services) => services.env(),
            Self::One(handle) => {
                let spec = ServiceSpec::named(shared.name());
                let dir = shared.runtime_dir();
                let running = RunningService::new(&spec, dir, handle.info(), handle.definition());
                environment::of_clients(slice::from_ref(&running), Some(&running))
            }
        }
    }

    /// Releases the reference. The supervisor of a command stops it, so this does not wait for the stop.
    async fn release(self) -> procref_config::Result<()> {
        match self {
            Self::One(handle) => Ok(handle.release().await?),
            Self::Services(services) => services.release().await,
        }
    }
}

/// A reference to a running service. The service runs while any process holds one.
#[pyclass(frozen, module = "procref")]
pub(crate) struct Handle {
    shared: Arc<SharedService>,
    /// `None` after the release.
    held: Mutex<Option<Arc<Reference>>>,
    info: ServiceInfo,
    generation: u32,
    env: Variables,
    /// The process that acquired it. A forked child owns no handle of its parent.
    owner: u32,
}

#[pymethods]
impl Handle {
    /// The instance at the time of the acquire.
    #[getter]
    fn info(&self) -> Info {
        Info(self.info.clone())
    }

    /// The process id of the service.
    #[getter]
    fn pid(&self) -> u32 {
        self.info.pid()
    }

    /// The port of the service, or 0 if it has none.
    #[getter]
    fn port(&self) -> u16 {
        self.info.port()
    }

    /// The number of the instance. It counts up from 1 while the service is in use.
    #[getter]
    fn generation(&self) -> u32 {
        self.generation
    }

    /// The variables that the command line passes to a client. Nothing sets them in `os.environ`.
    #[getter]
    fn env(&self) -> BTreeMap<&str, &OsString> {
        let env = self.env.iter();
        env.map(|(name, value)| (name.as_str(), value)).collect()
    }

    /// True after `release`.
    #[getter]
    fn released(&self) -> bool {
        self.lock().is_none()
    }

    /// Release the reference. If it was the last one, wait until the service has stopped.
    ///
    /// Does nothing if the handle was released before, and in a forked child.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let released = wait(py, self.begin_release())?;
        released.map_err(|error| from_config(py, &error))
    }

    /// Like `release`, for asyncio.
    fn release_async<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let aio = slf.py().import("procref.aio")?;
        aio.call_method1("_release", (slf,))
    }

    /// Releases on a thread, and calls `done(None, error)` there.
    fn _start_release(&self, done: Py<PyAny>) -> PyResult<Pending> {
        Pending::start(self.begin_release(), done, |py, released| {
            released.map_err(|error| from_config(py, &error))
        })
    }

    /// Return the instance that serves now, or None if it is dead and not replaced yet.
    fn current(&self, py: Python<'_>) -> PyResult<Option<Info>> {
        let held = self.held(py)?;
        let current = py.detach(move || held.handle().current());
        match current {
            Ok(current) => Ok(current.map(Info)),
            Err(error) => Err(to_exception(py, &error)),
        }
    }

    /// Wait until the instance of this handle is dead. Return False if it lives after `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait_dead(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let limit = timeout.map_or(Ok(None), arguments::timeout)?;
        let held = self.held(py)?;
        match wait_within(py, limit, async move { held.handle().wait_dead().await })? {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(to_exception(py, &error)),
        }
    }

    /// Keep the service after its last client, until `Service.unpin`.
    fn pin(&self, py: Python<'_>) -> PyResult<()> {
        let held = self.held(py)?;
        let pinned = py.detach(move || held.handle().pin());
        pinned.map_err(|error| to_exception(py, &error))
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.release(py)
    }

    fn __repr__(&self) -> String {
        let (name, pid, port) = (self.shared.name(), self.info.pid(), self.info.port());
        let released = if self.released() { ", released" } else { "" };
        format!("<procref.Handle {name:?}, pid={pid}, port={port}{released}>")
    }
}

impl Handle {
    pub(crate) fn new(reference: Reference, shared: &Arc<SharedService>) -> Self {
        let handle = reference.handle();
        Self {
            shared: Arc::clone(shared),
            info: handle.info().clone(),
            generation: handle.generation(),
            env: reference.env(shared),
            held: Mutex::new(Some(Arc::new(reference))),
            owner: process::id(),
        }
    }

    /// Takes the library's handle, and returns the future that releases it.
    fn begin_release(&self) -> impl Future<Output = procref_config::Result<()>> + Send + 'static {
        let held = self.lock().take();
        let shared = Arc::clone(&self.shared);
        let is_ours = self.owner == process::id();
        async move {
            match held {
                Some(held) if is_ours => release(held, &shared).await,
                _ => Ok(()),
            }
        }
    }

    /// Call this while the thread is attached, and do not keep the guard.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Reference>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the library's handle. Another thread may release this one while the caller waits. The reference then
    /// ends when the caller's wait does.
    fn held(&self, py: Python<'_>) -> PyResult<Arc<Reference>> {
        let held = self.lock().clone();
        held.ok_or_else(|| {
            let name = self.shared.name();
            plain(py, &format!("service `{name}`: the handle was released"))
        })
    }
}

impl Drop for Handle {
    /// Warns if the handle was not released, as a file does, and releases it without waiting.
    fn drop(&mut self) {
        let held = self
            .held
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(held) = held else {
            return;
        };
        if self.owner == process::id() && !interpreter::is_exiting() {
            Python::try_attach(|py| self.warn(py));
        }
        // The supervisor of a command stops it, so this does not wait.
        drop(held);
    }
}

impl Handle {
    /// Emits the warning of a handle that is collected while it is held.
    fn warn(&self, py: Python<'_>) {
        // The handle may be collected while an exception is raised.
        let raised = PyErr::take(py);
        let text = format!("unreleased {}", self.description());
        let warned = CString::new(text).map_err(PyErr::from);
        let category = py.get_type::<PyResourceWarning>();
        if let Err(error) = warned.and_then(|text| PyErr::warn(py, &category, &text, 1)) {
            error.write_unraisable(py, None);
        }
        if let Some(raised) = raised {
            raised.restore(py);
        }
    }

    fn description(&self) -> String {
        let (name, pid) = (self.shared.name(), self.info.pid());
        format!("<procref.Handle {name:?}, pid={pid}>")
    }
}

/// Releases a reference. If it was the last one, waits until the service has stopped.
async fn release(held: Arc<Reference>, shared: &SharedService) -> procref_config::Result<()> {
    // Otherwise a thread waits with this handle. The reference ends when that thread's wait does.
    if let Ok(reference) = Arc::try_unwrap(held) {
        reference.release().await?;
    }
    if !is_stopping(shared)? {
        return Ok(());
    }
    let mut stopped = pin!(shared.wait_stopped());
    let mut checked = Instant::now();
    poll_fn(|context| {
        let polled = stopped.as_mut().poll(context);
        if polled.is_ready() || checked.elapsed() < CHECK {
            return polled;
        }
        // Another process may have acquired the service before it was stopped. This call must not wait for that process.
        checked = Instant::now();
        match is_stopping(shared) {
            Ok(true) => Poll::Pending,
            other => Poll::Ready(other.map(drop)),
        }
    })
    .await?;
    Ok(())
}

/// Returns `true` if no process holds the service, and its supervisor stops it now.
fn is_stopping(shared: &SharedService) -> procref::Result<bool> {
    if shared.count()? > 0 {
        return Ok(false);
    }
    let status = shared.status()?;
    let is_kept = status.clients() > 0 || status.is_pinned() || !status.linger().is_zero();
    Ok(!is_kept && status.state() != State::Absent)
}
