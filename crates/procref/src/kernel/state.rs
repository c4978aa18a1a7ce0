//! What a kernel object holds: an instance, and all of it at one moment.

#[cfg(unix)]
use std::os::unix::process::ExitStatusExt as _;
#[cfg(windows)]
use std::os::windows::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use crate::process::Identity;

/// The highest generation that every backend can hold.
pub(crate) const MAX_GENERATION: u16 = 0x7fff;

/// The longest linger that every backend can hold: 30 bits, twelve days.
pub(crate) const MAX_LINGER_MS: u32 = (1 << 30) - 1;

/// The longest limit that every backend can announce: 30 bits, twelve days. It stands for all longer ones.
const MAX_ANNOUNCED_MS: u32 = (1 << 30) - 1;

/// A limit as it is written. 0 is left for "none".
pub(crate) fn encode_limit(limit: Duration) -> u32 {
    let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    milliseconds.clamp(1, MAX_ANNOUNCED_MS)
}

pub(crate) fn decode_limit(milliseconds: u32) -> Option<Duration> {
    match milliseconds {
        0 => None,
        MAX_ANNOUNCED_MS.. => Some(Duration::MAX),
        _ => Some(Duration::from_millis(milliseconds.into())),
    }
}

/// One run of the service, as the kernel object tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Pid 0 and start 0 where there is no local process.
    pub(crate) identity: Identity,
    pub(crate) port: u16,
    /// It may be used. Published last.
    pub(crate) ready: bool,
    /// Somebody has begun to stop it. Never taken back.
    pub(crate) stopping: bool,
    /// It is a client process itself: nobody signals it.
    pub(crate) hosted: bool,
    /// The record has something that joiners want to read: metadata, a fingerprint.
    pub(crate) has_metadata: bool,
    /// procref executed its program, under a supervisor that is its parent.
    pub(crate) command: bool,
    /// No supervisor stops it when its last clients are killed.
    pub(crate) keep_orphan: bool,
    /// How long it is kept warm after the last client, in milliseconds.
    pub(crate) linger_ms: u32,
}

impl Instance {
    /// Whether a joiner may use it, health aside.
    pub(crate) fn is_serving(&self) -> bool {
        self.ready && !self.stopping
    }
}

/// All of an object, read in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Processes that hold a reference.
    pub(crate) clients: u32,
    /// Somebody holds the transition lock.
    pub(crate) locked: bool,
    /// A supervisor lives.
    pub(crate) supervised: bool,
    /// A supervisor lives that is the parent of a service's processes, of which some may live.
    pub(crate) tree: bool,
    /// Kept although nobody holds a reference.
    pub(crate) pinned: bool,
    /// Counts the instances, from 1; 0 before the first. Wraps to 1.
    pub(crate) generation: u16,
    /// The object says whose it is. False for a new one.
    pub(crate) claimed: bool,
    pub(crate) instance: Option<Instance>,
    /// How the instance ended, if its supervisor saw that.
    pub(crate) ended: Option<Ended>,
    /// How long the transition takes at most, as the process that holds the lock has announced it. It is
    /// left over from an earlier transition if that process has not announced anything yet.
    pub(crate) announced: Option<Duration>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    windows,
    allow(dead_code, reason = "supervisors see it, and there are none")
)]
pub(crate) enum Ended {
    /// With this exit code.
    Exited(u8),
    /// By this signal.
    Killed(u8),
}

impl Ended {
    pub(crate) fn status(self) -> ExitStatus {
        // As wait(2) encodes them.
        #[cfg(unix)]
        return ExitStatus::from_raw(match self {
            Self::Exited(code) => i32::from(code) << 8,
            Self::Killed(signal) => signal.into(),
        });
        // Where there is no signal, as shells tell them.
        #[cfg(windows)]
        return ExitStatus::from_raw(match self {
            Self::Exited(code) => code.into(),
            Self::Killed(signal) => 128 + u32::from(signal),
        });
    }
}

impl Snapshot {
    /// Whether the service is kept warm by its supervisor when nobody uses it.
    pub(crate) fn lingers(&self) -> bool {
        let serving = |instance: Instance| instance.is_serving() && instance.linger_ms > 0;
        self.supervised && self.instance.is_some_and(serving)
    }

    /// Whether its supervisor sees to the service when nobody uses it any more: because it is kept
    /// warm, or was executed by a supervisor, which alone can end all its processes.
    pub(crate) fn is_left_to_supervisor(&self) -> bool {
        let command = |instance: Instance| instance.is_serving() && instance.command;
        self.lingers() || self.supervised && self.instance.is_some_and(command)
    }

    pub(crate) fn next_generation(&self) -> u16 {
        if self.generation >= MAX_GENERATION {
            1
        } else {
            self.generation + 1
        }
    }
}

/// What can be told of an object from outside, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Inspection {
    pub(crate) snapshot: Snapshot,
    /// The processes that hold a reference, as far as the object names them.
    pub(crate) holders: Vec<u32>,
    /// References that it counts and does not name.
    pub(crate) unnamed: u32,
    pub(crate) supervisor: Option<u32>,
    /// Who holds the lock.
    pub(crate) transition: Option<u32>,
    /// When anybody did a step last that was not a mere look, in whole seconds.
    pub(crate) changed_at: SystemTime,
}

#[cfg(test)]
impl Instance {
    /// One that serves, with nothing special about it.
    pub(crate) fn plain(identity: Identity, port: u16) -> Self {
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
    fn announced_limits_are_kept_up_to_twelve_days() {
        let written = |limit| decode_limit(encode_limit(limit));
        for milliseconds in [1, 999, 300_000, u64::from(MAX_ANNOUNCED_MS) - 1] {
            let limit = Duration::from_millis(milliseconds);
            assert_eq!(written(limit), Some(limit));
        }
        for long in [
            Duration::from_millis(MAX_ANNOUNCED_MS.into()),
            Duration::from_millis(u64::from(u32::MAX) + 1),
            Duration::MAX,
        ] {
            assert_eq!(written(long), Some(Duration::MAX), "{long:?}");
        }
        assert_eq!(written(Duration::ZERO), Some(Duration::from_millis(1)));
        assert_eq!(decode_limit(0), None);
    }

    #[test]
    fn only_what_is_ready_and_not_told_to_stop_serves() {
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
    fn a_service_is_left_to_a_supervisor_that_lives_and_has_something_to_do() {
        // What is set, whether it is kept warm, and whether it is left to the supervisor.
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
            let told = |snapshot: Snapshot| (snapshot.lingers(), snapshot.is_left_to_supervisor());
            assert_eq!(told(snapshot(true, change)), (lingers, left));
            assert_eq!(told(snapshot(false, change)), (false, false));
        }
        let blank = Snapshot {
            instance: None,
            ..snapshot(true, |_| {})
        };
        assert!(!blank.lingers() && !blank.is_left_to_supervisor());
    }

    #[test]
    fn an_end_is_told_as_the_system_does() {
        assert_eq!(Ended::Exited(3).status().code(), Some(3));
        #[cfg(unix)]
        assert_eq!(Ended::Killed(9).status().signal(), Some(9));
    }
}
