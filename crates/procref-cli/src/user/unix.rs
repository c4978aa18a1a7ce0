use nix::unistd::User;

/// Returns `true` if a service runs as another user if its configuration names one.
pub(crate) fn is_effective() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns `false` if there is no such user. If the users cannot be read, the start reports that.
pub(crate) fn exists(name: &str) -> bool {
    !matches!(User::from_name(name), Ok(None))
}
