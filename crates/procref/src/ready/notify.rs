//! Receives `READY=1` and the values of the service, as services for systemd send it.

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::connection::failed;
use super::notified::Notified;
use super::wait::{ProbeResult, ReadinessWait, WakeReason};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

pub(crate) use sys::NotifySocket;
#[cfg(all(test, target_os = "linux"))]
pub(super) use sys::may_speak;

/// The longest accepted message, in bytes.
const LONGEST: usize = 64 * 1024;

/// The largest size of all metadata, in bytes. A record that contains more cannot be written.
pub(super) const LARGEST: usize = 1 << 20;

/// A received message, or the reason why it cannot be used. `None` if another user sent it.
type Received = Option<Result<Vec<u8>, String>>;

const PORT: &[u8] = b"PROCREF_PORT";

/// The prefix of a variable with metadata. The rest of the name is the key.
const METADATA: &[u8] = b"PROCREF_META_";

/// The relevant content of one message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) ready: bool,
    pub(super) status: Option<String>,
    pub(super) values: Notified,
}

/// Parses `NAME=VALUE` lines. Other lines and other variables are ignored, as `sd_notify(3)` requires.
///
/// # Errors
///
/// Returns the reason if `PROCREF_PORT` or a variable with metadata has a value that cannot be used.
pub(super) fn parse(datagram: &[u8]) -> Result<Message, String> {
    let mut message = Message::default();
    for line in datagram.split(|&byte| byte == b'\n') {
        if line == b"READY=1" {
            message.ready = true;
        }
        if let Some(status) = line.strip_prefix(b"STATUS=") {
            message.status = Some(String::from_utf8_lossy(status).into_owned());
        }
        let Some(at) = line.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        let (name, value) = (&line[..at], &line[at + 1..]);
        let is_repeated = if name == PORT {
            let port = parse_port(value);
            let port = port.map_err(|reason| invalid(name, value, reason))?;
            message.values.port.replace(port).is_some()
        } else if let Some(key) = name.strip_prefix(METADATA) {
            let pair = parse_metadata(key, value);
            let (key, text) = pair.map_err(|reason| invalid(name, value, reason))?;
            message.values.metadata.insert(key, text).is_some()
        } else {
            false
        };
        if is_repeated {
            let reason = "the message contains this variable twice";
            return Err(invalid(name, value, reason));
        }
    }
    Ok(message)
}

/// Parses a port. `u16::from_str` also accepts a sign.
fn parse_port(value: &[u8]) -> Result<u16, &'static str> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|&port| digits && port != 0);
    port.ok_or("a port is a number from 1 to 65535")
}

fn parse_metadata(key: &[u8], value: &[u8]) -> Result<(String, String), &'static str> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if key.is_empty() || !key.iter().all(is_name) {
        return Err("a key consists of ASCII letters, digits and `_`");
    }
    // A client gets the value in a variable, which cannot contain a NUL byte.
    if value.contains(&0) {
        return Err("the value contains a NUL byte");
    }
    let value = std::str::from_utf8(value).map_err(|_| "the value is not valid UTF-8")?;
    Ok((String::from_utf8_lossy(key).into_owned(), value.to_owned()))
}

/// Returns the reason with the variable, on one line and of limited length.
fn invalid(name: &[u8], value: &[u8], reason: &str) -> String {
    const SHOWN: usize = 60;
    let shown = |bytes: &[u8]| {
        let end = bytes.len().min(SHOWN);
        let more = if end < bytes.len() { "…" } else { "" };
        format!("{}{more}", bytes[..end].escape_ascii())
    };
    format!("`{}={}`: {reason}", shown(name), shown(value))
}

impl Notified {
    /// Adds the values of a later message, which replace earlier values of the same variables.
    ///
    /// # Errors
    ///
    /// Returns the reason if all metadata together is too large.
    pub(super) fn merge(&mut self, later: Self) -> Result<(), String> {
        self.port = later.port.or(self.port);
        self.metadata.extend(later.metadata);
        let sizes = self
            .metadata
            .iter()
            .map(|(key, value)| key.len() + value.len());
        match sizes.sum::<usize>() > LARGEST {
            true => Err("all metadata together is larger than 1 MiB".to_owned()),
            false => Ok(()),
        }
    }
}

/// Waits for a message, so no polling is needed. Adds the values of each message to `notified`.
pub(super) fn listen(
    socket: &NotifySocket,
    watch: &ReadinessWait<'_>,
    service: &str,
    notified: &mut Notified,
) -> ProbeResult {
    let mut last = "no message so far".to_owned();
    loop {
        match watch.wait_for(socket.fd(), PollFlags::IN) {
            WakeReason::Event => {}
            WakeReason::Alarm => return ProbeResult::Alarm,
            WakeReason::Time => return ProbeResult::NotYet(last),
        }
        let received = match sys::receive(socket) {
            Ok(Some(datagram)) => datagram.and_then(|datagram| parse(&datagram)),
            Ok(None) | Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(error) => return failed(error),
        };
        let message = match received {
            Ok(message) => message,
            Err(reason) => return ProbeResult::Invalid(reason),
        };
        if let Some(status) = message.status {
            tracing::debug!(service, status, "received a status from the service");
            last = format!("its status is {status:?}");
        }
        if let Err(reason) = notified.merge(message.values) {
            return ProbeResult::Invalid(reason);
        }
        if message.ready {
            return ProbeResult::Ready;
        }
    }
}
