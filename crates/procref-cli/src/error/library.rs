//! The library's errors in the words of the command line.
//!
//! The library speaks to programmers: of methods and types. Each of its errors that does is matched here by its variant
//! and fields, and told by options and keys. All others are told as they are. `tests/words.rs` looks for texts of the
//! library that have such words and are not known here.

use std::fmt::{self, Display};

use procref::Error;

/// An error of the library for people.
pub(super) struct InOwnWords<'a>(pub(super) &'a Error);

impl Display for InOwnWords<'_> {
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
                "service `{service}` is not running, or not healthy, and nothing tells how to start it: describe it \
                 in procref.toml, or use `procref run` with `--start COMMAND`"
            ),
            Error::OtherKind { service, pid, .. } => write!(
                f,
                "service `{service}` (pid {pid}) was started by a program with code of its own, and this command \
                 would start and stop it by `start`; leave that out to join it, or use another name"
            ),
            Error::Fingerprint {
                service,
                ours,
                theirs,
                pid,
                ..
            } => {
                let theirs = match theirs {
                    Some(theirs) => format!("with fingerprint {}", shortened(theirs)),
                    None => "without a fingerprint".to_owned(),
                };
                let ours = shortened(ours);
                write!(
                    f,
                    "service `{service}` runs as process {pid} {theirs}, and this client wants {ours}: use the \
                     same, wait until all clients have released it, or choose another `mismatch` (or --mismatch): \
                     `join` to use it anyway, `separate` to run another one beside it"
                )
            }
            Error::Callback {
                service,
                callback,
                source,
                ..
            } => {
                let source = InOwnWords(source);
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
                "service `{service}` (pid {pid}) was started but is not healthy, so it was stopped again; choose a \
                 `ready` that waits until it is"
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
                "service `{service}`: pid {pid} could not be stopped: {reason}; nothing will be started beside it, \
                 stop it by hand and try again"
            ),
            Error::NoReference {
                service,
                operation,
                reason,
                ..
            } => write!(
                f,
                "service `{service}`: could not {operation}: {reason}; run the command again"
            ),
            other => other.fmt(f),
        }
    }
}

/// The key of `procref.toml` for a setting of the library's.
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

/// What a callback of the library's does.
fn step(callback: &'static str) -> &'static str {
    match callback.trim_matches('`') {
        "on_first_acquire" | "command" => "its start",
        "on_recover" => "its recovery",
        "on_ready" => "what follows its start",
        "on_last_release" => "its stop",
        "on_health_check" => "its health check",
        _ => callback,
    }
}

/// A text of the user's in quotes, on one line of a bearable length.
fn shortened(text: &str) -> String {
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

    /// Words of the library's interface.
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
    fn errors_speak_of_options_and_keys() {
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
                reason: "it is wrong".to_owned(),
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
            let told = InOwnWords(&error).to_string();
            assert!(told.contains("service `s`"), "{told}");
            for word in WORDS {
                assert!(!told.contains(word), "{word}: {told}");
            }
        }
    }
}
