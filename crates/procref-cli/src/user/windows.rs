/// Returns `false`, because `user` has no effect on Windows.
pub(crate) fn is_effective() -> bool {
    false
}

/// Returns `true`: the name is that of a user on another system.
pub(crate) fn exists(_: &str) -> bool {
    true
}
