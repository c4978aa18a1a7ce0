use crate::info::ServiceInfo;
use crate::kernel::{Instance, Snapshot};

/// What the kernel tells about a service at one moment. Made by
/// [`SharedService::status`](crate::SharedService::status).
#[derive(Clone, Debug)]
pub struct Status {
    clients: u32,
    generation: u32,
    state: State,
    instance: Option<ServiceInfo>,
    transition: Option<u32>,
    pinned: bool,
}

/// How far a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// There is no instance.
    Absent,
    /// An instance is being started or recovered.
    Starting,
    /// The instance can be joined. Its health was not asked for.
    Ready,
    /// The instance has been told to stop and is not gone yet.
    Stopping,
    /// The instance's process has died; the next acquire replaces it.
    Dead,
}

impl Status {
    pub(super) fn absent() -> Self {
        Self {
            clients: 0,
            generation: 0,
            state: State::Absent,
            instance: None,
            transition: None,
            pinned: false,
        }
    }

    pub(super) fn new(
        snapshot: &Snapshot,
        info: Option<ServiceInfo>,
        transition: Option<u32>,
    ) -> Self {
        let state = match (&snapshot.instance, &info) {
            (Some(Instance { stopping: true, .. }), _) => State::Stopping,
            (Some(Instance { ready: false, .. }), _) => State::Starting,
            (Some(_), Some(info)) if info.pid() != 0 && !info.is_alive() => State::Dead,
            (Some(_), _) => State::Ready,
            (None, _) if snapshot.locked => State::Starting,
            (None, _) => State::Absent,
        };
        Self {
            clients: snapshot.clients,
            generation: snapshot.generation.into(),
            state,
            instance: info,
            transition,
            pinned: snapshot.pinned,
        }
    }

    /// Processes that hold a reference.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.clients
    }

    /// Which instance it is, or was; 0 before the first. See
    /// [`ServiceHandle::generation`](crate::ServiceHandle::generation).
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The instance, if there is one.
    #[must_use]
    pub fn instance(&self) -> Option<&ServiceInfo> {
        self.instance.as_ref()
    }

    /// The process that is starting, stopping or recovering the service right now.
    #[must_use]
    pub fn transition(&self) -> Option<u32> {
        self.transition
    }

    /// Whether it is kept when nobody holds it; see [`ServiceHandle::pin`](crate::ServiceHandle::pin).
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }
}
