//! What the engine asks of a kernel: one counted object per service.
//!
//! Every backend meets this one contract, and the engine knows no other. A backend may be a
//! semaphore set whose adjustments the kernel undoes (Linux), handles and a job object that end
//! with their last holder (Windows), a counting server reached over ports that notice a death
//! (macOS), or memory (the model).
//!
//! The contract, beside what each method says:
//!
//! - **Every step is atomic.** All of it happens or none of it, also when the process dies in it.
//! - **References and locks end with the process** that holds them, however it ends, without a
//!   line of its code. What else a step writes stays.
//! - A reference and the lock belong to the *process*: any of its threads may give them back. A
//!   child made by `fork` has neither.
//! - **A step never waits** but [`Object::wait_unlocked`] and [`Object::wait_removed`], which may block the
//!   thread that polls them. The engine polls them on threads of its own.
//! - Once an object was removed, every step on it is [`Fault::Removed`], those that sleep included.
//!
//! The steps are `async` so that the model can switch to another process at each of them; on a real
//! kernel they are ready at once.

use std::future::Future;
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt as _;
#[cfg(windows)]
use std::os::windows::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::name::{Digest, Namespace, ServiceKey};
use crate::process::Identity;

#[cfg(test)]
mod conformance;
#[cfg(any(target_os = "linux", test))]
pub(crate) mod semset;
#[cfg(test)]
pub(crate) mod sim;
#[cfg(target_os = "linux")]
mod sysv;
#[cfg(windows)]
mod windows;

#[cfg(all(target_os = "linux", feature = "fuzzing"))]
pub(crate) use sysv::fuzz;
#[cfg(target_os = "linux")]
pub(crate) use sysv::{SystemV as Native, signal_safe};
#[cfg(windows)]
pub(crate) use windows::{Windows as Native, signal_safe, try_lock_file};

/// Why a step did not happen.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The object is gone, and with it every reference and lock on it.
    Removed,
    /// The kernel refused.
    Refused(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// What a step comes to.
pub(crate) type Step<T> = Result<T, Fault>;

/// A kernel's way to the objects.
pub(crate) trait Kernel: Send + Sync + 'static {
    type Object: Object;

    /// Whether a process has to see to a service whose clients are all killed. Where the kernel itself ends
    /// the service, there are no supervisors, and nobody asks for one.
    const NEEDS_SUPERVISOR: bool = true;

    /// Sets up ahead what the first step would have to.
    fn prepare(&self) {}

    /// Opens the object of a service, after checking that it is ours. A new one is blank: nobody
    /// holds it, it is unlocked, and has no instance. `None`: there is none, and none is wanted.
    fn open(
        &self,
        key: &ServiceKey,
        missing: Missing,
    ) -> impl Future<Output = Result<Option<Self::Object>>> + Send;

    /// The digests of the names of all services of a namespace that have an object of ours which says
    /// so. One that nobody has claimed yet is not told.
    fn survey(&self, namespace: &Namespace) -> Result<Vec<Digest>>;

    /// Returns `true` if the object of a service, in whichever namespace, names this process as its instance,
    /// and the process is no client. Always false where the children of a process tell nothing.
    fn is_instance(_: Identity) -> Result<bool> {
        Ok(false)
    }

    /// The object as the system's own tools name it.
    fn object_name(key: &ServiceKey) -> String;

    /// Asks what a service has started to end, where its own process has no way to be asked. False: neither
    /// have they.
    fn ask_tree(_: Identity) -> bool {
        false
    }
}

/// What to do about an object that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Ignore,
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

/// The highest generation that every backend can hold.
pub(crate) const MAX_GENERATION: u16 = 0x7fff;

/// Removes an object that no process has claimed or uses.
///
/// The client that has created it calls this when the kernel refuses the first step on it, for want of memory, say: no
/// process would ever use the object again, and it does not say whose it is. This takes the lock first. With the lock held
/// no process can enter or join, so none loses a reference; a process that opened the object finds it removed and opens
/// another one. If the kernel refuses the lock as well, the object stays for the next client of the name.
pub(crate) async fn remove_blank<O: Object>(object: &O) {
    let is_blank = |snapshot: &Snapshot| {
        !snapshot.claimed
            && snapshot.clients == 0
            && snapshot.instance.is_none()
            && !snapshot.pinned
            && !snapshot.supervised
    };
    match object.snapshot().await {
        Ok(snapshot) if is_blank(&snapshot) && !snapshot.locked => {}
        _ => return,
    }
    if !matches!(object.try_lock().await, Ok(true)) {
        return;
    }
    // Its own error is what the caller reports.
    let _ = match object.snapshot().await {
        Ok(snapshot) if is_blank(&snapshot) => object.remove().await,
        _ => object.unlock().await,
    };
}

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

/// Whether a step asks for a living supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supervised {
    Yes,
    No,
}

/// Whether a step that writes lets go of the lock with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Keep,
    Release,
}

/// The kernel object of one service.
///
/// "True" below means that the step happened; "false" that a condition did not hold and that
/// nothing happened.
pub(crate) trait Object: Send + Sync + 'static {
    fn snapshot(&self) -> impl Future<Output = Step<Snapshot>> + Send;

    /// Takes a reference, if somebody holds one and nobody the lock; and, where that is asked for, if
    /// a supervisor lives.
    fn join(&self, supervised: Supervised) -> impl Future<Output = Step<bool>> + Send;

    /// Sleeps until nobody holds the lock. Somebody may have taken it again by the time this
    /// returns: it tells when to try again, nothing more. All who sleep wake together.
    fn wait_unlocked(&self) -> impl Future<Output = Step<()>> + Send;

    /// As [`wait_unlocked`](Self::wait_unlocked), on this thread and at most so long; false if it takes
    /// longer. `None`: this kernel cannot.
    fn wait_unlocked_within(&self, _limit: Duration) -> Option<Step<bool>> {
        None
    }

    /// Takes the lock **and** a reference, if nobody holds the lock.
    fn try_enter(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Takes the lock, if nobody holds it. For who has a reference already.
    fn try_lock(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Writes whose object this is. Under the lock, once.
    fn claim(&self) -> impl Future<Output = Step<()>> + Send;

    /// Writes how long the transition takes at most, and whose object this is if it does not say so yet.
    /// Under the lock.
    fn announce(&self, limit: Duration) -> impl Future<Output = Step<()>> + Send;

    /// Writes that the instance is being stopped, and announces how long that takes at most, in one step.
    /// Under the lock.
    fn publish_stopping(
        &self,
        instance: &Instance,
        generation: u16,
        limit: Duration,
    ) -> impl Future<Output = Step<()>> + Send;

    /// Writes the instance (`None`: there is none) and its generation, in one step. Under the lock.
    fn publish(
        &self,
        instance: Option<&Instance>,
        generation: u16,
        lock: Lock,
    ) -> impl Future<Output = Step<()>> + Send;

    fn unlock(&self) -> impl Future<Output = Step<()>> + Send;

    /// The same, if a supervisor lives to see to the service.
    fn unlock_to_supervisor(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the reference and the lock, if somebody else holds a reference, too.
    fn abandon(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the reference, if somebody else holds one, too.
    fn leave(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the last reference and takes the lock, if it is the last, nobody holds the lock,
    /// and the service is not pinned.
    fn leave_last(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the reference, last or not, if a supervisor lives to see to the service.
    fn leave_to_supervisor(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the reference, last or not, if the service is pinned.
    fn leave_pinned(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Keeps the service although nobody holds a reference, until it is unpinned. By who has a reference;
    /// once or more often is the same.
    fn pin(&self) -> impl Future<Output = Step<()>> + Send;

    /// Ends that. False if it is not pinned. By who has a reference, and sees to the service if it is the
    /// last to leave.
    fn unpin(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the reference, whatever the others do.
    fn drop_reference(&self) -> impl Future<Output = Step<()>> + Send;

    /// Changes this process's references from whatever it has so that the count of all goes from
    /// exactly `from` to exactly `to`; refused if the count is another one or, with `unlocked`, if
    /// somebody holds the lock.
    fn recount(
        &self,
        from: u32,
        to: u32,
        unlocked: bool,
    ) -> impl Future<Output = Step<bool>> + Send;

    /// Removes the object. Under the lock; the remover touches nothing afterwards.
    fn remove(&self) -> impl Future<Output = Step<()>> + Send;

    /// Sleeps until the object is removed, and is [`Fault::Removed`] then.
    fn wait_removed(&self) -> impl Future<Output = Step<()>> + Send;

    /// The process that holds the lock, for messages. Of several, the one that has announced the transition.
    fn lock_holder(&self) -> impl Future<Output = Step<Option<u32>>> + Send;

    /// How many processes sleep until the lock is free, as far as the kernel tells. A supervisor that shares
    /// the lock is one of them.
    fn sleepers(&self) -> impl Future<Output = Step<u32>> + Send {
        async { Ok(0) }
    }

    /// The process that was the last to become the supervisor, if there is a supervisor.
    fn supervisor(&self) -> impl Future<Output = Step<Option<u32>>> + Send {
        std::future::ready(Ok(None))
    }

    /// Everything there is to tell, for people.
    fn inspect(&self) -> impl Future<Output = Step<Inspection>> + Send;
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
