//! The status of a service as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use procref::{Holder, ServiceInfo, SharedService};
use serde::Serialize;

use crate::error::Failure;

/// A part of what `procref status --json` prints, with the same keys.
#[derive(Serialize)]
struct ServiceJson<'a> {
    name: &'a str,
    runtime_dir: &'a Path,
    kernel_object: String,
    state: String,
    generation: u32,
    pid: Option<u32>,
    port: Option<u16>,
    metadata: BTreeMap<&'a str, &'a str>,
    fingerprint: Option<&'a str>,
    log: Option<&'a Path>,
    uptime_ms: Option<u64>,
    clients: u32,
    holders: Vec<HolderJson<'a>>,
    unknown_holders: u32,
    pinned: bool,
    linger_ms: u64,
    linger_left_ms: Option<u64>,
    supervisor: Option<u32>,
    transition: Option<u32>,
}

#[derive(Serialize)]
struct HolderJson<'a> {
    pid: u32,
    command: Option<&'a str>,
    suspended: bool,
}

impl<'a> HolderJson<'a> {
    fn new(holder: &'a Holder) -> Self {
        Self {
            pid: holder.pid(),
            command: holder.command(),
            suspended: holder.is_suspended(),
        }
    }
}

pub(crate) fn status(service: &SharedService) -> Result<String, Failure> {
    let status = service.status()?;
    let instance = status.instance();
    let metadata = instance.into_iter().flat_map(ServiceInfo::metadata);
    let json = ServiceJson {
        name: service.name(),
        runtime_dir: service.runtime_dir(),
        kernel_object: service.kernel_object(),
        state: status.state().to_string(),
        generation: status.generation(),
        pid: instance.map(ServiceInfo::pid).filter(|&pid| pid != 0),
        port: instance.map(ServiceInfo::port).filter(|&port| port != 0),
        metadata: metadata.collect(),
        fingerprint: status.fingerprint(),
        log: status.log_path(),
        uptime_ms: status.uptime().map(milliseconds),
        clients: status.clients(),
        holders: status.holders().iter().map(HolderJson::new).collect(),
        unknown_holders: status.unknown_holders(),
        pinned: status.is_pinned(),
        linger_ms: milliseconds(status.linger()),
        linger_left_ms: status.linger_left().map(milliseconds),
        supervisor: status.supervisor(),
        transition: status.transition(),
    };
    // A path that is not UTF-8 has no form in JSON.
    serde_json::to_string(&json).map_err(|error| {
        let name = service.name();
        Failure::system(format!("service `{name}`: no JSON for its status: {error}"))
    })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
