//! Describes services and processes in texts for people.

use procref::{Holder, ServiceInfo, SharedService, State, Status};

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

/// Returns the process that is stopping the service, if it holds a reference for that time.
///
/// Such a process takes its reference so that no leftover remains if all clients exit before the stop is done. It does not
/// use the service, so it is not a client.
fn stopping_process(status: &Status) -> Option<u32> {
    let pid = status.transition()?;
    let is_holder = status.holders().iter().any(|holder| holder.pid() == pid);
    (status.state() == State::Stopping && is_holder).then_some(pid)
}

/// Returns the number of clients.
pub(crate) fn clients(status: &Status) -> u32 {
    let stopping = u32::from(stopping_process(status).is_some());
    status.clients().saturating_sub(stopping)
}

/// Returns the clients that the kernel names.
pub(crate) fn holders(status: &Status) -> impl Iterator<Item = &Holder> {
    let stopping = stopping_process(status);
    let holders = status.holders().iter();
    holders.filter(move |holder| Some(holder.pid()) != stopping)
}

/// Returns the text that follows a pid if the process is suspended.
pub(crate) fn suspended(is_suspended: bool) -> &'static str {
    match is_suspended {
        true => " (suspended)",
        false => "",
    }
}
