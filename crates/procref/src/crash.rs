//! Where a process can be made to die, for the tests of what remains then.
//!
//! Without the feature `crash-points`, which only procref's own tests turn on, all of this is nothing.

#[cfg(feature = "crash-points")]
use std::sync::atomic::{AtomicU8, Ordering};

macro_rules! points {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// A step after which a process can be made to die.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Point {
            $($(#[$meta])* $name,)*
        }

        /// The names of all steps, in the order in which a service goes through them.
        #[cfg(feature = "crash-points")]
        #[doc(hidden)]
        pub const CRASH_POINTS: &[&str] = &[$(stringify!($name),)*];
    };
}

points! {
    // A client's: acquiring.
    Joined,
    Entered,
    Claimed,
    LeftoverStopped,
    // Starting by callback.
    Supervised,
    CalledBack,
    PublishedUnready,
    // Starting by command.
    Prepared,
    SupervisorForked,
    Launched,
    // Both.
    Recorded,
    Executed,
    Answering,
    PublishedReady,
    // A supervisor's: starting.
    SupervisorBegun,
    SupervisorInPlace,
    ServiceForked,
    ServicePublished,
    AboutToSleep,
    StartSeen,
    // Stopping, by a client.
    LeftLast,
    PublishedStopping,
    SettledNone,
    ServiceEnded,
    PublishedNone,
    RecordRemoved,
    // Stopping, on demand.
    EnteredToStop,
    UnpinnedToStop,
    ClearedToStop,
    // Stopping, by a supervisor.
    FoundIdle,
    SupervisorPublishedStopping,
    SupervisorEndedService,
    SupervisorPublishedNone,
    SupervisorRemovedFiles,
    Resigned,
}

/// Points that were chosen, plus one: where to die, and where to suspend the process, once. In memory
/// that a supervisor keeps.
#[cfg(feature = "crash-points")]
static DIE: AtomicU8 = AtomicU8::new(0);
#[cfg(feature = "crash-points")]
static SUSPEND: AtomicU8 = AtomicU8::new(0);

/// Takes the choice from the environment.
pub(crate) fn arm() {
    #[cfg(feature = "crash-points")]
    for (variable, chosen) in [
        ("PROCREF_CRASH_POINT", &DIE),
        ("PROCREF_SUSPEND_POINT", &SUSPEND),
    ] {
        if let Ok(name) = std::env::var(variable) {
            let position = CRASH_POINTS.iter().position(|point| *point == name);
            let position = position.expect("the environment names a point");
            chosen.store(position as u8 + 1, Ordering::Relaxed);
        }
    }
}

/// Dies or is suspended here, if this is the point that was chosen.
pub(crate) fn point(point: Point) {
    #[cfg(feature = "crash-points")]
    {
        let here = point as u8 + 1;
        if DIE.load(Ordering::Relaxed) == here {
            crate::process::kill_myself();
        }
        let suspended = SUSPEND.compare_exchange(here, 0, Ordering::Relaxed, Ordering::Relaxed);
        if suspended.is_ok() {
            crate::process::suspend_myself();
        }
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
}
