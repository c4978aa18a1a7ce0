//! Where a process can be made to die, for the tests of what remains then.
//!
//! After every step that changes something outside the process (the kernel object, a file, another
//! process) there is a point, and its name is in the list below; the compiler sees to that. A test
//! sees to it that every changing step of the kernel's contract is followed by a point. There is one after
//! a look, too, where a test has others change what was seen.
//!
//! Without the feature `crash-points`, which only procref's own tests turn on, all of this is nothing.

#[cfg(feature = "crash-points")]
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Which process comes to a point.
#[cfg(feature = "crash-points")]
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashSite {
    Client,
    /// Or the process between it and its starter.
    Supervisor,
    /// A service's, before its program is executed.
    Service,
}

/// A step after which a process can be made to die.
#[cfg(feature = "crash-points")]
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    pub name: &'static str,
    pub site: CrashSite,
}

macro_rules! points {
    ($($(#[$meta:meta])* $site:ident { $($name:ident,)* })*) => {
        /// A step after which a process can be made to die.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(windows, allow(dead_code, reason = "there are no supervisors there"))]
        pub(crate) enum Point {
            $($($name,)*)*
        }

        /// All steps, about in the order in which a service goes through them.
        #[cfg(feature = "crash-points")]
        #[doc(hidden)]
        pub const CRASH_POINTS: &[CrashPoint] = &[
            $($(CrashPoint { name: stringify!($name), site: CrashSite::$site },)*)*
        ];
    };
}

points! {
    // Acquiring.
    Client {
        Joined,
        JoinedUnsupervised,
        TryJoined,
        Entered,
        Locked,
        Announced,
        AdopteeSupervised,
        Adopted,
        LeftoverStopped,
        Reannounced,
    }
    // Starting by callback.
    Client {
        Supervised,
        CalledBack,
        ReplacedEnded,
        PublishedUnready,
    }
    // Starting by command.
    Client {
        Prepared,
        SupervisorForked,
        Confirmed,
        Launched,
    }
    // Both.
    Client {
        Drafted,
        Recorded,
        GateOpened,
        Executed,
        Answering,
        PublishedReady,
    }
    // Starting.
    Supervisor {
        AttendantStarted,
        SupervisorStarted,
        SupervisorRegistered,
        ConfirmReceived,
        SteppedDown,
        CleanedUp,
        ServiceForked,
        ServicePublished,
        SupervisorReported,
    }
    Service {
        AtGate,
        GatePassed,
    }
    Supervisor {
        AboutToSleep,
        EndReported,
        GoneReported,
        StartSeen,
        SharedLockReleased,
        StartCleared,
    }
    // Letting go.
    Client {
        Left,
        LeftToSupervisor,
        LeftPinned,
        LeftLast,
        LookedAsLast,
        UnlockedForOthers,
        Abandoned,
        ReferenceDropped,
        ReferenceDroppedLate,
        UnlockedLast,
    }
    // Stopping.
    Client {
        PublishedStopping,
        StopCalledBack,
        AskedToEnd,
        Killed,
        ServiceEnded,
        SettledNone,
        SettledRecordRemoved,
        PublishedNone,
        RecordRemoved,
        SetRemoved,
    }
    // Stopping on demand.
    Client {
        EnteredToStop,
        UnpinnedToStop,
        ClearedToStop,
    }
    Supervisor {
        FoundIdle,
        Yielded,
        Lingering,
        LingerOver,
        RestEnded,
        Resigned,
        FoundIdleAfterEnd,
        SupervisorPublishedStopping,
        SupervisorEndedService,
        SupervisorPublishedNone,
        SupervisorRemovedFiles,
        SupervisorRemovedSet,
    }
    // Keeping, and cleaning up.
    Client {
        Pinned,
        UnpinnedByHolder,
        ReferredToUnpin,
        Unpinned,
        GcLocked,
        GcClaimed,
        GcCleared,
        GcRemovedFiles,
    }
}

/// Points that were chosen, plus one: where to die, and where to suspend the process, once each. In memory
/// that a supervisor keeps.
#[cfg(feature = "crash-points")]
static DIE: AtomicU8 = AtomicU8::new(0);
/// How often a process comes through there before it dies.
#[cfg(feature = "crash-points")]
static SURVIVED: AtomicU32 = AtomicU32::new(0);
#[cfg(feature = "crash-points")]
static SUSPEND: [AtomicU8; 3] = [const { AtomicU8::new(0) }; 3];

/// The path of a file that tells who died, NUL-terminated. Neither on the heap nor locked, as above.
#[cfg(feature = "crash-points")]
static MARK: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];

/// Takes the choice from the environment.
pub(crate) fn arm() {
    #[cfg(feature = "crash-points")]
    if let Ok(path) = std::env::var("PROCREF_CRASH_MARK") {
        assert!(path.len() < MARK.len(), "a short path for the mark");
        for (place, byte) in MARK.iter().zip(path.bytes()) {
            place.store(byte, Ordering::Relaxed);
        }
    }
    #[cfg(feature = "crash-points")]
    {
        if let Ok(name) = std::env::var("PROCREF_CRASH_POINT") {
            DIE.store(code(&name), Ordering::Relaxed);
        }
        let chosen = std::env::var("PROCREF_SUSPEND_POINT").unwrap_or_default();
        let names: Vec<&str> = chosen.split(',').filter(|name| !name.is_empty()).collect();
        assert!(names.len() <= SUSPEND.len(), "too many steps: {chosen}");
        for (place, name) in SUSPEND.iter().zip(names) {
            place.store(code(name), Ordering::Relaxed);
        }
    }
}

#[cfg(feature = "crash-points")]
fn code(name: &str) -> u8 {
    let position = CRASH_POINTS.iter().position(|point| point.name == name);
    position.expect("the name of a point") as u8 + 1
}

/// Returns `true` if this process does not continue supervisors that are suspended: in tests that suspend one at a
/// step, and continue it when they want to.
pub(crate) fn leaves_suspended() -> bool {
    #[cfg(feature = "crash-points")]
    return std::env::var_os("PROCREF_LEAVE_SUSPENDED").is_some();
    #[cfg(not(feature = "crash-points"))]
    false
}

/// From now on this process, or one that it forks, dies at this step, after so many times.
///
/// # Panics
///
/// If there is no such point.
#[cfg(feature = "crash-points")]
#[doc(hidden)]
pub fn die_at(point: &str, survived: u32) {
    SURVIVED.store(survived, Ordering::Relaxed);
    DIE.store(code(point), Ordering::Relaxed);
}

#[cfg(all(feature = "crash-points", windows))]
fn leave_mark() {
    if let Some(path) = std::env::var_os("PROCREF_CRASH_MARK") {
        let _ = std::fs::write(path, std::process::id().to_ne_bytes());
    }
}

#[cfg(all(feature = "crash-points", unix))]
fn leave_mark() {
    use rustix::fs::{Mode, OFlags};

    let path = MARK.each_ref().map(|byte| byte.load(Ordering::Relaxed));
    if let Ok(path) = std::ffi::CStr::from_bytes_until_nul(&path) {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(mark) = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
            let pid = rustix::process::getpid().as_raw_nonzero().get();
            let _ = rustix::io::write(&mark, &pid.to_ne_bytes());
        }
    }
}

/// Dies or is suspended here, if this is the point that was chosen.
pub(crate) fn point(point: Point) {
    #[cfg(feature = "crash-points")]
    {
        let here = point as u8 + 1;
        if DIE.load(Ordering::Relaxed) == here {
            let less = |left: u32| left.checked_sub(1);
            let survived = SURVIVED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            if survived.is_err() {
                leave_mark();
                crate::process::kill_myself();
            }
        }
        for place in &SUSPEND {
            let suspended = place.compare_exchange(here, 0, Ordering::Relaxed, Ordering::Relaxed);
            if suspended.is_ok() {
                crate::process::suspend_myself();
            }
        }
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
}
