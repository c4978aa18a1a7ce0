//! Checks the settings of a command without starting the service.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use regex_lite::Regex;

use super::{Health, ServiceCommand};
use crate::error::{Error, Result};
use crate::ready::Kind;
use crate::template;

impl ServiceCommand {
    /// Checks the command at `build`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] with the method's name, or `command` for the program and its arguments.
    pub(crate) fn check(&self, service: &str) -> Result<()> {
        let checked = self
            .check_platform()
            .and_then(|()| self.check_words())
            .and_then(|()| self.check_environment())
            .and_then(|()| self.check_log())
            .and_then(|()| self.check_probe("ready", &self.readiness()))
            .and_then(|()| self.check_health());
        checked.map_err(|(setting, reason)| Error::InvalidSetting {
            service: service.to_owned(),
            setting,
            reason,
        })
    }

    #[cfg(unix)]
    fn check_platform(&self) -> Result<(), (&'static str, String)> {
        Ok(())
    }

    #[cfg(windows)]
    fn check_platform(&self) -> Result<(), (&'static str, String)> {
        if self.socket_activation {
            let reason = "Windows cannot pass sockets (write `{port}` in the arguments instead)";
            return Err(("socket_activation", reason.to_owned()));
        }
        if let Kind::Notify = self.readiness() {
            let reason = "Windows has no notification socket (use a port, a line of the log, a named pipe or a \
                          command instead)";
            return Err(("ready", reason.to_owned()));
        }
        Ok(())
    }

    fn check_words(&self) -> Result<(), (&'static str, String)> {
        if self.program.is_empty() {
            return Err(("command", "the program is empty".to_owned()));
        }
        if any_has_nul(&self.program, &self.args) {
            return Err(("command", "an argument contains a NUL byte".to_owned()));
        }
        if self.port == Some(0) {
            let reason =
                "the port is 0 (omit it and write `{port}` in the arguments for a free one)";
            return Err(("port", reason.to_owned()));
        }
        match &self.current_dir {
            Some(dir) => check_path("current_dir", dir),
            None => Ok(()),
        }
    }

    fn check_environment(&self) -> Result<(), (&'static str, String)> {
        for (name, value) in &self.env {
            let reason = if name.is_empty() {
                "a name is empty".to_owned()
            } else if name.as_encoded_bytes().contains(&b'=') {
                format!("the name {name:?} contains a `=`")
            } else if has_nul(name) || value.as_deref().is_some_and(has_nul) {
                format!("{name:?} or its value contains a NUL byte")
            } else {
                continue;
            };
            return Err(("env", reason));
        }
        Ok(())
    }

    fn check_log(&self) -> Result<(), (&'static str, String)> {
        if self.log_limit == 0 {
            return Err(("log_limit", "the limit is 0".to_owned()));
        }
        let Some(log) = &self.log else {
            return Ok(());
        };
        check_path("log", log)?;
        if template::uses_port(log.as_os_str()) {
            let reason = "the path contains `{port}`, but is needed before the port is known";
            return Err(("log", reason.to_owned()));
        }
        Ok(())
    }

    fn check_health(&self) -> Result<(), (&'static str, String)> {
        let Some(kind) = self.health_kind() else {
            return Ok(());
        };
        if self.health_timeout.is_zero() {
            return Err(("health_timeout", "the time limit is 0".to_owned()));
        }
        if !kind.is_repeatable() {
            let reason = match self.health {
                Some(Health::AsReady) => {
                    "the readiness probe cannot be repeated (use tcp, http, unix or a command)"
                }
                _ => "the probe cannot be repeated (use tcp, http, unix or a command)",
            };
            return Err(("health", reason.to_owned()));
        }
        self.check_probe("health", &kind)
    }

    fn check_probe(
        &self,
        setting: &'static str,
        kind: &Kind,
    ) -> Result<(), (&'static str, String)> {
        let refused = |reason: &str| Err((setting, reason.to_owned()));
        match kind {
            Kind::Tcp | Kind::Http(_) if !self.may_have_port() => {
                return refused(
                    "the probe needs a port, and the service has none (set one, or write `{port}` in the \
                     arguments)",
                );
            }
            Kind::Http(path) if path.contains("://") && !path.starts_with('/') => {
                return refused(
                    "`http` takes only the path of a URL, because procref probes 127.0.0.1 and ::1 on the \
                     service's port",
                );
            }
            Kind::Http(path) if !path.starts_with('/') => {
                return refused("the path of `http` must begin with `/`");
            }
            Kind::Http(path) if !path.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return refused(
                    "the path of `http` contains a space, a control character or a character that is not ASCII \
                     (percent-encode it)",
                );
            }
            Kind::Unix(path) => return check_path(setting, path),
            Kind::Log(pattern) => {
                let expanded = template::expand_pattern(pattern, 1, Path::new("/"));
                return match Regex::new(&expanded) {
                    Ok(_) => Ok(()),
                    Err(error) => {
                        Err((setting, format!("regular expression `{pattern}`: {error}")))
                    }
                };
            }
            Kind::Command { program, .. } if program.is_empty() => {
                return refused("the program of the probe is empty");
            }
            Kind::Command { program, args } if any_has_nul(program, args) => {
                return refused("an argument of the probe contains a NUL byte");
            }
            _ => {}
        }
        Ok(())
    }
}

fn check_path(setting: &'static str, path: &Path) -> Result<(), (&'static str, String)> {
    if path.as_os_str().is_empty() {
        return Err((setting, "the path is empty".to_owned()));
    }
    if has_nul(path.as_os_str()) {
        return Err((setting, "the path contains a NUL byte".to_owned()));
    }
    Ok(())
}

fn any_has_nul(program: &OsStr, args: &[OsString]) -> bool {
    has_nul(program) || args.iter().any(|arg| has_nul(arg))
}

fn has_nul(word: &OsStr) -> bool {
    word.as_encoded_bytes().contains(&0)
}
