//! `READY=1`, as services under systemd say it.

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
use super::wait::{Found, Watch, Woken};

/// The longest message that is read, in bytes; as long as systemd's.
const LONGEST: usize = 4096;

/// What one message says, of what matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) ready: bool,
    pub(super) status: Option<String>,
}

/// `NAME=VALUE` lines. Those that are not, or mean nothing here, are passed over.
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

/// A socket, and what to put into `NOTIFY_SOCKET` so that the service finds it.
///
/// Its name is one that the kernel made up, in the namespace that is no file system's: nothing is left
/// behind, whoever dies. Everybody can send to such a name, so the kernel has to say with each
/// message who it is from.
pub(crate) fn socket() -> io::Result<(OwnedFd, OsString)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_passcred(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
    let socket = UnixDatagram::from(socket);
    let address = socket.local_addr()?;
    let Some(name) = address.as_abstract_name() else {
        return Err(io::Error::other("the kernel gave the socket no name"));
    };
    let name = [b"@".as_slice(), name].concat();
    Ok((socket.into(), OsString::from_vec(name)))
}

/// Waits for the message itself: there is nothing to look at in between.
pub(super) fn listen(socket: &OwnedFd, watch: &Watch<'_>, service: &str) -> Found {
    let mut last = "it has sent nothing".to_owned();
    loop {
        match watch.wait_for(socket, PollFlags::IN) {
            Woken::Event => {}
            Woken::Alarm => return Found::Alarm,
            Woken::Time => return Found::NotYet(last),
        }
        let message = match receive(socket) {
            Ok(Some(datagram)) => parse(&datagram),
            Ok(None) | Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(error) => return failed(error),
        };
        if let Some(status) = message.status {
            tracing::debug!(service, status, "it told its status");
            last = format!("its status is {status:?}");
        }
        if message.ready {
            return Found::Ready;
        }
    }
}

/// One message. `None`: it is from somebody who has no say here.
fn receive(socket: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = vec![0; LONGEST];
    // Room for the sender and for nothing else: descriptors that somebody sends along are not taken.
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
        tracing::debug!("passed over a notification of somebody else's");
        return Ok(None);
    }
    buffer.truncate(received.bytes);
    Ok(Some(buffer))
}

/// The kernel names the sender's real user; a program that changed its effective one has that of the
/// starter still.
pub(super) fn may_speak(uid: Uid) -> bool {
    uid == Uid::ROOT || uid == rustix::process::geteuid() || uid == rustix::process::getuid()
}
