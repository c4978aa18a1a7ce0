//! The JSON that commands print about services.
//!
//! `docs/cli.md` documents the fields. Within a major version, no field is removed and none changes its meaning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use procref::{Holder, ServiceInfo, Status};
use procref_config::environment::{self, Variables};
use procref_config::prestart::command_line;
use procref_config::running::RunningService;
use serde::Serialize;

use crate::acquire::AcquiredServices;
use crate::describe::{self, exit_signal, pid, port};
use crate::error::Result;
use crate::resolve::NamedService;

/// The status of a service.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceJson {
    /// `null` if the record is missing, because the kernel stores only a digest of the name.
    name: Option<String>,
    runtime_dir: PathBuf,
    project: Option<PathBuf>,
    described: bool,
    kernel_object: String,
    state: String,
    generation: u32,
    pid: Option<u32>,
    port: Option<u16>,
    metadata: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    fingerprint: Option<String>,
    command: Vec<String>,
    log: Option<PathBuf>,
    started_at: Option<String>,
    uptime_ms: Option<u64>,
    clients: u32,
    holders: Vec<HolderJson>,
    unknown_holders: u32,
    pinned: bool,
    linger_ms: u64,
    linger_left_ms: Option<u64>,
    supervisor: Option<u32>,
    supervisor_suspended: bool,
    transition: Option<u32>,
    transition_suspended: bool,
    exit: Option<ExitJson>,
}

#[derive(Debug, Serialize)]
struct HolderJson {
    pid: u32,
    command: Option<String>,
    process_started_at: String,
    suspended: bool,
}

#[derive(Debug, Serialize)]
struct ExitJson {
    code: Option<i32>,
    signal: Option<i32>,
}

impl ServiceJson {
    pub(crate) fn new(
        name: Option<&str>,
        (dir, project): (&Path, Option<&Path>),
        kernel_object: &str,
        status: &Status,
        variables: Variables,
    ) -> Self {
        let instance = status.instance();
        Self {
            name: name.map(str::to_owned),
            runtime_dir: dir.to_owned(),
            project: project.map(Path::to_owned),
            described: false,
            kernel_object: kernel_object.to_owned(),
            state: status.state().to_string(),
            generation: status.generation(),
            pid: instance.and_then(pid),
            port: instance.and_then(port),
            metadata: instance.map(metadata).unwrap_or_default(),
            env: environment::to_json(variables),
            fingerprint: status.fingerprint().map(str::to_owned),
            command: command_line::program_of(status.command_line()),
            log: status.log_path().map(Path::to_owned),
            started_at: status.started_at().map(moment),
            uptime_ms: status.uptime().map(milliseconds),
            clients: describe::clients(status),
            holders: describe::holders(status).map(HolderJson::new).collect(),
            unknown_holders: status.unknown_holders(),
            pinned: status.is_pinned(),
            linger_ms: milliseconds(status.linger()),
            linger_left_ms: status.linger_left().map(milliseconds),
            supervisor: status.supervisor(),
            supervisor_suspended: status.is_supervisor_suspended(),
            transition: status.transition(),
            transition_suspended: status.is_transition_suspended(),
            exit: status.exit_status().map(ExitJson::new),
        }
    }
    /// Sets whether a configuration file describes the service.
    pub(crate) fn described(mut self, described: bool) -> Self {
        self.described = described;
        self
    }
}

impl HolderJson {
    fn new(holder: &Holder) -> Self {
        Self {
            pid: holder.pid(),
            command: holder.command().map(str::to_owned),
            process_started_at: moment(holder.since()),
            suspended: holder.is_suspended(),
        }
    }
}

impl ExitJson {
    fn new(status: ExitStatus) -> Self {
        Self {
            code: status.code(),
            signal: exit_signal(status),
        }
    }
}

/// An instance that this process has acquired or waited for.
#[derive(Debug, Serialize)]
pub(crate) struct InstanceJson {
    name: String,
    runtime_dir: PathBuf,
    generation: u32,
    pid: Option<u32>,
    port: Option<u16>,
    metadata: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
}

impl InstanceJson {
    fn new(service: &RunningService, generation: u32, variables: Variables) -> Self {
        Self {
            name: service.name.clone(),
            runtime_dir: service.dir.clone(),
            generation,
            pid: pid(&service.info),
            port: port(&service.info),
            metadata: metadata(&service.info),
            env: environment::to_json(variables),
        }
    }

    pub(crate) fn acquired(services: &AcquiredServices) -> Self {
        let (service, _) = services.service();
        Self::new(service, services.generation(), services.variables())
    }

    /// Returns the instance of a service that was ready a moment ago.
    pub(crate) fn awaited(
        named: &NamedService<'_>,
        info: &ServiceInfo,
        variables: Variables,
    ) -> Result<Self> {
        let status = named.service.status()?;
        let dir = named.service.runtime_dir();
        let service = RunningService::new(&named.spec, dir, info, status.definition());
        Ok(Self::new(&service, status.generation(), variables))
    }
}

fn metadata(info: &ServiceInfo) -> BTreeMap<String, String> {
    let pairs = info.metadata();
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Returns a time in the format of RFC 3339, in UTC.
fn moment(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
