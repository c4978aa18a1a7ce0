use std::borrow::Cow;

use procref::Ready;

use super::When;

/// The readiness conditions, for messages.
pub const READY: &str = "tcp, http:/path, unix:PATH, log:REGEX, notify, cmd:COMMAND, started";

/// The health checks, for messages.
pub const HEALTH: &str = "tcp, http:/path, unix:PATH, cmd:COMMAND, ready (the probe of `ready`)";

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
