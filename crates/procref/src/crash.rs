//! Where a process can be made to die, for the tests of what remains then.
//!
//! The points themselves are in `procref-supervisor`, because supervisors have some of them, too.

#[cfg(feature = "crash-points")]
use procref_supervisor::crash;
pub(crate) use procref_supervisor::crash::Point;
#[cfg(unix)]
pub(crate) use procref_supervisor::crash::point;
#[cfg(feature = "crash-points")]
#[doc(hidden)]
pub use procref_supervisor::crash::{CRASH_POINTS, CrashPoint, CrashSite};

/// Takes the choice from the environment.
pub(crate) fn arm() {
    #[cfg(feature = "crash-points")]
    {
        if let Ok(path) = std::env::var("PROCREF_CRASH_MARK") {
            crash::choose_mark(path.as_bytes());
        }
        if let Ok(name) = std::env::var("PROCREF_CRASH_POINT") {
            crash::choose_death(&name, 0);
        }
        let chosen = std::env::var("PROCREF_SUSPEND_POINT").unwrap_or_default();
        crash::choose_suspensions(chosen.split(',').filter(|name| !name.is_empty()));
    }
}

/// Returns `true` if this process does not continue supervisors that are suspended: in tests that suspend one at a
/// step, and continue it when they want to.
pub fn leaves_suspended() -> bool {
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
    crash::choose_death(point, survived);
}

/// Dies or is suspended here, if this is the point that was chosen.
#[cfg(windows)]
pub(crate) fn point(point: Point) {
    #[cfg(feature = "crash-points")]
    match crash::fate(point) {
        Some(crash::Fate::Dies) => {
            leave_mark();
            crate::process::kill_myself();
        }
        Some(crash::Fate::IsSuspended) => crate::process::suspend_myself(),
        None => {}
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
}

#[cfg(all(feature = "crash-points", windows))]
fn leave_mark() {
    if let Some(path) = std::env::var_os("PROCREF_CRASH_MARK") {
        let _ = std::fs::write(path, std::process::id().to_ne_bytes());
    }
}
