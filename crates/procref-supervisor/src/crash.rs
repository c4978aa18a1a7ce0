//! Where a process can be made to die, for the tests of what remains then.
//!
//! After every step that changes something outside the process (the kernel object, a file, another
//! process) there is a point, and its name is in the list below; the compiler sees to that. A test
//! sees to it that every changing step of the kernel's contract is followed by a point. There is one after
//! a look, too, where a test has others change what was seen.
//!
//! Without the feature `crash-points`, which only procref's own tests turn on, all of this is nothing.

#[cfg(feature = "crash-points")]
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

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
        pub enum Point {
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

/// Chooses the path of the file that tells which process died.
///
/// # Panics
///
/// If the path is too long.
#[cfg(feature = "crash-points")]
pub fn choose_mark(path: &[u8]) {
    assert!(path.len() < MARK.len(), "a short path for the mark");
    for (place, byte) in MARK.iter().zip(path) {
        place.store(*byte, Ordering::Relaxed);
    }
}

/// Chooses the point at which this process, or one that it forks, dies the time after so many.
#[cfg(feature = "crash-points")]
pub fn choose_death(name: &str, survived: u32) {
    SURVIVED.store(survived, Ordering::Relaxed);
    DIE.store(code(name), Ordering::Relaxed);
}

/// Chooses the points at which this process, or one that it forks, is suspended, once each.
///
/// # Panics
///
/// If there are too many.
#[cfg(feature = "crash-points")]
pub fn choose_suspensions<'a>(names: impl Iterator<Item = &'a str>) {
    let mut places = SUSPEND.iter();
    for name in names {
        let place = places.next().expect("not too many steps");
        place.store(code(name), Ordering::Relaxed);
    }
}

#[cfg(feature = "crash-points")]
fn code(name: &str) -> u8 {
    let position = CRASH_POINTS.iter().position(|point| point.name == name);
    position.expect("the name of a point") as u8 + 1
}

/// What happens to a process at a point.
#[cfg(feature = "crash-points")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Dies,
    IsSuspended,
}

/// What happens to this process here. A suspension happens once.
#[cfg(feature = "crash-points")]
pub fn fate(point: Point) -> Option<Fate> {
    let here = point as u8 + 1;
    if DIE.load(Ordering::Relaxed) == here {
        let less = |left: u32| left.checked_sub(1);
        let survived = SURVIVED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if survived.is_err() {
            return Some(Fate::Dies);
        }
    }
    let suspends = |place: &AtomicU8| {
        let chosen = place.compare_exchange(here, 0, Ordering::Relaxed, Ordering::Relaxed);
        chosen.is_ok()
    };
    SUSPEND.iter().any(suspends).then_some(Fate::IsSuspended)
}

/// Dies or is suspended here, if this is the point that was chosen.
#[cfg(target_os = "linux")]
pub fn point(point: Point) {
    #[cfg(feature = "crash-points")]
    match fate(point) {
        Some(Fate::Dies) => {
            leave_mark();
            kill_myself();
        }
        Some(Fate::IsSuspended) => suspend_myself(),
        None => {}
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
}

#[cfg(all(feature = "crash-points", target_os = "linux"))]
fn leave_mark() {
    use rustix::fs::{Mode, OFlags};

    let path = MARK.each_ref().map(|byte| byte.load(Ordering::Relaxed));
    if let Ok(path) = core::ffi::CStr::from_bytes_until_nul(&path) {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(mark) = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
            let pid = rustix::process::getpid().as_raw_nonzero().get();
            let _ = rustix::io::write(&mark, &pid.to_ne_bytes());
        }
    }
}

/// Kills this process, as the OOM killer does. Makes only system calls.
#[cfg(all(feature = "crash-points", target_os = "linux"))]
fn kill_myself() -> ! {
    loop {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Suspends this process until another process continues it. Makes only system calls.
///
/// The signal goes to this thread, which receives it before it does anything else. If it went to the process, another
/// thread might receive it, and this one would continue for a while.
#[cfg(all(feature = "crash-points", target_os = "linux"))]
#[expect(unsafe_code, reason = "a signal to one thread")]
fn suspend_myself() {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    let [process, thread, signal] = [process, thread, libc::SIGSTOP].map(libc::c_long::from);
    // SAFETY: no pointers are passed. The libc function would use the thread id that libc has stored, which in a
    // supervisor is that of its starter.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
}
