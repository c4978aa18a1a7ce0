//! References, and the values of their instances.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;
use std::slice;
use std::time::Duration;

use procref::{ServiceHandle, ServiceInfo, SharedService};
use procref_config::AcquiredServices;
use procref_config::environment::{self, Variables};
use procref_config::running::RunningService;
use procref_config::spec::ServiceSpec;

use crate::cancel::Cancel;
use crate::error::{Error, Failure, Status, guard, guard_or};
use crate::text::{self, to_c};
use crate::wait::{Waited, wait};

/// A reference to a running service. The service runs while any process holds one. `procref_acquire` makes a handle, and
/// `procref_release` releases it.
///
/// A handle describes the instance at the time when it was acquired.
pub struct Handle {
    /// `None` in a callback: the instance is not ready, and the reference belongs to the start.
    reference: Option<Reference>,
    pid: u32,
    port: u16,
    generation: u32,
    values: BTreeMap<String, CString>,
}

enum Reference {
    Service(ServiceHandle),
    /// The service with its dependencies.
    Project(AcquiredServices),
}

impl Reference {
    fn service(&self) -> &ServiceHandle {
        match self {
            Self::Service(handle) => handle,
            Self::Project(services) => services.handle(),
        }
    }

    fn release(self) -> Result<(), Failure> {
        match self {
            Self::Service(handle) => Ok(handle.release_blocking()?),
            Self::Project(services) => Ok(services.release_blocking()?),
        }
    }
}

impl Handle {
    pub(crate) fn of_program(
        spec: &ServiceSpec,
        service: &SharedService,
        handle: ServiceHandle,
    ) -> Self {
        let dir = service.runtime_dir();
        let running = RunningService::new(spec, dir, handle.info(), handle.definition());
        let variables = environment::of_clients(slice::from_ref(&running), Some(&running));
        Self::new(Reference::Service(handle), variables)
    }

    /// Returns the handle of a service whose dependencies this process does not hold. So it has no exports, which may
    /// refer to them.
    pub(crate) fn of_joined(running: Option<RunningService>, handle: ServiceHandle) -> Self {
        let own = running.map(|running| RunningService {
            export: Vec::new(),
            ..running
        });
        let variables = environment::of_clients(own.as_slice(), own.as_ref());
        Self::new(Reference::Service(handle), variables)
    }

    pub(crate) fn of_project(services: AcquiredServices) -> Self {
        let variables = services.env();
        Self::new(Reference::Project(services), variables)
    }

    /// Returns the handle that a callback gets.
    pub(crate) fn of_instance(info: &ServiceInfo) -> Self {
        let values = info.metadata();
        Self {
            reference: None,
            pid: info.pid(),
            port: info.port(),
            generation: 0,
            values: values
                .map(|(key, value)| (key.to_owned(), to_c(value)))
                .collect(),
        }
    }

    /// Returns the beginning of an error. It is empty if nothing has recorded the name of the service.
    fn place(&self) -> String {
        let name = self.values.get("PROCREF_NAME");
        name.map(|name| format!("service `{}`: ", name.to_string_lossy()))
            .unwrap_or_default()
    }

    fn new(reference: Reference, variables: Variables) -> Self {
        let service = reference.service();
        let mut handle = Self::of_instance(service.info());
        handle.generation = service.generation();
        let variables = variables.into_iter();
        let variables = variables.map(|(name, value)| (name, to_c(&value.to_string_lossy())));
        handle.values.extend(variables);
        handle.reference = Some(reference);
        handle
    }
}

/// Returns the time limit that a caller has passed in milliseconds, or `None` if it never expires.
pub(crate) fn limit_of(limit_ms: i64) -> Option<Duration> {
    u64::try_from(limit_ms).ok().map(Duration::from_millis)
}

/// Returns the pid of the service, or 0 if it has no local process.
#[unsafe(no_mangle)]
pub extern "C" fn procref_handle_pid(handle: Option<&Handle>) -> u32 {
    handle.map_or(0, |handle| handle.pid)
}

/// Returns the port of the service, or 0 if it has none.
#[unsafe(no_mangle)]
pub extern "C" fn procref_handle_port(handle: Option<&Handle>) -> u16 {
    handle.map_or(0, |handle| handle.port)
}

/// Returns the number of the instance. Starts and recoveries are counted from 1 while the service is in use. Returns 0 in
/// a callback.
#[unsafe(no_mangle)]
pub extern "C" fn procref_handle_generation(handle: Option<&Handle>) -> u32 {
    handle.map_or(0, |handle| handle.generation)
}

/// Returns a value of the instance, or NULL if it has no such value. The string is valid as long as the handle.
///
/// The values are the metadata of the instance and the variables that `procref run` gives to its client: `PROCREF_PORT`,
/// `PROCREF_DIR` and others, and the exports of the service. A callback has only the metadata. After `procref_try_join`, a
/// service of a `procref.toml` has no exports, because they may refer to dependencies.
#[unsafe(no_mangle)]
pub extern "C" fn procref_handle_get(handle: Option<&Handle>, key: *const c_char) -> *const c_char {
    guard_or(ptr::null(), || {
        // SAFETY: the header demands a string.
        let key = unsafe { text::required(key, "`key`") };
        let value = handle.zip(key.ok());
        let value = value.and_then(|(handle, key)| handle.values.get(key));
        value.map_or(ptr::null(), |value| value.as_ptr())
    })
}

/// Waits until the instance of a handle is dead. Returns `PROCREF_OK` if it is.
///
/// Fails with `PROCREF_TIMEOUT` after `limit_ms` milliseconds. So the limit 0 asks whether the instance is alive. A negative
/// limit never expires. `cancel` may be NULL. The handle stays a reference to the service. Release it, and acquire the service
/// again to use another instance.
#[unsafe(no_mangle)]
pub extern "C" fn procref_handle_wait_dead(
    handle: Option<&Handle>,
    limit_ms: i64,
    cancel: Option<&Cancel>,
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> Status {
    guard(error, || {
        let handle = handle.ok_or_else(|| Failure::null("`handle`"))?;
        let reference = handle.reference.as_ref();
        let reference = reference.ok_or_else(|| {
            Failure::invalid("the handle of a callback cannot wait for its instance")
        })?;
        let limit = limit_of(limit_ms);
        match wait(reference.service().wait_dead(), cancel, limit)? {
            Waited::Ready(dead) => Ok(dead?),
            Waited::Elapsed => Err(Failure::timeout(format!(
                "{}process {} is still alive after {:?}",
                handle.place(),
                handle.pid,
                limit.unwrap_or(Duration::MAX)
            ))),
        }
    })
}

/// Releases a reference and frees its handle, also if this function fails. Does nothing if the handle is NULL.
///
/// If it was the last reference of all processes, the service is stopped. This does not wait until the service has stopped:
/// use `procref_wait_stopped`. In a forked child, a handle of the parent is only freed.
#[unsafe(no_mangle)]
pub extern "C" fn procref_release(
    handle: Option<Box<Handle>>,
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> Status {
    guard(error, || match handle.and_then(|handle| handle.reference) {
        Some(reference) => reference.release(),
        None => Ok(()),
    })
}
