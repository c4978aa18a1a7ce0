//! Crash points: the steps after which a test can kill a process, to check what it leaves.
//!
//! The points are in `procref-supervisor`, because supervisors reach some of them.

#[cfg(feature = "crash-points")]
use procref_supervisor::crash;
pub(crate) use procref_supervisor::crash::Point;
#[cfg(unix)]
pub(crate) use procref_supervisor::crash::point;
#[cfg(feature = "crash-points")]
#[doc(hidden)]
pub use procref_supervisor::crash::{CRASH_POINTS, CrashPoint, CrashSite};

/// Reads the chosen points from the environment.
pub(crate) fn arm() {
    #[cfg(feature = "crash-points")]
    {
        if let Ok(path) = std::env::var("PROCREF_CRASH_MARK") {
            crash::choose_mark(path.as_bytes());
        }
        if let Ok(name) = std::env::var("PROCREF_CRASH_POINT") {
            let survived = std::env::var("PROCREF_CRASH_SURVIVED").unwrap_or_default();
            crash::choose_death(&name, survived.parse().unwrap_or(0));
        }
        let chosen = std::env::var("PROCREF_SUSPEND_POINT").unwrap_or_default();
        crash::choose_suspensions(chosen.split(',').filter(|name| !name.is_empty()));
    }
}

/// Returns `true` if this process must not continue suspended supervisors, in a test that continues them itself.
pub(crate) fn leaves_suspended() -> bool {
    #[cfg(feature = "crash-points")]
    return std::env::var_os("PROCREF_LEAVE_SUSPENDED").is_some();
    #[cfg(not(feature = "crash-points"))]
    false
}

/// Sets the point at which this process, or a process that it forks, dies. It passes the point `survived` times before.
///
/// # Panics
///
/// Panics if there is no such point.
#[cfg(feature = "crash-points")]
#[doc(hidden)]
pub fn die_at(point: &str, survived: u32) {
    crash::choose_death(point, survived);
}

/// Kills or suspends this process if this point was chosen.
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
