//! Linux creates a descriptor and marks it close-on-exec in one step.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Result;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use super::Blocking;

pub(crate) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;

pub(super) fn socket(
    family: AddressFamily,
    kind: SocketType,
    blocking: Blocking,
) -> Result<OwnedFd> {
    let flags = match blocking {
        Blocking::Yes => SocketFlags::CLOEXEC,
        Blocking::No => SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
    };
    rustix::net::socket_with(family, kind, flags, None)
}

pub(super) fn accept(listener: impl AsFd) -> Result<OwnedFd> {
    rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
}
