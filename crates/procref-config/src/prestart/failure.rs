//! The error that a client prints when a service's process fails before it executes the program.
//!
//! The library reports the exit of that process as the program's, but the program never ran. The process writes its
//! reason to the service's log, and the client reads it there.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use procref::Error::{Exited, NotReady};
use procref::LogTail;

use super::protocol::{NOT_EXECUTED, REASON, WAITING, is_begun, shown_words};
use crate::error::Error;
use crate::files::template;
use crate::spec::ServiceSpec;
use crate::text::shown;

/// Returns the error for the client. It is about the work before the program if that work failed, and otherwise about
/// the program by its name in the configuration.
pub fn about_program(spec: &ServiceSpec, mut error: Error) -> Error {
    if !spec.prestart.is_needed() {
        return error;
    }
    if let Some(before) = before_program(spec, &error) {
        return before;
    }
    let named = spec.start.iter().flatten().next();
    if let (Error::Service(Exited { program, .. } | NotReady { program, .. }), Some(word)) =
        (&mut error, named)
    {
        *program = template::shown(&word.to_string_lossy());
    }
    error
}

/// Returns `None` if the program was executed, according to the log and the note of `init`.
fn before_program(spec: &ServiceSpec, error: &Error) -> Option<Error> {
    let (failure, output) = match error {
        Error::Service(Exited { status, output, .. }) => (StartFailure::Exited(*status), output),
        Error::Service(NotReady { limit, output, .. }) => (StartFailure::NotReady(*limit), output),
        _ => return None,
    };
    let service = shown(&spec.name);
    let message = match (failure, last_line(output, REASON), waiting(output)) {
        (StartFailure::Exited(status), Some(reason), _) if is_not_executed(status) => {
            reason.to_owned()
        }
        (failure, _, Some(holder)) => format!(
            "service `{service}`: {} while waiting for {holder} (stop that process, or set another `data` for this service)",
            failure.text()
        ),
        (failure, ..) => {
            let init = spec.prestart.init.as_ref()?;
            let data = spec.prestart.data.as_ref()?;
            if !is_begun(Path::new(data)) {
                return None;
            }
            let words = init.iter().map(|word| word.to_string_lossy());
            format!(
                "service `{service}`: {} while `init` ran: `{}` (the next start empties {data} and runs `init` again)",
                failure.text(),
                shown_words(words)
            )
        }
    };
    Some(Error::BeforeProgram {
        message,
        late: matches!(failure, StartFailure::NotReady(_)),
        output: without_reason(output),
    })
}

/// The way in which a start failed.
#[derive(Clone, Copy)]
enum StartFailure {
    Exited(ExitStatus),
    NotReady(Duration),
}

impl StartFailure {
    fn text(self) -> String {
        match self {
            Self::Exited(status) => format!("process exited ({status})"),
            Self::NotReady(limit) => {
                format!("not ready within {}", humantime::format_duration(limit))
            }
        }
    }
}

/// Returns `true` if this is the status of a helper that did not execute the program.
fn is_not_executed(status: ExitStatus) -> bool {
    status.code() == Some(i32::from(NOT_EXECUTED))
}

/// Returns the rest of the last line that has this beginning.
fn last_line<'a>(output: &'a LogTail, beginning: &str) -> Option<&'a str> {
    let mut lines = output.lines.lines().rev();
    lines.find_map(|line| line.strip_prefix(beginning))
}

/// Returns the process that the service's process was waiting for when it was killed. The process writes
/// nothing after that line.
fn waiting(output: &LogTail) -> Option<&str> {
    output.lines.lines().next_back()?.strip_prefix(WAITING)
}

/// Returns the end of the log without the reason, which is already in the message.
fn without_reason(output: &LogTail) -> String {
    let lines = output.lines.lines();
    let lines: Vec<_> = lines.filter(|line| !line.starts_with(REASON)).collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("; last lines of {}:", output.log.display());
    for line in lines {
        text.push_str("\n    ");
        text.push_str(line);
    }
    text
}
