use std::borrow::Cow;

use procref::Ready;

use super::When;

/// What readiness can be.
pub(crate) const READY: &str =
    "tcp, http:/path, unix:PATH, log:REGEX, notify, cmd:COMMAND, started";

/// What can ask whether a service is well.
pub(crate) const HEALTH: &str =
    "tcp, http:/path, unix:PATH, cmd:COMMAND, ready (as `ready` has it)";

/// Where the runtime directory is, for the help.
pub(crate) const RUNTIME_DIR: &str = "The runtime directory: who shares it shares services

Without it, $PROCREF_RUNTIME_DIR if that is set, $XDG_RUNTIME_DIR/procref if the directory $XDG_RUNTIME_DIR exists and \
belongs to this user, and otherwise /tmp/procref-UID.";

/// As a shell would have it.
pub(super) fn shell(text: &str) -> Cow<'_, str> {
    text.into()
}

pub(super) fn notify() -> Result<When, String> {
    Ok(When::Asked(Ready::notify()))
}

pub(super) fn unix(path: &str) -> Result<When, String> {
    match path {
        "" => Err("write the socket's path behind it: unix:/path/to/socket".to_owned()),
        path => Ok(When::Asked(Ready::unix(path))),
    }
}

pub(super) fn pipe(_: &str) -> Result<When, String> {
    Err("named pipes of that kind are for Windows; write unix:PATH for a socket".to_owned())
}
