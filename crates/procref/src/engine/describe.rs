//! Describes an instance by the kernel object and its record.

use std::collections::BTreeMap;

use super::platform::Platform;
use crate::info::ServiceInfo;
use crate::kernel::Instance;
use crate::key::ServiceKey;
use crate::process::Identity;

/// Returns an instance as callbacks and clients see it.
pub(crate) async fn describe<W: Platform>(
    platform: &W,
    key: &ServiceKey,
    instance: &Instance,
) -> ServiceInfo {
    let found = read(platform, key, instance).await;
    found.map_or_else(|| without_record(instance), |found| found.info)
}

/// An instance with the contents of its record.
pub(crate) struct Description {
    pub(crate) info: ServiceInfo,
    pub(crate) fingerprint: Option<String>,
    pub(crate) definition: BTreeMap<String, String>,
}

/// Returns an instance with the contents of its record, for a client that holds a reference to it.
pub(crate) async fn describe_whole<W: Platform>(
    platform: &W,
    key: &ServiceKey,
    instance: &Instance,
) -> Description {
    read(platform, key, instance).await.unwrap_or_else(|| {
        // An instance that serves has a record, and keeps it while it has a reference. Without a reference, the
        // instance may be starting, before its record is written, or may have ended since. So `describe` is silent.
        tracing::warn!(
            service = key.name(),
            pid = instance.identity.pid,
            "the record is missing, and the metadata with it"
        );
        Description {
            info: without_record(instance),
            fingerprint: None,
            definition: BTreeMap::new(),
        }
    })
}

/// Reads the record only if the instance has metadata. Returns `None` if the record is not the one of this instance.
async fn read<W: Platform>(
    platform: &W,
    key: &ServiceKey,
    instance: &Instance,
) -> Option<Description> {
    let info = without_record(instance);
    if !instance.has_metadata {
        return Some(Description {
            info,
            fingerprint: None,
            definition: BTreeMap::new(),
        });
    }
    let record = platform.read_record(key).await;
    let record = record.filter(|record| record.identity() == Some(instance.identity))?;
    let fingerprint = record.fingerprint().map(str::to_owned);
    let definition = record.definition().clone();
    Some(Description {
        info: info.with_metadata(record.into_metadata()),
        fingerprint,
        definition,
    })
}

fn without_record(instance: &Instance) -> ServiceInfo {
    let Identity { pid, start } = instance.identity;
    ServiceInfo::new(pid, instance.port).identified(start)
}
