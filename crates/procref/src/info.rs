use std::collections::BTreeMap;

use crate::process;

/// What a client needs to know to use the service: where it listens and who it is.
///
/// `on_first_acquire` returns one, every client gets a copy.
///
/// # The pid
///
/// - A process on this machine: its pid, in this process's pid namespace.
/// - `0`: there is no local process (a container, a remote service). Legal only
///   with an `on_health_check`, and never signalled.
/// - The caller's own pid: the first client hosts the service itself. Its death is
///   the service's death, and it is never signalled.
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
    /// The process's start time once procref has looked: with it `is_alive`
    /// means this very process and not whoever has its pid by now.
    start: Option<u64>,
    metadata: BTreeMap<String, String>,
}

impl ServiceInfo {
    /// A service that is process `pid` and listens on `port` (0 where there is none).
    #[must_use]
    pub fn new(pid: u32, port: u16) -> Self {
        Self {
            pid,
            port,
            start: None,
            metadata: BTreeMap::new(),
        }
    }

    /// A service that is process `pid` and has no port.
    #[must_use]
    pub fn with_pid(pid: u32) -> Self {
        Self::new(pid, 0)
    }

    /// The process id; 0 where there is no local process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The port; 0 where there is none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Tells every client something more: a path, a token, a database name.
    ///
    /// It travels in the record file in the runtime directory, readable by this
    /// user only. All of it together may take up to 1 MiB as JSON.
    pub fn set_metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.metadata.insert(key.into(), value.into());
    }

    /// What the starter told under `key`.
    #[must_use]
    pub fn get_metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// All that the starter told, ordered by key.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether the process is alive. A zombie is dead; a process that may not be
    /// signalled is alive.
    ///
    /// An info that came from a handle asks for that very process, told from a later
    /// one with the same pid by its start time. One made by [`new`](Self::new) has only
    /// a pid to go by. Without a local process (pid 0) this is false.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match self.start {
            Some(start) => process::Identity {
                pid: self.pid,
                start,
            }
            .is_alive(),
            None => process::is_alive(self.pid),
        }
    }

    pub(crate) fn identified(mut self, start: u64) -> Self {
        self.start = (start != 0).then_some(start);
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
