//! What a client is told if a service's process fails before it executes the service's program.
//!
//! The library reports the end of that process as the program's. But the program never ran. The process leaves
//! its reason in the service's log, where the client finds it.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use procref::Error::{Exited, NotReady};
use procref::LogTail;

use super::data;
use crate::config::template;
use crate::error::{CLIENT_NOT_RUN, Error};
use crate::output;
use crate::spec::ServiceSpec;

/// The exit code of a service's process whose program was not executed.
const NOT_EXECUTED: u8 = CLIENT_NOT_RUN;

/// How the reason for that begins in the log.
const REASON: &str = "procref: program not executed: ";

/// How the last line of the log begins while another process uses the data directory.
pub(super) const WAITING: &str = "procref: waiting for ";

/// Longest command line and longest `PATH` in a message, in characters. The client reads only the end of the log.
const SHOWN: usize = 300;
const SHOWN_PATH: usize = 1000;

/// Leaves the reason where the client finds it. The process must end with the code that this returns.
pub(super) fn report(error: &Error) -> ExitCode {
    log(&format!("{REASON}{error}"));
    ExitCode::from(NOT_EXECUTED)
}

/// Writes a line to the service's log, which is this process's standard error. In one piece: a reader must not see
/// a part of it, nor children of `init` write into it.
pub(super) fn log(line: &str) {
    // Without the log there is no reader.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Why a program was not executed.
pub(super) fn exec_reason(program: &OsStr, error: &io::Error) -> String {
    let named = program.to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound if !named.contains(std::path::is_separator) => {
            let search = shortened(&env::var("PATH").unwrap_or_default(), SHOWN_PATH);
            format!(
                "it was not found in the PATH of the service's environment ({search}); install it, name its \
                 path, or give its directory in `path`"
            )
        }
        io::ErrorKind::NotFound => {
            format!(
                "{error} (the program, or the interpreter that its first line names, is missing)"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("{error} (it must be a regular file that this user may execute)")
        }
        _ => error.to_string(),
    }
}

/// A command on one line of a bearable length.
pub(super) fn shown_command(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    shown_words(words.map(OsStr::to_string_lossy))
}

/// Words as a command on one line of a bearable length.
pub(super) fn shown_words<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    shortened(&output::shown(&shell_words::join(words)), SHOWN)
}

fn shortened(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The error for a client: about what comes before the program if that has failed, and otherwise about the
/// program as the configuration names it.
pub(crate) fn about_program(spec: &ServiceSpec, mut error: Error) -> Error {
    if !spec.setup.is_needed() {
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

/// `None` if the program was executed, as far as the log and the note of `init` tell.
fn before_program(spec: &ServiceSpec, error: &Error) -> Option<Error> {
    let (end, output) = match error {
        Error::Service(Exited { status, output, .. }) => (End::Exited(*status), output),
        Error::Service(NotReady { limit, output, .. }) => (End::Late(*limit), output),
        _ => return None,
    };
    let service = &spec.name;
    let message = match (end, last_line(output, REASON), waiting(output)) {
        (End::Exited(status), Some(reason), _) if is_not_executed(status) => reason.to_owned(),
        (end, _, Some(holder)) => {
            format!(
                "service {service:?}: {} while it waited for {holder} (stop that process, or give this service \
                 another `data`)",
                end.text()
            )
        }
        (end, ..) => {
            let init = spec.setup.init.as_ref()?;
            let data = spec.setup.data.as_ref()?;
            if !data::is_begun(Path::new(data)) {
                return None;
            }
            let words = init.iter().map(|word| word.to_string_lossy());
            format!(
                "service {service:?}: {} while `init` ran: `{}`; the next start removes what it has left in \
                 {data} and runs it again",
                end.text(),
                shown_words(words)
            )
        }
    };
    Some(Error::BeforeProgram {
        message,
        late: matches!(end, End::Late(_)),
        output: without_reason(output),
    })
}

/// How a start has failed.
#[derive(Clone, Copy)]
enum End {
    Exited(ExitStatus),
    Late(Duration),
}

impl End {
    fn text(self) -> String {
        match self {
            Self::Exited(status) => format!("its process ended ({status})"),
            Self::Late(limit) => {
                format!(
                    "it was not ready within {}",
                    humantime::format_duration(limit)
                )
            }
        }
    }
}

fn is_not_executed(status: ExitStatus) -> bool {
    status.code() == Some(i32::from(NOT_EXECUTED))
}

/// The rest of the last line that begins so.
fn last_line<'a>(output: &'a LogTail, beginning: &str) -> Option<&'a str> {
    let mut lines = output.lines.lines().rev();
    lines.find_map(|line| line.strip_prefix(beginning))
}

/// What the service's process was waiting for when it was ended. It writes nothing after that line.
fn waiting(output: &LogTail) -> Option<&str> {
    output.lines.lines().next_back()?.strip_prefix(WAITING)
}

/// The end of the log without the reason, which the message has.
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
