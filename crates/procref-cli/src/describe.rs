//! Describes services and processes in texts for people.

use procref::{ServiceInfo, SharedService};

use crate::error::Error;

pub(crate) use procref_config::exited::{exit, exit_signal, last_line};

/// Returns the pid, if the service has a process on this machine.
pub(crate) fn pid(info: &ServiceInfo) -> Option<u32> {
    Some(info.pid()).filter(|&pid| pid != 0)
}

/// Returns the port, if the service has one.
pub(crate) fn port(info: &ServiceInfo) -> Option<u16> {
    Some(info.port()).filter(|&port| port != 0)
}

/// Returns an instance as one line: `pid 12, port 34`.
pub(crate) fn instance(info: &ServiceInfo) -> String {
    match (pid(info), port(info)) {
        (Some(pid), Some(port)) => format!("pid {pid}, port {port}"),
        (Some(pid), None) => format!("pid {pid}"),
        (None, Some(port)) => format!("no local process, port {port}"),
        (None, None) => "no local process".to_owned(),
    }
}

/// Returns the error for a service that exited while this process held it, with the last line of its log.
pub(crate) fn exited_error(service: &SharedService) -> Error {
    procref_config::exited::exited_error(service).into()
}

/// Returns the text that follows a pid if the process is suspended.
pub(crate) fn suspended(is_suspended: bool) -> &'static str {
    match is_suspended {
        true => " (suspended)",
        false => "",
    }
}
