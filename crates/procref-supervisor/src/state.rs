//! The data of a kernel object: an instance, and a snapshot of everything.

use core::time::Duration;

/// A process, identified by pid and start time. The identity can be stored, and compared after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub pid: u32,
    /// Time from boot to the start of the process, in clock ticks. On Windows, time since 1601 in units of 100 ns. It
    /// is only compared.
    pub start: u64,
}

/// States whether a step that writes also releases the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    Keep,
    Release,
}

/// The highest generation that every backend can hold.
pub const MAX_GENERATION: u16 = 0x7fff;

/// The longest linger that every backend can hold: 30 bits of milliseconds, which is twelve days.
pub const MAX_LINGER_MS: u32 = (1 << 30) - 1;

/// The longest limit that every backend can announce: 30 bits of milliseconds, which is twelve days. It stands for
/// all longer limits.
const MAX_ANNOUNCED_MS: u32 = (1 << 30) - 1;

/// Encodes a limit. 0 is reserved for "not announced".
pub fn encode_limit(limit: Duration) -> u32 {
    let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    milliseconds.clamp(1, MAX_ANNOUNCED_MS)
}

pub fn decode_limit(milliseconds: u32) -> Option<Duration> {
    match milliseconds {
        0 => None,
        MAX_ANNOUNCED_MS.. => Some(Duration::MAX),
        _ => Some(Duration::from_millis(milliseconds.into())),
    }
}

/// One run of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Pid 0 and start time 0 if the service has no local process.
    pub identity: Identity,
    pub port: u16,
    /// `true` if clients may use the instance. This is published last.
    pub ready: bool,
    /// `true` after a process has begun to stop the instance. It never becomes `false` again.
    pub stopping: bool,
    /// `true` if the instance is a client process itself. It is never signaled.
    pub hosted: bool,
    /// `true` if the record has metadata or a fingerprint, which joining clients read.
    pub has_metadata: bool,
    /// `true` if procref executed the program, with a supervisor as its parent.
    pub command: bool,
    /// `true` if no supervisor stops the instance after its last clients are killed.
    pub keep_orphan: bool,
    /// Time for which the instance is kept after the last client has left, in milliseconds.
    pub linger_ms: u32,
}

impl Instance {
    /// Returns `true` if a joiner may use the instance. Its health is checked separately.
    pub fn is_serving(&self) -> bool {
        self.ready && !self.stopping
    }
}

/// All data of an object, read in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Number of processes that hold a reference.
    pub clients: u32,
    /// `true` if a process holds the transition lock.
    pub locked: bool,
    /// `true` if a supervisor is alive.
    pub supervised: bool,
    /// `true` if a supervisor is alive that is the parent of the service's processes. Some of these processes
    /// may be alive, too.
    pub tree: bool,
    /// `true` if the service is kept without references.
    pub pinned: bool,
    /// Number of the instance: 0 before the first, then from 1 up to [`MAX_GENERATION`], then from 1 again.
    pub generation: u16,
    /// `true` if the object names its service. A new object does not.
    pub claimed: bool,
    pub instance: Option<Instance>,
    /// The exit status of the instance, if its supervisor reaped it.
    pub ended: Option<Ended>,
    /// Longest duration of the transition, as announced by the process that holds the lock. If that process has not
    /// announced anything yet, the value is that of an earlier transition.
    pub announced: Option<Duration>,
}

/// The exit status of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The process exited with this code.
    Exited(u8),
    /// The process was killed by this signal.
    Killed(u8),
}

impl Snapshot {
    /// Returns `true` if the supervisor keeps the service for a time after the last client has left.
    pub fn lingers(&self) -> bool {
        let serving = |instance: Instance| instance.is_serving() && instance.linger_ms > 0;
        self.supervised && self.instance.is_some_and(serving)
    }

    /// Returns `true` if the supervisor stops the service after the last client has left. This is the case if
    /// the service lingers, or if the supervisor is its parent, because only the parent can stop all of its
    /// processes.
    pub fn is_left_to_supervisor(&self) -> bool {
        let command = |instance: Instance| instance.is_serving() && instance.command;
        self.lingers() || self.supervised && self.instance.is_some_and(command)
    }

    pub fn next_generation(&self) -> u16 {
        if self.generation >= MAX_GENERATION {
            1
        } else {
            self.generation + 1
        }
    }
}

impl Instance {
    /// Returns a serving instance with all options off.
    pub fn plain(identity: Identity, port: u16) -> Self {
        Self {
            identity,
            port,
            ready: true,
            stopping: false,
            hosted: false,
            has_metadata: false,
            command: false,
            keep_orphan: false,
            linger_ms: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(supervised: bool, change: impl FnOnce(&mut Instance)) -> Snapshot {
        let mut instance = Instance::plain(Identity { pid: 7, start: 8 }, 80);
        change(&mut instance);
        Snapshot {
            clients: 1,
            locked: false,
            supervised,
            tree: false,
            pinned: false,
            generation: 1,
            claimed: true,
            instance: Some(instance),
            ended: None,
            announced: None,
        }
    }

    #[test]
    fn announced_limit_is_kept_up_to_twelve_days() {
        let round_trip = |limit| decode_limit(encode_limit(limit));
        for milliseconds in [1, 999, 300_000, u64::from(MAX_ANNOUNCED_MS) - 1] {
            let limit = Duration::from_millis(milliseconds);
            assert_eq!(round_trip(limit), Some(limit));
        }
        for long in [
            Duration::from_millis(MAX_ANNOUNCED_MS.into()),
            Duration::from_millis(u64::from(u32::MAX) + 1),
            Duration::MAX,
        ] {
            assert_eq!(round_trip(long), Some(Duration::MAX), "{long:?}");
        }
        assert_eq!(round_trip(Duration::ZERO), Some(Duration::from_millis(1)));
        assert_eq!(decode_limit(0), None);
    }

    #[test]
    fn instance_serves_when_ready_and_not_stopping() {
        for (ready, stopping, serves) in [
            (true, false, true),
            (true, true, false),
            (false, false, false),
            (false, true, false),
        ] {
            let snapshot = snapshot(true, |it| (it.ready, it.stopping) = (ready, stopping));
            let instance = snapshot.instance.unwrap();
            assert_eq!(instance.is_serving(), serves, "{instance:?}");
        }
    }

    #[test]
    fn service_is_left_to_living_supervisor_when_lingering_or_command() {
        // A change, the expected `lingers`, and the expected `is_left_to_supervisor`.
        type Case = (fn(&mut Instance), bool, bool);
        let cases: [Case; 6] = [
            (|_| {}, false, false),
            (|it| it.linger_ms = 1, true, true),
            (|it| it.command = true, false, true),
            (|it| (it.command, it.linger_ms) = (true, 1), true, true),
            (
                |it| (it.command, it.linger_ms, it.ready) = (true, 1, false),
                false,
                false,
            ),
            (
                |it| (it.command, it.linger_ms, it.stopping) = (true, 1, true),
                false,
                false,
            ),
        ];
        for (change, lingers, left) in cases {
            let state = |snapshot: Snapshot| (snapshot.lingers(), snapshot.is_left_to_supervisor());
            assert_eq!(state(snapshot(true, change)), (lingers, left));
            assert_eq!(state(snapshot(false, change)), (false, false));
        }
        let blank = Snapshot {
            instance: None,
            ..snapshot(true, |_| {})
        };
        assert!(!blank.lingers() && !blank.is_left_to_supervisor());
    }
}
