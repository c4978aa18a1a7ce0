//! The record: one file per instance, with the data that does not fit in the kernel object.
//!
//! The record is a hint, and only the kernel object is authoritative. A record names its instance, including
//! the boot of the machine, and is ignored for every other instance. A file that is broken, too large,
//! foreign or missing is ignored, too.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::command::{self, StopPolicy};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::key::ServiceKey;
use crate::namespace;
use crate::namespace::Namespace;
use crate::process::Identity;

pub(crate) mod failures;
pub(crate) mod files;
#[cfg(all(target_os = "linux", feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

const VERSION: u32 = 2;

/// The size of the largest record that is written or read, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// The contents of the file, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    name: String,
    /// Digest of the namespace that the identity and the port belong to.
    namespace: String,
    /// Boot that the identity belongs to. The same start time exists in every boot.
    boot: String,
    pid: u32,
    start: u64,
    port: u16,
    /// Seconds since the Unix epoch, for people.
    started_at: u64,
    metadata: BTreeMap<String, String>,
    /// `true` if procref executed the service's program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Executed>,
    /// `true` if the process is a client itself. It is never signaled.
    #[serde(default)]
    hosted: bool,
    /// The identity that the starter gave the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// Settings that the starter shows to other clients.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    definition: BTreeMap<String, String>,
}

/// The part of a record that describes a program which procref executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Executed {
    /// Program and arguments, for people.
    pub(crate) line: Vec<String>,
    #[serde(with = "any_path")]
    pub(crate) log: PathBuf,
    pub(crate) stop_signal: String,
    pub(crate) grace_ms: u64,
}

/// A path in JSON: as text, or as the system's numbers if it is not valid Unicode.
mod any_path {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    use super::sys::{Unit, path_of, units_of};

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => text.serialize(to),
            None => units_of(path).serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Path {
            Text(PathBuf),
            Units(Vec<Unit>),
        }
        Ok(match Path::deserialize(from)? {
            Path::Text(path) => path,
            Path::Units(units) => path_of(units),
        })
    }
}

impl Record {
    pub(crate) fn new(key: &ServiceKey, identity: Identity, info: &ServiceInfo) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            version: VERSION,
            name: key.name().to_owned(),
            namespace: key.namespace.digest().to_string(),
            boot: sys::boot_id().to_owned(),
            pid: identity.pid,
            start: identity.start,
            port: info.port(),
            started_at: now.map_or(0, |now| now.as_secs()),
            metadata: info.metadata_map().clone(),
            command: None,
            hosted: false,
            fingerprint: None,
            definition: BTreeMap::new(),
        }
    }

    /// Returns the record with the port and the metadata of `info`.
    pub(crate) fn with_info(mut self, info: &ServiceInfo) -> Self {
        self.port = info.port();
        self.metadata.clone_from(info.metadata_map());
        self
    }

    pub(crate) fn executed(mut self, executed: Executed) -> Self {
        self.command = Some(executed);
        self
    }

    /// Returns the stop policy of the instance, if procref executed it.
    pub(crate) fn stop(&self) -> Option<StopPolicy> {
        let Executed {
            stop_signal,
            grace_ms,
            ..
        } = self.command.as_ref()?;
        Some(StopPolicy {
            signal: stop_signal.parse().unwrap_or_default(),
            grace: Duration::from_millis(*grace_ms),
        })
    }

    /// Returns the record of a service that clients hold and that has no instance. It names only the service:
    /// a record without a boot id has no identity.
    pub(crate) fn without_instance(self) -> Self {
        Self {
            boot: String::new(),
            pid: 0,
            start: 0,
            port: 0,
            metadata: BTreeMap::new(),
            command: None,
            hosted: false,
            ..self
        }
    }

    pub(crate) fn with_hosted(self, hosted: bool) -> Self {
        Self { hosted, ..self }
    }

    pub(crate) fn is_hosted(&self) -> bool {
        self.hosted
    }

    pub(crate) fn with_fingerprint(mut self, fingerprint: Option<String>) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    /// Returns `true` if the record was written for processes that have the view of this namespace.
    fn is_of(&self, namespace: &Namespace) -> bool {
        self.namespace == namespace.digest().to_string()
    }

    pub(crate) fn with_definition(mut self, definition: BTreeMap<String, String>) -> Self {
        self.definition = definition;
        self
    }

    pub(crate) fn definition(&self) -> &BTreeMap<String, String> {
        &self.definition
    }

    /// Returns the process that the record names, if it was started in this boot. A record without a boot id
    /// names no process.
    pub(crate) fn identity(&self) -> Option<Identity> {
        (!self.boot.is_empty() && self.boot == sys::boot_id()).then_some(Identity {
            pid: self.pid,
            start: self.start,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn has_metadata(&self) -> bool {
        !self.metadata.is_empty() || !self.definition.is_empty()
    }

    pub(crate) fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    pub(crate) fn into_executed(self) -> Option<Executed> {
        self.command
    }

    pub(crate) fn into_metadata(self) -> BTreeMap<String, String> {
        self.metadata
    }

    fn parse(bytes: &[u8], key: &ServiceKey) -> Result<Self, String> {
        let record = Self::decode(bytes).map_err(|error| match error {
            Undecodable::Broken(reason) => reason,
            Undecodable::Version(version) => format!("it has version {version}"),
        })?;
        if !record.is_of(&key.namespace) {
            return Err(format!("it belongs to namespace {:?}", record.namespace));
        }
        if record.name != key.name() {
            return Err(format!("it belongs to service {:?}", record.name));
        }
        Ok(record)
    }

    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let broken = |error: serde_json::Error| Undecodable::Broken(error.to_string());
        let Versioned { version } = serde_json::from_slice(bytes).map_err(broken)?;
        if version != VERSION {
            return Err(Undecodable::Version(version));
        }
        serde_json::from_slice(bytes).map_err(broken)
    }
}

/// The reason why bytes are not a record.
enum Undecodable {
    Broken(String),
    /// The record belongs to another version of this crate.
    Version(u32),
}

/// Returns the path of a service's record.
fn path(key: &ServiceKey) -> PathBuf {
    key.namespace
        .dir()
        .join(format!("{}.json", key.file_stem()))
}

/// Returns the path of the draft, which is then moved to the record's path. One name is sufficient, because
/// only the process that holds the transition lock writes a draft, and it overwrites the draft of a dead
/// process.
fn draft_path(key: &ServiceKey) -> PathBuf {
    key.namespace.dir().join(format!("{}.tmp", key.file_stem()))
}

pub(crate) const FILES: usize = 4;

/// Returns all files of a service in the runtime directory that are removed with the instance: the record, its draft,
/// the log and the older log.
pub(crate) fn files(key: &ServiceKey) -> [PathBuf; FILES] {
    let [log, older] = command::default_logs(key);
    [path(key), draft_path(key), log, older]
}

/// Checks that a record could be written. Call this before anything is started.
pub(crate) fn check(key: &ServiceKey) -> Result<()> {
    namespace::check_unchanged(&key.namespace)?;
    let dir = key.namespace.dir();
    sys::check_writable(dir)
        .map_err(|error| Error::runtime_dir_io(dir, "could not write to it", error))?;
    for path in [path(key), draft_path(key)] {
        if fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir()) {
            return Err(Error::Record {
                service: key.name().to_owned(),
                operation: "use the record file, because a directory has its name (remove it):",
                path,
                source: io::ErrorKind::IsADirectory.into(),
            });
        }
    }
    Ok(())
}

/// Writes the record atomically.
pub(crate) fn write(key: &ServiceKey, record: &Record) -> Result<()> {
    let failed = |operation, path: &Path, source| Error::Record {
        service: key.name().to_owned(),
        operation,
        path: path.to_owned(),
        source,
    };
    let (path, draft) = (path(key), draft_path(key));
    let bytes = record
        .encode()
        .map_err(|error| failed("encode the record for", &path, error.into()))?;
    if bytes.len() as u64 > MAX_SIZE {
        let source = io::Error::new(
            io::ErrorKind::InvalidInput,
            "its metadata and definition take more than 1 MiB as JSON",
        );
        return Err(failed("write the record", &path, source));
    }
    remove_file(&draft).map_err(|error| failed("replace", &draft, error))?;
    let mut file = sys::create_new(&draft).map_err(|error| failed("create", &draft, error))?;
    // The file is not synced. After a crash of the machine, the identity in it names no process.
    file.write_all(&bytes)
        .map_err(|error| failed("write", &draft, error))?;
    crash::point(Point::Drafted);
    fs::rename(&draft, &path).map_err(|error| failed("move the record to", &path, error))
}

/// Returns the record, if it can be used.
pub(crate) fn read(key: &ServiceKey) -> Option<Record> {
    let path = path(key);
    let reason = match read_file(&path) {
        Ok(None) => return None,
        Ok(Some(bytes)) => match Record::parse(&bytes, key) {
            Ok(record) => return Some(record),
            Err(reason) => reason,
        },
        Err(reason) => reason,
    };
    tracing::warn!(service = key.name(), path = %path.display(), reason, "ignored a record");
    None
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let Some(file) = sys::open_ours(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err("it is larger than 1 MiB".to_owned());
    }
    Ok(Some(bytes))
}

/// Removes the record, and the draft of a dead process. An error is only logged, because readers ignore a
/// record without an instance.
pub(crate) fn remove(key: &ServiceKey) {
    if namespace::check_unchanged(&key.namespace).is_err() {
        return;
    }
    for path in files(key) {
        if let Err(error) = remove_file(&path) {
            tracing::warn!(service = key.name(), path = %path.display(), %error, "could not remove a record");
        }
    }
}

/// Removes the instance from the record, and the files that belong to the instance. The service's name stays for the
/// lists, because clients still hold the service.
pub(crate) fn keep_name(key: &ServiceKey) {
    let Some(record) = read(key) else {
        return remove(key);
    };
    if let Err(error) = write(key, &record.without_instance()) {
        tracing::warn!(service = key.name(), %error, "could not keep the name in the record");
        return remove(key);
    }
    let [_, rest @ ..] = files(key);
    for path in rest {
        if let Err(error) = remove_file(&path) {
            tracing::warn!(service = key.name(), path = %path.display(), %error, "could not remove a file");
        }
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(all(test, unix))]
mod tests;
