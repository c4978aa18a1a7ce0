//! Lists the kernel objects and files of all services of a namespace.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::kernel::{Kernel as _, Native};
use crate::key::ServiceKey;
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::record::files::{self, FileKind, RuntimeFile};

/// The kernel object and the files of one service.
pub(crate) struct Known {
    pub(crate) key: ServiceKey,
    /// `true` if the key has the name, and `false` if it has only the name's digest.
    pub(crate) named: bool,
    /// `true` if the service has a kernel object.
    pub(crate) counted: bool,
    pub(crate) files: Vec<RuntimeFile>,
}

/// Lists all services of a namespace that have a kernel object or a file.
pub(crate) fn survey(namespace: &Namespace) -> Result<Vec<Known>> {
    let mut all = BTreeMap::new();
    let unnamed = |digest| Known {
        key: ServiceKey::unnamed(namespace.clone(), digest),
        named: false,
        counted: false,
        files: Vec::new(),
    };
    // Objects are listed before files. In the other order, a service that starts between the two lists would
    // be listed without its record, and so without its name.
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
