//! Status codes and error objects.

use std::any::Any;
use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use procref::Error as LibraryError;
use procref_config::{Error as ConfigError, Message};

use crate::text::to_c;

/// The result of a call.
///
/// Later versions may add values. Treat a value that you do not know as `PROCREF_SYSTEM`.
#[expect(
    clippy::enum_variant_names,
    reason = "constants of C share one namespace"
)]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The call succeeded.
    ProcrefOk = 0,
    /// An argument, a setting or the configuration file is not valid, or the object cannot be used in this way.
    ProcrefInvalid = 1,
    /// The service could not be started: its program failed, was not ready in time, or `on_ready` failed.
    ProcrefStart = 2,
    /// A time limit expired.
    ProcrefTimeout = 3,
    /// The service was not stopped, because clients hold it.
    ProcrefHeld = 4,
    /// The running instance has another fingerprint, or was started in another way.
    ProcrefMismatch = 5,
    /// `procref_cancel_now` was called.
    ProcrefCancelled = 6,
    /// The system refused an operation.
    ProcrefSystem = 7,
    /// procref has a bug. The message has details. Please report it.
    ProcrefPanic = 8,
}

/// The reason why a call failed. `procref_error_free` frees it.
pub struct Error {
    status: Status,
    message: CString,
}

/// The failure of an entry point, before it becomes an [`Error`].
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: Status::ProcrefInvalid,
            message: message.into(),
        }
    }

    pub(crate) fn null(what: &str) -> Self {
        Self::invalid(format!("{what} is NULL"))
    }

    pub(crate) fn system(message: String) -> Self {
        Self {
            status: Status::ProcrefSystem,
            message,
        }
    }

    pub(crate) fn cancelled() -> Self {
        Self {
            status: Status::ProcrefCancelled,
            message: "the call was cancelled".to_owned(),
        }
    }

    pub(crate) fn timeout(message: String) -> Self {
        Self {
            status: Status::ProcrefTimeout,
            message,
        }
    }

    fn panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self {
            status: Status::ProcrefPanic,
            message: format!(
                "procref panicked: {} (please report this)",
                text.unwrap_or("?")
            ),
        }
    }
}

impl From<LibraryError> for Failure {
    fn from(error: LibraryError) -> Self {
        Self {
            status: status_of(&error),
            // The library's own text names methods of Rust.
            message: Message(&error).to_string(),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self {
            status: status_of_config(&error),
            message: error.to_string(),
        }
    }
}

fn status_of_config(error: &ConfigError) -> Status {
    match error {
        ConfigError::Config(_) | ConfigError::UnknownService { .. } | ConfigError::Conflict(_) => {
            Status::ProcrefInvalid
        }
        ConfigError::Service(error) => status_of(error),
        ConfigError::BeforeProgram { .. } | ConfigError::Exited { .. } => Status::ProcrefStart,
        ConfigError::Advised { error, .. } | ConfigError::AfterFailures { error, .. } => {
            status_of_config(error)
        }
        _ => Status::ProcrefSystem,
    }
}

fn status_of(error: &LibraryError) -> Status {
    match error {
        LibraryError::InvalidName { .. }
        | LibraryError::InvalidSetting { .. }
        | LibraryError::RuntimeDir { .. }
        | LibraryError::Recursion { .. }
        | LibraryError::NoReference { .. }
        | LibraryError::NoStart { .. } => Status::ProcrefInvalid,
        LibraryError::Callback { .. }
        | LibraryError::CallbackPanicked { .. }
        | LibraryError::Exec { .. }
        | LibraryError::Exited { .. }
        | LibraryError::InvalidInstance { .. }
        | LibraryError::Log { .. }
        | LibraryError::NotReady { .. }
        | LibraryError::Port { .. }
        | LibraryError::Unhealthy { .. } => Status::ProcrefStart,
        LibraryError::Timeout { .. } => Status::ProcrefTimeout,
        LibraryError::Held { .. } => Status::ProcrefHeld,
        LibraryError::Fingerprint { .. } | LibraryError::OtherKind { .. } => {
            Status::ProcrefMismatch
        }
        LibraryError::StartsFailed { source, .. } => status_of(source),
        _ => Status::ProcrefSystem,
    }
}

/// Runs an entry point that returns a value. No panic may leave it, because the caller's frames cannot be unwound.
pub(crate) fn try_guard<T>(
    out: Option<&mut MaybeUninit<Option<Box<Error>>>>,
    body: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Status> {
    let result = catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|payload| Err(Failure::panic(&*payload)));
    let (result, error) = match result {
        Ok(value) => (Ok(value), None),
        Err(Failure { status, message }) => {
            let message = to_c(&message);
            (Err(status), Some(Box::new(Error { status, message })))
        }
    };
    if let Some(out) = out {
        out.write(error);
    }
    result
}

/// Runs an entry point that returns a status.
pub(crate) fn guard(
    out: Option<&mut MaybeUninit<Option<Box<Error>>>>,
    body: impl FnOnce() -> Result<(), Failure>,
) -> Status {
    match try_guard(out, body) {
        Ok(()) => Status::ProcrefOk,
        Err(status) => status,
    }
}

/// Runs an entry point that has no error, and returns `otherwise` if it panics.
pub(crate) fn guard_or<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// Returns the text of an error: what failed, on which service, the cause, and what to do. The text may have several
/// lines, because the end of the log of a service that did not start is part of it. It is valid as long as the error.
#[unsafe(no_mangle)]
pub extern "C" fn procref_error_message(error: Option<&Error>) -> *const c_char {
    error.map_or(ptr::null(), |error| error.message.as_ptr())
}

/// Returns the status of an error, which the failed call has returned, too.
#[unsafe(no_mangle)]
pub extern "C" fn procref_error_status(error: Option<&Error>) -> Status {
    error.map_or(Status::ProcrefOk, |error| error.status)
}

/// Frees an error. Does nothing if it is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn procref_error_free(error: Option<Box<Error>>) {
    guard_or((), || drop(error));
}
