//! System calls on state files and sockets.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use procref_supervisor::process::poll_limit;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType,
};

use crate::descriptor::{self, Blocking, NO_SIGNAL};
use crate::name::Digest;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
use macos as platform;

#[cfg(target_os = "macos")]
pub(crate) use platform::private_path;
pub(crate) use platform::{
    keepers_files, lock, lock_holder, mark_starting, memory_file, peer, watch_removal,
};

/// Returns the id that the kernel chooses at each start of the system.
pub(crate) fn boot_id() -> io::Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display, kind| {
        let text = format!("could not read the boot id, {}: {error}", platform::BOOT_ID);
        io::Error::new(kind, text)
    };
    let id = platform::boot_id().map_err(|error| failed(&error, error.kind()))?;
    let id = id.trim_ascii().to_vec();
    match id.is_empty() {
        true => Err(failed(&"it is empty", io::ErrorKind::InvalidData)),
        false => Ok(id),
    }
}

/// Returns the digest of the id that the kernel has given to this run of the system.
///
/// # Errors
///
/// Fails if the id cannot be read. Any replacement would be the id of another boot, for which the state file of a living
/// service is void.
pub(crate) fn boot() -> io::Result<u64> {
    static BOOT: OnceLock<u64> = OnceLock::new();
    match BOOT.get() {
        Some(&boot) => Ok(boot),
        // A failure is not kept: the process may only have had too many open files.
        None => boot_id().map(|id| *BOOT.get_or_init(|| Digest::of(&[&id]).bits())),
    }
}

/// Device and inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    #[expect(
        clippy::unnecessary_cast,
        reason = "the types of these fields differ between systems"
    )]
    fn new(stat: &rustix::fs::Stat) -> Self {
        Self(stat.st_dev as u64, stat.st_ino as u64)
    }
}

pub(crate) fn id_of(file: impl AsFd) -> io::Result<FileId> {
    let stat = rustix::fs::fstat(file)?;
    Ok(FileId::new(&stat))
}

/// Returns `true` if the path leads to this file.
pub(crate) fn leads_to(path: &Path, id: FileId) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| FileId::new(&stat) == id)
}

/// The lock of a state file that has no keeper, and its mark, for a short time.
///
/// Other threads of this process, and other copies of this library in it, may open and close the same file at any moment.
/// A lock of the process, as a keeper has it, would end with the first of these descriptors. So this is the lock of an
/// open file. A keeper cannot use such a lock: the services that it forks would hold it until they execute a program,
/// and the kernel reports no pid for it. Locks of flock(2) belong to an open file, too, but a keeper that starts would
/// not notice one, because Linux keeps them apart from those of fcntl(2).
///
/// A client that starts a keeper has the mark. Without it, a process that runs `gc` again and again would remove each new
/// file before its keeper has the lock, because the start of a keeper takes longer than `gc`.
#[derive(Debug)]
pub(crate) struct OpenFileLock(fs::File);

impl OpenFileLock {
    /// Takes the mark and the lock. Returns `None` if a keeper, its starter or another open file has one of them, or if the
    /// system knows no such locks.
    pub(crate) fn take(file: fs::File) -> Option<Self> {
        let file = Self(file);
        let is_taken = mark_starting(&file.0) && platform::lock_open_file(&file.0).unwrap_or(false);
        is_taken.then_some(file)
    }

    pub(crate) fn file(&self) -> &fs::File {
        &self.0
    }
}

/// A child that another thread has forked has the same open file until it executes a program, so closing the descriptor
/// is not enough.
impl Drop for OpenFileLock {
    fn drop(&mut self) {
        platform::unlock_open_file(&self.0);
    }
}

/// Opens a state file, or returns `None` if it is missing.
pub(crate) fn open(path: &Path, create: bool) -> io::Result<Option<OwnedFd>> {
    // `O_NONBLOCK`, because opening a FIFO with this name would block otherwise.
    let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if create {
        flags |= OFlags::CREATE;
    }
    let access = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(path, flags, access) {
        Ok(file) if create => {
            // The file mode mask can remove the access of this user from a new file, and then only root could open it again.
            let stat = rustix::fs::fstat(&file)?;
            let is_own = stat.st_uid == rustix::process::geteuid().as_raw();
            let is_open = Mode::from_raw_mode(stat.st_mode).contains(access);
            if is_own && !is_open && stat.st_size == 0 {
                rustix::fs::fchmod(&file, access)?;
            }
            Ok(Some(file))
        }
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT) if !create => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads what is available, so that the descriptor is not readable any more.
pub(crate) fn discard(fd: impl AsFd) {
    let mut buffer = [0; 1024];
    while rustix::io::read(&fd, &mut buffer).is_ok_and(|read| read > 0) {}
}

/// Returns a descriptor that is only kept to be closed.
pub(crate) fn spare() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
}

/// Returns a socket that is connected to this path.
pub(crate) fn connect(path: &[u8]) -> io::Result<OwnedFd> {
    let socket = descriptor::socket(AddressFamily::UNIX, SocketType::STREAM, Blocking::Yes)?;
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

    let socket = descriptor::socket(AddressFamily::UNIX, SocketType::STREAM, Blocking::No)?;
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bound = rustix::net::bind(&socket, &SocketAddrUnix::new(path)?);
    rustix::process::umask(before);
    bound?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Sends all bytes.
pub(crate) fn send_all(socket: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(&socket, bytes, NO_SIGNAL) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends all bytes if the other end has room for them, and fails otherwise.
pub(crate) fn send_now(socket: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    let flags = NO_SIGNAL | SendFlags::DONTWAIT;
    match rustix::net::send(socket, bytes, flags)? == bytes.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// The greatest number of descriptors that one message can carry.
pub(super) const MAX_DESCRIPTORS: usize = 16;

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
        match rustix::net::sendmsg(&socket, &bytes, &mut control, NO_SIGNAL) {
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
    let flags = RecvFlags::DONTWAIT | platform::CLOSE_ON_EXEC;
    let bytes = &mut [IoSliceMut::new(buffer)];
    match rustix::net::recvmsg(socket, bytes, &mut control, flags) {
        Ok(received) => {
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                }
            }
            fds.iter().try_for_each(platform::close_on_exec)?;
            Ok(Some(received.bytes))
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
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
    let limit = poll_limit(limit);
    let mut polled = [PollFd::new(&socket, PollFlags::IN)];
    match poll(&mut polled, Some(&limit)) {
        Ok(0) => Ok(false),
        Ok(_) => Ok(true),
        // The caller measures the time.
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
