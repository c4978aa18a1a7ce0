use std::collections::BTreeMap;

use crate::process;
use crate::ready::Notified;

/// The address and identity of a service: its pid, its port and its metadata.
///
/// `on_first_acquire` returns a value, and every client gets a copy.
///
/// # The pid
///
/// - A process on this machine: its pid, in this process's pid namespace.
/// - `0`: there is no local process (a container, a remote service). This requires an
///   `on_health_check`. procref never signals it.
/// - The caller's own pid: the first client hosts the service itself. The service dies with this process,
///   which procref never signals.
///
/// ```
/// use procref::ServiceInfo;
///
/// let mut info = ServiceInfo::new(std::process::id(), 5432);
/// info.set_metadata("database", "test");
/// assert_eq!(info.get_metadata("database"), Some("test"));
/// assert_eq!(info.metadata().collect::<Vec<_>>(), [("database", "test")]);
/// assert_eq!((info.pid(), info.port()), (std::process::id(), 5432));
/// assert!(info.is_alive());
///
/// let without_port = ServiceInfo::with_pid(std::process::id());
/// assert_eq!(without_port.port(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    pid: u32,
    port: u16,
    /// The process's start time, after procref has read it. With the start time, `is_alive` refers to this
    /// process and not to a later process with the same pid.
    start: Option<u64>,
    metadata: BTreeMap<String, String>,
}

impl ServiceInfo {
    /// Creates the description of a service that is process `pid` and listens on `port` (0 if it has none).
    #[must_use]
    pub fn new(pid: u32, port: u16) -> Self {
        Self {
            pid,
            port,
            start: None,
            metadata: BTreeMap::new(),
        }
    }

    /// Creates the description of a service that is process `pid` and has no port.
    #[must_use]
    pub fn with_pid(pid: u32) -> Self {
        Self::new(pid, 0)
    }

    /// Returns the process id, or 0 if there is no local process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the port, or 0 if there is none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets metadata for all clients: a path, a token, a database name.
    ///
    /// procref stores metadata in the record file in the runtime directory, which only this user can read.
    /// All metadata together may take up to 1 MiB as JSON.
    pub fn set_metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.metadata.insert(key.into(), value.into());
    }

    /// Returns the metadata that the starter set under `key`.
    #[must_use]
    pub fn get_metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Returns all metadata, ordered by key.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns `true` if the process is alive. A zombie is dead. A process that this user may not signal is
    /// alive.
    ///
    /// A value from a handle refers to one process, identified by its start time. A value from
    /// [`new`](Self::new) has only a pid. Without a local process (pid 0), this returns `false`.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match self.start {
            Some(start) => process::is_identity_alive(process::Identity {
                pid: self.pid,
                start,
            }),
            None => process::is_alive(self.pid),
        }
    }

    pub(crate) fn identified(mut self, start: u64) -> Self {
        self.start = (start != 0).then_some(start);
        self
    }

    /// Returns the description with the values that the service sent.
    pub(crate) fn notified(mut self, notified: Notified) -> Self {
        self.port = notified.port.unwrap_or(self.port);
        self.metadata.extend(notified.metadata);
        self
    }

    pub(crate) fn metadata_map(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    pub(crate) fn with_metadata(mut self, metadata: BTreeMap<String, String>) -> Self {
        self.metadata = metadata;
        self
    }
}
