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
    describe_whole(platform, key, instance).await.info
}

/// An instance with the contents of its record.
pub(crate) struct Description {
    pub(crate) info: ServiceInfo,
    pub(crate) fingerprint: Option<String>,
    pub(crate) definition: BTreeMap<String, String>,
}

/// Returns an instance with the contents of its record. Reads the record only if the instance has metadata.
pub(crate) async fn describe_whole<W: Platform>(
    platform: &W,
    key: &ServiceKey,
    instance: &Instance,
) -> Description {
    let Identity { pid, start } = instance.identity;
    let info = ServiceInfo::new(pid, instance.port).identified(start);
    let without_record = |info| Description {
        info,
        fingerprint: None,
        definition: BTreeMap::new(),
    };
    if !instance.has_metadata {
        return without_record(info);
    }
    let record = platform.read_record(key).await;
    match record.filter(|record| record.identity() == Some(instance.identity)) {
        Some(record) => {
            let fingerprint = record.fingerprint().map(str::to_owned);
            let definition = record.definition().clone();
            Description {
                info: info.with_metadata(record.into_metadata()),
                fingerprint,
                definition,
            }
        }
        None => {
            let service = key.name();
            tracing::warn!(
                service,
                pid,
                "the record is missing, and the metadata with it"
            );
            without_record(info)
        }
    }
}
