//! The errors of the library `procref` in terms of `procref.toml` and of the command line.
//!
//! The library's messages name methods and types. This module matches such errors by variant and fields, and writes
//! messages that name keys and options. All other messages are unchanged. A test of the command line searches the library for
//! messages with such names that this module does not know.

use std::fmt::{self, Display};

use procref::Error;

use crate::text::shown;

/// Displays an error of the library with the names of keys and options. Control characters in the service's name are escaped.
pub struct Message<'a>(pub &'a Error);

impl Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = InTerms(self.0).to_string();
        match service(self.0) {
            Some(name) if name.contains(char::is_control) => {
                let (written, escaped) = (format!("`{name}`"), format!("`{}`", shown(name)));
                f.write_str(&message.replace(&written, &escaped))
            }
            _ => f.write_str(&message),
        }
    }
}

struct InTerms<'a>(&'a Error);

impl Display for InTerms<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Error::InvalidSetting {
                service,
                setting,
                reason,
                ..
            } => write!(
                f,
                "service `{service}`: invalid `{}`: {reason}",
                key(setting)
            ),
            Error::NoStart { service, .. } => write!(
                f,
                "service `{service}` is not running or not healthy, and has no start command (describe it in \
                 procref.toml, or use `procref run` with `--start COMMAND`)"
            ),
            Error::OtherKind { service, pid, .. } => write!(
                f,
                "service `{service}` (pid {pid}) was started by the code of another program, and this command would use \
                 `start` (remove `start` to join the service, or use another name)"
            ),
            Error::Fingerprint {
                service,
                ours,
                theirs,
                pid,
                ..
            } => {
                let theirs = match theirs {
                    Some(theirs) => format!("with fingerprint {}", quoted(theirs)),
                    None => "without a fingerprint".to_owned(),
                };
                let ours = quoted(ours);
                write!(
                    f,
                    "service `{service}` (pid {pid}) runs {theirs}, and this client needs {ours} (use the same \
                     fingerprint, wait until all clients have released the service, or set `mismatch` or --mismatch: \
                     `join` uses the service anyway, `separate` runs another instance beside it)"
                )
            }
            Error::Callback {
                service,
                callback,
                source,
                ..
            } => {
                let source = Message(source);
                write!(
                    f,
                    "service `{service}`: {} failed: {source}",
                    step(callback)
                )
            }
            Error::CallbackPanicked {
                service,
                callback,
                message,
                ..
            } => write!(
                f,
                "service `{service}`: {} panicked: {message}",
                step(callback)
            ),
            Error::InvalidInstance {
                service,
                callback,
                pid,
                reason,
                ..
            } => {
                let step = step(callback);
                write!(
                    f,
                    "service `{service}`: {step} returned pid {pid}: {reason}"
                )
            }
            Error::Unhealthy { service, pid, .. } => write!(
                f,
                "service `{service}` (pid {pid}) was ready but not healthy, so it was stopped (set a `ready` that waits \
                 until the service is healthy)"
            ),
            Error::Timeout {
                service,
                operation,
                limit,
                holder,
                ..
            } if step(operation) != *operation => {
                let holder =
                    holder.map_or(String::new(), |pid| format!("; lock held by process {pid}"));
                let step = step(operation);
                write!(
                    f,
                    "service `{service}`: {step} took longer than {limit:?}{holder}"
                )
            }
            Error::Unstoppable {
                service,
                pid,
                reason,
                ..
            } => write!(
                f,
                "service `{service}`: could not stop pid {pid}: {reason} (no other instance starts beside it; stop it \
                 and try again)"
            ),
            Error::NoReference {
                service,
                operation,
                reason,
                ..
            } => write!(
                f,
                "service `{service}`: could not {operation}: {reason} (run the command again)"
            ),
            other => other.fmt(f),
        }
    }
}

/// Returns the name of the service that an error is about.
fn service(error: &Error) -> Option<&str> {
    match error {
        Error::InvalidSetting { service, .. }
        | Error::Kernel { service, .. }
        | Error::Foreign { service, .. }
        | Error::TooManyClients { service, .. }
        | Error::NoStart { service, .. }
        | Error::OtherKind { service, .. }
        | Error::Recursion { service, .. }
        | Error::StartsFailed { service, .. }
        | Error::Callback { service, .. }
        | Error::CallbackPanicked { service, .. }
        | Error::InvalidInstance { service, .. }
        | Error::Unhealthy { service, .. }
        | Error::Fingerprint { service, .. }
        | Error::Held { service, .. }
        | Error::Timeout { service, .. }
        | Error::Suspended { service, .. }
        | Error::Unstoppable { service, .. }
        | Error::Record { service, .. }
        | Error::NoReference { service, .. }
        | Error::Supervisor { service, .. }
        | Error::Exec { service, .. }
        | Error::Port { service, .. }
        | Error::Log { service, .. }
        | Error::Exited { service, .. }
        | Error::NotReady { service, .. }
        | Error::Notification { service, .. } => Some(service),
        _ => None,
    }
}

/// Returns the key of `procref.toml` for a setting of the library.
fn key(setting: &'static str) -> &'static str {
    match setting {
        "command" => "start",
        "current_dir" => "cwd",
        "stop_signal" => "stop-signal",
        "stop_timeout" => "grace",
        "start_timeout" => "start-timeout",
        "wait_timeout" => "wait-timeout",
        "on_health_check" => "health",
        other => other,
    }
}

/// Returns what a callback of the library does.
fn step(callback: &'static str) -> &'static str {
    match callback.trim_matches('`') {
        "on_first_acquire" | "command" => "the start",
        "on_recover" => "the recovery",
        "on_ready" => "the work after the start",
        "on_last_release" => "the stop",
        "on_health_check" => "the health check",
        _ => callback,
    }
}

/// Returns a text in quotes, on one line of limited length.
fn quoted(text: &str) -> String {
    const LENGTH: usize = 100;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Names from the library's interface.
    const WORDS: [&str; 14] = [
        "base_dir",
        "Mismatch",
        "Orphan",
        "on_first",
        "on_recover",
        "on_ready",
        "on_last",
        "on_health",
        "current_dir",
        "_timeout",
        "callback",
        "builder",
        "acquire",
        "`command`",
    ];

    #[test]
    fn error_escapes_a_line_break_in_the_name() {
        let start = || Error::NoStart {
            service: "a\nb".to_owned(),
        };
        let nested = Error::Callback {
            service: "a\nb".to_owned(),
            callback: "on_ready",
            source: Box::new(start()),
        };
        for error in [start(), nested] {
            let message = Message(&error).to_string();
            assert!(message.contains("service `a\\nb`"), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn errors_name_options_and_keys() {
        let service = || "s".to_owned();
        let settings = [
            "command",
            "current_dir",
            "stop_signal",
            "stop_timeout",
            "start_timeout",
            "wait_timeout",
            "ready",
            "on_health_check",
        ];
        let mut errors: Vec<Error> = settings
            .into_iter()
            .map(|setting| Error::InvalidSetting {
                service: service(),
                setting,
                reason: "the value is invalid".to_owned(),
            })
            .collect();
        errors.push(Error::NoStart { service: service() });
        errors.push(Error::OtherKind {
            service: service(),
            pid: 7,
            theirs: "callbacks",
            ours: "a command",
        });
        for theirs in [Some("one".to_owned()), None] {
            errors.push(Error::Fingerprint {
                service: service(),
                ours: "two".repeat(100),
                theirs,
                pid: 7,
            });
        }
        for callback in [
            "on_first_acquire",
            "on_recover",
            "on_ready",
            "on_last_release",
            "on_health_check",
        ] {
            errors.push(Error::Callback {
                service: service(),
                callback,
                source: Box::new(Error::NoStart { service: service() }),
            });
            errors.push(Error::CallbackPanicked {
                service: service(),
                callback,
                message: "no".to_owned(),
            });
            errors.push(Error::InvalidInstance {
                service: service(),
                callback,
                pid: 7,
                reason: "no".to_owned(),
            });
            errors.push(Error::Unhealthy {
                service: service(),
                callback,
                pid: 7,
            });
        }
        for operation in ["`on_first_acquire`", "`on_ready`", "waiting for it"] {
            errors.push(Error::Timeout {
                service: service(),
                operation,
                limit: Duration::from_secs(1),
                holder: Some(7),
                suspended: false,
            });
        }
        errors.push(Error::Unstoppable {
            service: service(),
            pid: 7,
            reason: "no".to_owned(),
        });
        errors.push(Error::NoReference {
            service: service(),
            operation: "pin",
            reason: "no",
        });
        for error in errors {
            let message = Message(&error).to_string();
            assert!(message.contains("service `s`"), "{message}");
            assert_eq!(super::service(&error), Some("s"), "{message}");
            for word in WORDS {
                assert!(!message.contains(word), "{word}: {message}");
            }
        }
    }
}
