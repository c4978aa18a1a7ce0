//! System calls on state files and sockets.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{Flock, FlockType};

use crate::name::Digest;

/// Returns the digest of the boot id ([random(4)](https://man7.org/linux/man-pages/man4/random.4.html)).
pub(crate) fn boot() -> u64 {
    static BOOT: OnceLock<u64> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Digest::of(&[id.trim_ascii_end()]).bits()
    })
}

/// Device and inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

pub(crate) fn id_of(file: impl AsFd) -> io::Result<FileId> {
    let stat = rustix::fs::fstat(file)?;
    Ok(FileId(stat.st_dev, stat.st_ino))
}

/// Returns `true` if the path leads to this file.
pub(crate) fn leads_to(path: &Path, id: FileId) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| FileId(stat.st_dev, stat.st_ino) == id)
}

/// Opens a state file, or returns `None` if it is missing.
pub(crate) fn open(path: &Path, create: bool) -> io::Result<Option<OwnedFd>> {
    // `O_NONBLOCK`, because opening a FIFO with this name would block otherwise.
    let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if create {
        flags |= OFlags::CREATE;
    }
    match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT) if !create => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns a descriptor that is only kept to be closed.
pub(crate) fn spare() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
}

/// Takes the lock that a keeper holds as long as it lives. Returns `false` if another process has it.
///
/// The lock belongs to this process. A forked child does not get it, and it ends if the process closes any descriptor
/// of the file.
pub(crate) fn lock(file: impl AsFd) -> io::Result<bool> {
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns the pid of the keeper that has the lock.
pub(crate) fn lock_holder(file: impl AsFd) -> io::Result<Option<u32>> {
    let held = rustix::process::fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    let pid = held.map(|lock| lock.pid.map_or(0, |pid| pid.as_raw_nonzero().get() as u32));
    Ok(pid)
}

/// Marks the file as "a keeper is being started" until it is closed. Returns `false` if another process has marked it.
///
/// A forked child of this process can keep the mark, so it is only a hint.
pub(crate) fn mark_starting(file: impl AsFd) -> bool {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Returns a socket that is connected to this path.
pub(crate) fn connect(path: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket(SocketFlags::CLOEXEC)?;
    let address = SocketAddrUnix::new(OsStr::from_bytes(path))?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Err(Errno::INTR) => {}
            connected => return Ok(connected.map(|()| socket)?),
        }
    }
}

/// Returns a socket that listens at this path. Only this user can connect to it.
pub(crate) fn listen(path: &Path) -> io::Result<OwnedFd> {
    /// The kernel reduces it to its own limit.
    const BACKLOG: i32 = 4096;

    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bound = rustix::net::bind(&socket, &SocketAddrUnix::new(path)?);
    rustix::process::umask(before);
    bound?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    Ok(rustix::net::socket_with(family, kind, flags, None)?)
}

/// Returns two connected sockets.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    Ok(rustix::net::socketpair(
        family,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Returns pid and user id of the process at the other end. A listening socket has those of the process that called
/// listen(2).
pub(crate) fn peer(socket: impl AsFd) -> io::Result<(u32, u32)> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    Ok((peer.pid.as_raw_nonzero().get() as u32, peer.uid.as_raw()))
}

/// Sends all bytes.
pub(crate) fn send_all(socket: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(&socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends all bytes if the other end has room for them, and fails otherwise.
pub(crate) fn send_now(socket: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match rustix::net::send(socket, bytes, flags)? == bytes.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// The greatest number of descriptors that one message can carry.
const MAX_DESCRIPTORS: usize = 16;

/// Sends all bytes, and the descriptors together with the first of them.
pub(crate) fn send_with(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<()> {
    if fds.is_empty() {
        return send_all(socket, bytes);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(fds));
    let sent = loop {
        let bytes = [IoSlice::new(bytes)];
        match rustix::net::sendmsg(&socket, &bytes, &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => break sent?,
        }
    };
    send_all(socket, bytes.get(sent..).unwrap_or_default())
}

/// Receives bytes that have arrived, and appends the descriptors that came with them. Returns 0 at the end, and `None`
/// if there are no bytes yet.
pub(crate) fn receive_now(
    socket: impl AsFd,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<Option<usize>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let bytes = &mut [IoSliceMut::new(buffer)];
    match rustix::net::recvmsg(socket, bytes, &mut control, flags) {
        Ok(received) => {
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                }
            }
            Ok(Some(received.bytes))
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns a file in memory with these bytes.
pub(crate) fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = fs::File::from(rustix::fs::memfd_create(c"procref", flags)?);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// Reads a file that a client has sent, which must be a regular one of at most `limit` bytes.
pub(crate) fn read_file(file: OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    let stat = rustix::fs::fstat(&file)?;
    let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if !is_regular || size > limit {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = vec![0; size as usize];
    fs::File::from(file).read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Limits each [`receive`] on this socket. After the limit, the error is [`io::ErrorKind::WouldBlock`].
pub(crate) fn limit_receive(socket: impl AsFd, limit: Option<Duration>) -> io::Result<()> {
    let kind = rustix::net::sockopt::Timeout::Recv;
    Ok(rustix::net::sockopt::set_socket_timeout(
        socket, kind, limit,
    )?)
}

/// Waits for bytes. Returns 0 at the end.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::net::recv(&socket, &mut *buffer, RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            received => return Ok(received?.0),
        }
    }
}

/// Waits until bytes or the end can be received, at most `limit`. Returns `false` if the limit has passed, or earlier.
pub(crate) fn wait_readable(socket: impl AsFd, limit: Duration) -> io::Result<bool> {
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut polled = [PollFd::new(&socket, PollFlags::IN)];
    match poll(&mut polled, Some(&limit)) {
        Ok(0) => Ok(false),
        Ok(_) => Ok(true),
        // The caller measures the time.
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
