//! What is known of an instance: from the kernel object, and from its record.

use std::collections::BTreeMap;

use super::platform::Platform;
use crate::info::ServiceInfo;
use crate::kernel::Instance;
use crate::key::ServiceKey;
use crate::process::Identity;

/// An instance as callbacks and clients are told of it.
pub(crate) async fn describe<W: Platform>(
    platform: &W,
    key: &ServiceKey,
    instance: &Instance,
) -> ServiceInfo {
    describe_whole(platform, key, instance).await.info
}

/// What is known of an instance.
pub(crate) struct Description {
    pub(crate) info: ServiceInfo,
    pub(crate) fingerprint: Option<String>,
    pub(crate) definition: BTreeMap<String, String>,
}

/// An instance, and what its record says of it.
pub(crate) async fn describe_whole<W: Platform>(
    platform: &W,
    key: &ServiceKey,
    instance: &Instance,
) -> Description {
    let Identity { pid, start } = instance.identity;
    let info = ServiceInfo::new(pid, instance.port).identified(start);
    let alone = |info| Description {
        info,
        fingerprint: None,
        definition: BTreeMap::new(),
    };
    if !instance.has_metadata {
        return alone(info);
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
            tracing::warn!(service, pid, "the record is gone, and what it told with it");
            alone(info)
        }
    }
}
