//! Receives `READY=1`, as services for systemd send it.

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
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType, sockopt,
};
use rustix::process::Uid;

use super::connection::failed;
use super::wait::{ProbeResult, ReadinessWait, WakeReason};

/// The longest accepted message, in bytes. The limit is systemd's.
const LONGEST: usize = 4096;

/// The relevant content of one message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) ready: bool,
    pub(super) status: Option<String>,
}

/// Parses `NAME=VALUE` lines. Other lines are ignored.
pub(super) fn parse(datagram: &[u8]) -> Message {
    let mut message = Message::default();
    for line in datagram.split(|&byte| byte == b'\n') {
        if line == b"READY=1" {
            message.ready = true;
        }
        if let Some(status) = line.strip_prefix(b"STATUS=") {
            message.status = Some(String::from_utf8_lossy(status).into_owned());
        }
    }
    message
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

/// Waits for a message, so no polling is needed.
pub(super) fn listen(socket: &OwnedFd, watch: &ReadinessWait<'_>, service: &str) -> ProbeResult {
    let mut last = "no message so far".to_owned();
    loop {
        match watch.wait_for(socket, PollFlags::IN) {
            WakeReason::Event => {}
            WakeReason::Alarm => return ProbeResult::Alarm,
            WakeReason::Time => return ProbeResult::NotYet(last),
        }
        let message = match receive(socket) {
            Ok(Some(datagram)) => parse(&datagram),
            Ok(None) | Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(error) => return failed(error),
        };
        if let Some(status) = message.status {
            tracing::debug!(service, status, "received a status from the service");
            last = format!("its status is {status:?}");
        }
        if message.ready {
            return ProbeResult::Ready;
        }
    }
}

/// Receives one message. Returns `None` if another user sent it.
fn receive(socket: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
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
    buffer.truncate(received.bytes);
    Ok(Some(buffer))
}

/// The kernel passes the sender's real user. A program that changed its effective user still has the
/// starter's real user.
pub(super) fn may_speak(uid: Uid) -> bool {
    uid == Uid::ROOT || uid == rustix::process::geteuid() || uid == rustix::process::getuid()
}
