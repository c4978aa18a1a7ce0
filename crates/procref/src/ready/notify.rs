//! Receives `READY=1` and the values of the service, as services for systemd send it.

use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixDatagram;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use rustix::process::Uid;

use super::connection::failed;
use super::notified::Notified;
use super::wait::{ProbeResult, ReadinessWait, WakeReason};

/// The longest accepted message, in bytes.
const LONGEST: usize = 64 * 1024;

/// The largest size of all metadata, in bytes. A record that contains more cannot be written.
pub(super) const LARGEST: usize = 1 << 20;

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

/// Creates a socket, and returns it with the value of `NOTIFY_SOCKET`.
///
/// The kernel chooses a name in the abstract namespace, so no file remains if a process dies. Every user can
/// send to such a name, so the kernel must pass the sender's credentials with each message.
pub(crate) fn socket() -> io::Result<(OwnedFd, OsString)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_passcred(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
    let socket = UnixDatagram::from(socket);
    let address = socket.local_addr()?;
    let Some(name) = address.as_abstract_name() else {
        return Err(io::Error::other(
            "the kernel assigned no name to the socket",
        ));
    };
    let name = [b"@".as_slice(), name].concat();
    Ok((socket.into(), OsString::from_vec(name)))
}

/// Waits for a message, so no polling is needed. Adds the values of each message to `notified`.
pub(super) fn listen(
    socket: &OwnedFd,
    watch: &ReadinessWait<'_>,
    service: &str,
    notified: &mut Notified,
) -> ProbeResult {
    let mut last = "no message so far".to_owned();
    loop {
        match watch.wait_for(socket, PollFlags::IN) {
            WakeReason::Event => {}
            WakeReason::Alarm => return ProbeResult::Alarm,
            WakeReason::Time => return ProbeResult::NotYet(last),
        }
        let received = match receive(socket) {
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

/// Receives one message. Returns `None` if another user sent it, and the reason if it is too long.
fn receive(socket: &OwnedFd) -> Result<Option<Result<Vec<u8>, String>>, Errno> {
    let mut buffer = vec![0; LONGEST];
    // The buffer has room for the credentials and nothing else, so descriptors in the message are not
    // received.
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let heard = control.drain().any(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => may_speak(sender.uid),
        _ => false,
    });
    if !heard {
        tracing::debug!("ignored a notification from another user");
        return Ok(None);
    }
    // A part of a message could lack a value, or contain the beginning of one.
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Some(Err("the message is longer than 64 KiB".to_owned())));
    }
    buffer.truncate(received.bytes);
    Ok(Some(Ok(buffer)))
}

/// The kernel passes the sender's real user. A program that changed its effective user still has the
/// starter's real user.
pub(super) fn may_speak(uid: Uid) -> bool {
    uid == Uid::ROOT || uid == rustix::process::geteuid() || uid == rustix::process::getuid()
}
