//! All that there is of the services of a namespace.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::kernel::{Kernel as _, Native};
use crate::key::ServiceKey;
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::record::files::{self, FileKind, RuntimeFile};

/// What there is of one service.
pub(crate) struct Known {
    pub(crate) key: ServiceKey,
    /// The key has the name, and not only its digest.
    pub(crate) named: bool,
    /// It has a kernel object.
    pub(crate) counted: bool,
    pub(crate) files: Vec<RuntimeFile>,
}

pub(crate) fn survey(namespace: &Namespace) -> Result<Vec<Known>> {
    let mut all = BTreeMap::new();
    let unnamed = |digest| Known {
        key: ServiceKey::unnamed(namespace.clone(), digest),
        named: false,
        counted: false,
        files: Vec::new(),
    };
    // Objects first: a service that is started meanwhile has an object before it has a record.
    for digest in Native.survey(namespace)? {
        let known = all.entry(digest.bits()).or_insert_with(|| unnamed(digest));
        known.counted = true;
    }
    for found in files::scan(namespace)? {
        let digest: Digest = found.digest;
        let known = all.entry(digest.bits()).or_insert_with(|| unnamed(digest));
        if let FileKind::Record(key) = &found.kind {
            known.key = key.clone();
            known.named = true;
        }
        known.files.push(found);
    }
    Ok(all.into_values().collect())
}
