//! What is told of a service, for programs. The fields are documented in `docs/cli.md`: none of them is
//! taken away or changes its meaning within a major version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use procref::{Holder, Listed, ServiceInfo, SharedService, Status};
use serde::Serialize;

use crate::acquire::last_line;
use crate::error::Error;
use crate::output::shown;
use crate::prestart::{self, Acquired};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

#[derive(Debug, Serialize)]
pub(crate) struct Service {
    /// `null`: its record is gone, and the kernel knows only a digest.
    name: Option<String>,
    runtime_dir: PathBuf,
    project: Option<PathBuf>,
    kernel_object: String,
    state: String,
    generation: u32,
    pid: Option<u32>,
    port: Option<u16>,
    metadata: BTreeMap<String, String>,
    fingerprint: Option<String>,
    command: Vec<String>,
    log: Option<PathBuf>,
    started_at: Option<String>,
    uptime_ms: Option<u64>,
    clients: u32,
    holders: Vec<Client>,
    unknown_holders: u32,
    pinned: bool,
    linger_ms: u64,
    linger_left_ms: Option<u64>,
    supervisor: Option<u32>,
    supervisor_suspended: bool,
    transition: Option<u32>,
    transition_suspended: bool,
    exit: Option<Exit>,
}

#[derive(Debug, Serialize)]
struct Client {
    pid: u32,
    command: Option<String>,
    process_started_at: String,
    suspended: bool,
}

#[derive(Debug, Serialize)]
struct Exit {
    code: Option<i32>,
    signal: Option<i32>,
}

impl Service {
    pub(crate) fn listed(listed: &Listed, dir: &Path, project: Option<&Path>) -> Self {
        let place = (dir, project);
        Self::new(
            listed.name(),
            place,
            listed.kernel_object(),
            listed.status(),
        )
    }

    pub(crate) fn new(
        name: Option<&str>,
        (dir, project): (&Path, Option<&Path>),
        kernel_object: &str,
        status: &Status,
    ) -> Self {
        let instance = status.instance();
        Self {
            name: name.map(str::to_owned),
            runtime_dir: dir.to_owned(),
            project: project.map(Path::to_owned),
            kernel_object: kernel_object.to_owned(),
            state: status.state().to_string(),
            generation: status.generation(),
            pid: instance.and_then(pid),
            port: instance.and_then(port),
            metadata: instance.map(metadata).unwrap_or_default(),
            fingerprint: status.fingerprint().map(str::to_owned),
            command: prestart::program_of(status.command_line()),
            log: status.log_path().map(Path::to_owned),
            started_at: status.started_at().map(moment),
            uptime_ms: status.uptime().map(milliseconds),
            clients: status.clients(),
            holders: status.holders().iter().map(Client::new).collect(),
            unknown_holders: status.unknown_holders(),
            pinned: status.is_pinned(),
            linger_ms: milliseconds(status.linger()),
            linger_left_ms: status.linger_left().map(milliseconds),
            supervisor: status.supervisor(),
            supervisor_suspended: status.is_supervisor_suspended(),
            transition: status.transition(),
            transition_suspended: status.is_transition_suspended(),
            exit: status.exit_status().map(Exit::new),
        }
    }
}

impl Client {
    fn new(holder: &Holder) -> Self {
        Self {
            pid: holder.pid(),
            command: holder.command().map(str::to_owned),
            process_started_at: moment(holder.since()),
            suspended: holder.is_suspended(),
        }
    }
}

impl Exit {
    fn new(status: ExitStatus) -> Self {
        Self {
            code: status.code(),
            signal: sys::signal(status),
        }
    }
}

/// An instance, for who has just got it.
#[derive(Debug, Serialize)]
pub(crate) struct Instance {
    name: String,
    runtime_dir: PathBuf,
    pid: Option<u32>,
    port: Option<u16>,
    metadata: BTreeMap<String, String>,
}

impl Instance {
    pub(crate) fn new(name: &str, dir: &Path, info: &ServiceInfo) -> Self {
        Self {
            name: name.to_owned(),
            runtime_dir: dir.to_owned(),
            pid: pid(info),
            port: port(info),
            metadata: metadata(info),
        }
    }

    pub(crate) fn acquired(service: &Acquired) -> Self {
        Self::new(&service.name, &service.dir, service.handle.info())
    }
}

fn pid(info: &ServiceInfo) -> Option<u32> {
    Some(info.pid()).filter(|&pid| pid != 0)
}

fn port(info: &ServiceInfo) -> Option<u16> {
    Some(info.port()).filter(|&port| port != 0)
}

fn metadata(info: &ServiceInfo) -> BTreeMap<String, String> {
    let pairs = info.metadata();
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// As RFC 3339 writes it, in UTC.
fn moment(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// An instance in a line, for people: `pid 12, port 34`.
pub(crate) fn line(info: &ServiceInfo) -> String {
    match (pid(info), port(info)) {
        (Some(pid), Some(port)) => format!("pid {pid}, port {port}"),
        (Some(pid), None) => format!("pid {pid}"),
        (None, Some(port)) => format!("no local process, port {port}"),
        (None, None) => "no local process".to_owned(),
    }
}

/// The error for a service that has ended while this process held it: how, and its last words.
pub(crate) fn death(service: &SharedService) -> Error {
    let status = match service.status() {
        Ok(status) => status,
        Err(error) => return error.into(),
    };
    let mut how = String::new();
    if let Some(status) = status.exit_status() {
        how = format!(": {}", ended(status));
    }
    if let Some(line) = status.log_path().and_then(last_line) {
        how.push_str(&format!("; the last line of its log: {line}"));
    }
    Error::Ended {
        service: shown(service.name()),
        how,
    }
}

/// What is said behind a process that is suspended.
pub(crate) fn suspended(is_suspended: bool) -> &'static str {
    match is_suspended {
        true => " (suspended)",
        false => "",
    }
}

/// How a program ended, as the predicate of a sentence.
pub(crate) fn ended(status: ExitStatus) -> String {
    match (status.code(), sys::signal(status)) {
        (Some(code), _) => format!("it exited with status {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}
