//! The identity of this host.

use std::fs;
use std::path::Path;

use procref::Services;

use crate::error::{Error, Result};

/// The variable with the identity of this host in its clusters.
pub(crate) const IDENTITY: &str = "PROCREF_CLUSTER_HOST";

/// The value of `at` for a service that every host may run.
pub(crate) const ANYONE: &str = "anyone";

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the name of this host.
pub(crate) fn name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

/// Returns `true` if a service that is at `at` may run on this host: any host, a host with this name, or the one with this
/// identity in the cluster, if an option sets it.
pub(crate) fn may_run(at: &str, identity: Option<&str>) -> bool {
    at == ANYONE || at == name() || Some(at) == identity
}

/// Returns the text that all processes have in common which share services in this runtime directory, and no others in
/// the world.
///
/// The machine's identity alone is not enough. Copies of a virtual machine have the same one, and two users or two
/// containers of one machine do not share services. If two of them had one identity, the link of the one would treat
/// the running service of the other as the leftover of a dead link.
pub(crate) fn id(runtime_dir: &Path) -> Result<String> {
    let failed = |what: &str, cause: &dyn std::fmt::Display| {
        Error::new(format!(
            "identify this host by {what}: {cause} (set --host to a text that no other host has)"
        ))
    };
    let services = Services::in_dir(runtime_dir).and_then(|services| {
        services.create_dir()?;
        services.namespace_id()
    });
    let namespace = services.map_err(|cause| failed("its runtime directory", &cause))?;
    let boot = fs::read_to_string(BOOT_ID).map_err(|cause| failed(BOOT_ID, &cause))?;
    // Missing in many containers.
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let parts = [
        &name(),
        machine.trim(),
        &boot.trim().replace('-', ""),
        &namespace,
    ];
    Ok(parts.map(|part| part.to_owned()).join("-"))
}
