use std::borrow::Cow;

use procref::Ready;

use super::When;

/// The readiness conditions, for messages.
pub(crate) const READY: &str =
    "tcp, http:/path, unix:PATH, log:REGEX, notify, cmd:COMMAND, started";

/// The health checks, for messages.
pub(crate) const HEALTH: &str =
    "tcp, http:/path, unix:PATH, cmd:COMMAND, ready (the probe of `ready`)";

/// The help for the runtime directory.
pub(crate) const RUNTIME_DIR: &str = "Runtime directory; processes with the same one share services

The default is $PROCREF_RUNTIME_DIR if that is set, $XDG_RUNTIME_DIR/procref if the directory $XDG_RUNTIME_DIR exists and \
belongs to this user, and otherwise /tmp/procref-UID.";

/// Returns the text as a POSIX shell would read it.
pub(super) fn shell(text: &str) -> Cow<'_, str> {
    text.into()
}

pub(super) fn notify() -> Result<When, String> {
    Ok(When::Asked(Ready::notify()))
}

pub(super) fn unix(path: &str) -> Result<When, String> {
    match path {
        "" => {
            Err("the socket's path is missing; write for example unix:/path/to/socket".to_owned())
        }
        path => Ok(When::Socket(path.into())),
    }
}

pub(super) fn pipe(_: &str) -> Result<When, String> {
    Err("`pipe` is only supported on Windows; write unix:PATH for a socket".to_owned())
}
