//! The socket for notifications on Linux: a name without a file, and the credentials of each sender.

use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixDatagram;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use rustix::process::Uid;

use super::{LONGEST, Received};

/// The socket to which a service sends notifications.
pub(crate) struct NotifySocket(OwnedFd);

impl NotifySocket {
    /// Creates a socket, and returns it with the value of `NOTIFY_SOCKET`.
    ///
    /// The kernel chooses a name in the abstract namespace, so no file remains if a process dies. Every user can
    /// send to such a name, so the kernel must pass the sender's credentials with each message.
    pub(crate) fn new() -> io::Result<(Self, OsString)> {
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
        Ok((Self(socket.into()), OsString::from_vec(name)))
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

/// Receives one message. Returns `None` if another user sent it, and the reason if it is too long.
pub(super) fn receive(socket: &NotifySocket) -> Result<Received, Errno> {
    let mut buffer = vec![0; LONGEST];
    // The buffer has room for the credentials and nothing else, so descriptors in the message are not
    // received.
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let received = rustix::net::recvmsg(
        socket.fd(),
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
pub(in crate::ready) fn may_speak(uid: Uid) -> bool {
    uid == Uid::ROOT || uid == rustix::process::geteuid() || uid == rustix::process::getuid()
}
