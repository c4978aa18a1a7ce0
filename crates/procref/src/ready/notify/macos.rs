//! The socket for notifications on macOS: a path in a directory that only this user can enter.
//!
//! macOS has no names without a file, and passes no credentials. So no other user can reach the socket, and each process of
//! this user is believed, as on Linux.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::net::{RecvFlags, ReturnFlags};

use super::{LONGEST, Received};
use crate::process::{self, Identity, Process};

/// The socket to which a service sends notifications.
pub(crate) struct NotifySocket {
    socket: OwnedFd,
    path: PathBuf,
}

impl NotifySocket {
    /// Creates a socket, and returns it with the value of `NOTIFY_SOCKET`.
    pub(crate) fn new() -> io::Result<(Self, OsString)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);

        let dir = crate::namespace::default_dir().map_err(io::Error::other)?;
        let dir = dir.join("n");
        DirBuilder::new().mode(0o700).recursive(true).create(&dir)?;
        check_private(&dir)?;
        remove_stale(&dir);
        let own = Process::find(std::process::id()).map_err(io::Error::other)?;
        let Identity { pid, start } = own.ok_or(io::ErrorKind::NotFound)?.identity();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{pid}.{start:x}.{number:x}"));
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        let socket = Self {
            socket: socket.into(),
            path,
        };
        let name = socket.path.clone().into();
        Ok((socket, name))
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.socket
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Checks that only this user can enter the directory.
fn check_private(dir: &Path) -> io::Result<()> {
    let stat = rustix::fs::lstat(dir)?;
    let is_own = stat.st_uid == rustix::process::geteuid().as_raw();
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    match is_own && is_dir && stat.st_mode & 0o077 == 0 {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "other users have access to {}, or it is no directory (remove it)",
            dir.display()
        ))),
    }
}

/// Removes the sockets of processes that have died: `PID.START.NUMBER`.
fn remove_stale(dir: &Path) {
    for path in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = path.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let owner = name.and_then(|name| {
            let mut numbers = name.split('.');
            Some(Identity {
                pid: numbers.next()?.parse().ok()?,
                start: u64::from_str_radix(numbers.next()?, 16).ok()?,
            })
        });
        if owner.is_some_and(|owner| matches!(process::find(owner), Ok(None))) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Receives one message. Returns the reason if it is too long.
pub(super) fn receive(socket: &NotifySocket) -> Result<Received, Errno> {
    let mut buffer = vec![0; LONGEST];
    let received = rustix::net::recvmsg(
        socket.fd(),
        &mut [io::IoSliceMut::new(&mut buffer)],
        // Without room, descriptors in the message are not received.
        &mut rustix::net::RecvAncillaryBuffer::default(),
        RecvFlags::empty(),
    )?;
    // A part of a message could lack a value, or contain the beginning of one.
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Some(Err("the message is longer than 64 KiB".to_owned())));
    }
    buffer.truncate(received.bytes);
    Ok(Some(Ok(buffer)))
}
