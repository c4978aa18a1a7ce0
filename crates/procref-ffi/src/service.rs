//! Services.

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procref::SharedService;
use procref_config::spec::ServiceSpec;

use crate::cancel::Cancel;
use crate::definition::Definition;
use crate::error::{Error, Failure, Status, guard, guard_or, try_guard};
use crate::handle::{Handle, limit_of};
use crate::json;
use crate::on_ready::{OnReady, UserData};
use crate::settings;
use crate::text;
use crate::wait::{Waited, wait};

/// The description of a background service that processes share. `procref_service_new` makes one.
///
/// All clients of a service use the same name and the same runtime directory. A service runs nothing before
/// `procref_acquire`. Handles stay valid when the service object that they came from is freed.
pub struct Service {
    state: Mutex<State>,
}

struct State {
    definition: Definition,
    on_ready: Option<Arc<OnReady>>,
    /// Set at the first use. From then on, the settings cannot be changed.
    built: Option<Arc<Built>>,
}

/// A service that cannot be changed any more.
struct Built {
    definition: Definition,
    on_ready: Option<Arc<OnReady>>,
    service: SharedService,
}

impl Service {
    fn new(definition: Definition) -> Self {
        Self {
            state: Mutex::new(State {
                definition,
                on_ready: None,
                built: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment, so a panic leaves no half of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unused(&self) -> Result<MutexGuard<'_, State>, Failure> {
        let state = self.lock();
        if state.built.is_some() {
            return Err(Failure::invalid(format!(
                "service `{}`: settings must be set before the first use of the service object",
                state.definition.name()
            )));
        }
        Ok(state)
    }

    fn built(&self) -> Result<Arc<Built>, Failure> {
        let mut state = self.lock();
        if let Some(built) = &state.built {
            return Ok(Arc::clone(built));
        }
        let built = Arc::new(Built {
            service: state.definition.build(state.on_ready.as_ref())?,
            definition: state.definition.clone(),
            on_ready: state.on_ready.clone(),
        });
        state.built = Some(Arc::clone(&built));
        Ok(built)
    }
}

fn given<'a, T>(object: Option<&'a T>, what: &str) -> Result<&'a T, Failure> {
    object.ok_or_else(|| Failure::null(what))
}

/// Makes a service. Returns NULL if that fails. `procref_service_free` frees the service.
///
/// `argv` is the program that procref executes as the service, with its arguments, and ends with NULL. No shell reads it.
/// The program must stay in the foreground. "{port}" in an argument is replaced by a free port, which the service must
/// listen on, and "{dir}" by the runtime directory. If `argv` is NULL, the service can only be joined.
///
/// Any text up to 255 bytes that is not empty is a name. A name that a service cannot have is reported at the first use.
#[unsafe(no_mangle)]
pub extern "C" fn procref_service_new(
    name: *const c_char,
    argv: *const *const c_char,
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> Option<Box<Service>> {
    try_guard(error, || {
        // SAFETY: the header demands a string.
        let name = unsafe { text::required(name, "`name`") }?;
        let mut spec = ServiceSpec::named(name);
        if !argv.is_null() {
            // SAFETY: the header demands strings and a final NULL.
            let words = unsafe { text::list(argv, "a string of `argv`") }?;
            if words.is_empty() {
                return Err(Failure::invalid("`argv` names no program"));
            }
            spec.start = Some(words.into_iter().map(Into::into).collect());
        }
        Ok(Box::new(Service::new(Definition::Program(Box::new(spec)))))
    })
    .ok()
}

/// Makes a service that a `procref.toml` describes. Returns NULL if that fails. `procref_service_free` frees the service.
///
/// `file` is the path of the file. If it is NULL, the file is found as the command line finds it: in the working directory or
/// above it, and then the user's file. `procref_acquire` also acquires the dependencies of the service.
///
/// A service with the keys `data`, `depends-on` or `user` needs the program `procref` of the same version. The
/// variable `PROCREF_BINARY` names it. Without this variable, it is searched in `PATH`.
#[unsafe(no_mangle)]
pub extern "C" fn procref_project_service(
    file: *const c_char,
    name: *const c_char,
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> Option<Box<Service>> {
    try_guard(error, || {
        let file = match file.is_null() {
            true => None,
            // SAFETY: the header demands a string.
            false => Some(Path::new(unsafe { text::required(file, "`file`") }?)),
        };
        // SAFETY: the header demands a string.
        let name = unsafe { text::required(name, "`name`") }?;
        Ok(Box::new(Service::new(Definition::of_project(file, name)?)))
    })
    .ok()
}

/// Changes a setting of a service that was not used yet.
///
/// Keys and values are those of `procref.toml`, with every value as a string: "port", "ready", "health",
/// "health-timeout", "cwd", "stop-signal", "grace", "linger", "start-timeout", "wait-timeout", "log", "fingerprint" and
/// "mismatch". "env.NAME" is a variable of the service's environment, and "export.NAME" a variable for its clients. Two
/// more keys are not in a file: "runtime-dir", and "project", the directory of a project that the service belongs to.
#[unsafe(no_mangle)]
pub extern "C" fn procref_service_set(
    service: Option<&Service>,
    key: *const c_char,
    value: *const c_char,
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> Status {
    guard(error, || {
        let service = given(service, "`service`")?;
        // SAFETY: the header demands a string.
        let key = unsafe { text::required(key, "`key`") }?;
        // SAFETY: the header demands a string.
        let value = unsafe { text::required(value, "`value`") }?;
        match &mut service.unused()?.definition {
            Definition::Program(spec) => settings::set(spec, key, value),
            Definition::Project(service) => Err(Failure::invalid(format!(
                "service `{}`: could not set `{key}`: procref.toml describes the service (change the file)",
                service.name()
            ))),
        }
    })
}

/// Sets a function that prepares a new instance before any client may use it, such as migrations of a database.
///
/// procref calls it once per instance, in the process that has started the instance, on the thread that acquires. All other
/// clients wait. A result other than 0 stops the instance, and the start fails with `PROCREF_START`. `handle` gives the
/// pid, port and values of the instance, and is valid during the call. The callback must not acquire the service. It must
/// not jump past its caller. An exception of C++ that leaves it ends the process.
///
/// procref passes `data` to the callback, and to `free_data` after the last call: when the service is freed and no handle
/// uses it, or now if this function fails. `free_data` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn procref_service_on_ready(
    service: Option<&Service>,
    on_ready: Option<unsafe extern "C-unwind" fn(handle: &Handle, data: *mut c_void) -> c_int>,
    data: *mut c_void,
    free_data: Option<unsafe extern "C-unwind" fn(data: *mut c_void)>,
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> Status {
    guard(error, || {
        // From here on, `free_data` is called in any case.
        let data = UserData::new(data, free_data);
        let callback = on_ready.ok_or_else(|| Failure::null("`on_ready`"))?;
        let on_ready = Arc::new(OnReady { callback, data });
        given(service, "`service`")?.unused()?.on_ready = Some(on_ready);
        Ok(())
    })
}

/// Frees a service. Its handles stay valid. Does nothing if it is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn procref_service_free(service: Option<Box<Service>>) {
    guard_or((), || drop(service));
}

/// Takes a reference to a service, and starts the service if it does not run.
///
/// Returns when the service is alive, ready and healthy. While another process starts the service, this call sleeps in the
/// kernel. If that process fails or dies, this call takes over. On success, `*handle` is a handle that
/// `procref_release` releases, and NULL otherwise.
///
/// `cancel` may be NULL. A cancelled call leaves nothing behind: a service that it was starting is stopped.
#[unsafe(no_mangle)]
pub extern "C" fn procref_acquire(
    service: Option<&Service>,
    cancel: Option<&Cancel>,
    handle: Option<&mut MaybeUninit<Option<Box<Handle>>>>,
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> Status {
    guard(error, || {
        let out = handle.ok_or_else(|| Failure::null("`handle`"))?;
        out.write(None);
        let Built {
            definition,
            on_ready,
            service,
        } = &*given(service, "`service`")?.built()?;
        let acquired = match cancel {
            None => definition.acquire_blocking(service, on_ready.as_ref())?,
            Some(_) => {
                let acquired = definition.acquire(service, on_ready.as_ref());
                wait(acquired, cancel, None)?.value()??
            }
        };
        out.write(Some(Box::new(acquired)));
        Ok(())
    })
}

/// Takes a reference if the service runs and is healthy. Never starts the service, and never waits for a start or stop.
///
/// Returns `PROCREF_OK` and sets `*handle` to NULL if the service does not run.
#[unsafe(no_mangle)]
pub extern "C" fn procref_try_join(
    service: Option<&Service>,
    handle: Option<&mut MaybeUninit<Option<Box<Handle>>>>,
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> Status {
    guard(error, || {
        let out = handle.ok_or_else(|| Failure::null("`handle`"))?;
        out.write(None);
        let built = given(service, "`service`")?.built()?;
        let joined = wait(built.service.try_join(), None, None)?.value()??;
        if let Some(joined) = joined {
            let handle = built.definition.joined(&built.service, joined)?;
            out.write(Some(Box::new(handle)));
        }
        Ok(())
    })
}

/// Stops a service. Returns when it has stopped, or when it did not run.
///
/// If clients hold the service, this fails with `PROCREF_HELD`, unless `force` is true. The handles of the clients then
/// stay valid, and the next `procref_acquire` starts the service again.
#[unsafe(no_mangle)]
pub extern "C" fn procref_stop(
    service: Option<&Service>,
    force: bool,
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> Status {
    guard(error, || {
        let Built { service, .. } = &*given(service, "`service`")?.built()?;
        match force {
            true => service.force_stop_blocking()?,
            false => service.stop_blocking()?,
        };
        Ok(())
    })
}

/// Waits until a service has stopped and nothing is left of it. The release of the last handle does not wait for that.
///
/// Fails with `PROCREF_TIMEOUT` after `limit_ms` milliseconds. A negative limit never expires. `cancel` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn procref_wait_stopped(
    service: Option<&Service>,
    limit_ms: i64,
    cancel: Option<&Cancel>,
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> Status {
    guard(error, || {
        let Built { service, .. } = &*given(service, "`service`")?.built()?;
        let limit = limit_of(limit_ms);
        match wait(service.wait_stopped(), cancel, limit)? {
            Waited::Ready(stopped) => Ok(stopped?),
            Waited::Elapsed => Err(Failure::timeout(format!(
                "service `{}`: not stopped within {:?}",
                service.name(),
                limit.unwrap_or(Duration::MAX)
            ))),
        }
    })
}

/// Returns the status of a service as a JSON object, with keys of `procref status --json`: the state, the instance, and the
/// processes that hold the service. Changes nothing. Returns NULL if that fails. `procref_string_free` frees the string.
#[unsafe(no_mangle)]
pub extern "C" fn procref_status_json(
    service: Option<&Service>,
    error: Option<&mut MaybeUninit<Option<Box<Error>>>>,
) -> *mut c_char {
    let json = try_guard(error, || {
        let json = json::status(&given(service, "`service`")?.built()?.service)?;
        Ok(text::to_c(&json).into_raw())
    });
    json.unwrap_or(ptr::null_mut())
}
