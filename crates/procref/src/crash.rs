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
    StartSeen,
    // Stopping, by a client.
    LeftLast,
    PublishedStopping,
    ServiceEnded,
    PublishedNone,
    RecordRemoved,
    // Stopping, by a supervisor.
    FoundIdle,
    SupervisorPublishedStopping,
    SupervisorEndedService,
    SupervisorPublishedNone,
    SupervisorRemovedFiles,
    Resigned,
}

/// The point that was chosen, plus one. In memory that a supervisor keeps.
#[cfg(feature = "crash-points")]
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// Takes the choice from the environment.
pub(crate) fn arm() {
    #[cfg(feature = "crash-points")]
    if let Ok(name) = std::env::var("PROCREF_CRASH_POINT") {
        let position = CRASH_POINTS.iter().position(|point| *point == name);
        let chosen = position.expect("PROCREF_CRASH_POINT names no point");
        CHOSEN.store(chosen as u8 + 1, Ordering::Relaxed);
    }
}

/// Dies here, if this is the point that was chosen.
pub(crate) fn point(point: Point) {
    #[cfg(feature = "crash-points")]
    if CHOSEN.load(Ordering::Relaxed) == point as u8 + 1 {
        crate::process::kill_myself();
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
}
