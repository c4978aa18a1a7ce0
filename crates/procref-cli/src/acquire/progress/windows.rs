//! Windows has no background jobs.

/// Returns `true`.
pub(super) fn is_foreground() -> bool {
    true
}
