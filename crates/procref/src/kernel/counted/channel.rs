//! A connection to a keeper.

use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use super::sys::{self, FileId};
use super::wire::{ANSWER_LENGTH, Answer, Call, Reply, Request};
use crate::process::{self, Identity};

/// The time without an answer after which a client checks whether the keeper is suspended.
const CHECK_SUSPENDED: Duration = Duration::from_secs(1);

/// A connection to a keeper.
#[derive(Debug)]
pub(super) struct Channel {
    /// `None` only while the value is dropped.
    socket: Option<OwnedFd>,
    /// Identifies the socket. The host program may close all descriptors, and reuse their numbers.
    id: FileId,
    keeper: Identity,
}

impl Drop for Channel {
    fn drop(&mut self) {
        let is_own = self.is_own();
        if let Some(socket) = self.socket.take().filter(|_| !is_own) {
            // The number belongs to another file now, or to none.
            let _ = socket.into_raw_fd();
        }
    }
}

/// An answer with its payload.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) reply: Reply,
    pub(super) arg: u32,
    pub(super) payload: Vec<u8>,
}

/// The connection has ended before the answer.
#[derive(Debug)]
pub(super) struct Lost {
    /// `false` if the keeper cannot have received the request.
    pub(super) sent: bool,
}

impl Channel {
    /// Connects to the socket of this keeper.
    pub(super) fn connect(path: &[u8], keeper: Identity) -> io::Result<Self> {
        let socket = sys::connect(path)?;
        sys::limit_receive(&socket, Some(CHECK_SUSPENDED))?;
        let (_, uid) = sys::peer(&socket)?;
        match uid == rustix::process::geteuid().as_raw() {
            true => Ok(Self {
                id: sys::id_of(&socket)?,
                socket: Some(socket),
                keeper,
            }),
            false => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the socket belongs to uid {uid}"),
            )),
        }
    }

    /// Sends a request, and waits for the answer.
    pub(super) fn call(&self, request: &Request) -> Result<Response, Lost> {
        match self.call_within(request, None)? {
            Some(response) => Ok(response),
            None => Err(Lost { sent: true }),
        }
    }

    /// Sends a request with its descriptors, and waits for the answer.
    pub(super) fn call_with(
        &self,
        request: &Request,
        fds: &[BorrowedFd],
    ) -> Result<Response, Lost> {
        let not_sent = |_| Lost { sent: false };
        let socket = self.socket().map_err(not_sent)?;
        sys::send_with(socket, &request.encode(), fds).map_err(not_sent)?;
        let received = self.receive(request, None).ok().flatten();
        received.ok_or(Lost { sent: true })
    }

    fn socket(&self) -> io::Result<&OwnedFd> {
        self.socket
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Returns `true` if the descriptor is still this connection.
    pub(super) fn is_own(&self) -> bool {
        let socket = self.socket.as_ref();
        socket.is_some_and(|socket| sys::id_of(socket).is_ok_and(|id| id == self.id))
    }

    /// Returns the keeper at the other end.
    pub(super) fn keeper(&self) -> Identity {
        self.keeper
    }

    /// Sends a request, and waits for the answer, at most until the deadline. Returns `None` after that. The connection
    /// cannot be used any more then.
    pub(super) fn call_within(
        &self,
        request: &Request,
        deadline: Option<Instant>,
    ) -> Result<Option<Response>, Lost> {
        let not_sent = |_| Lost { sent: false };
        let socket = self.socket().map_err(not_sent)?;
        if matches!(request.call, Call::Wait(_)) {
            // A client that sleeps for a long time must not wake up just to check the keeper. Every later step checks it.
            sys::limit_receive(socket, None).map_err(not_sent)?;
        }
        sys::send_all(socket, &request.encode()).map_err(not_sent)?;
        let received = self.receive(request, deadline);
        received.map_err(|_| Lost { sent: true })
    }

    fn receive(
        &self,
        request: &Request,
        deadline: Option<Instant>,
    ) -> io::Result<Option<Response>> {
        let mut bytes = vec![0; ANSWER_LENGTH + request.call.payload_length()];
        let mut filled = 0;
        loop {
            if let Some(answer) = bytes[..filled].first_chunk() {
                let answer = Answer::decode(answer).filter(|it| it.seq == request.seq);
                let Answer { reply, arg, .. } = answer.ok_or(io::ErrorKind::InvalidData)?;
                let length = match reply {
                    Reply::Done => bytes.len(),
                    _ => ANSWER_LENGTH,
                };
                if filled == length {
                    let payload = bytes.split_off(ANSWER_LENGTH);
                    return Ok(Some(Response {
                        reply,
                        arg,
                        payload,
                    }));
                }
            }
            match self.receive_some(&mut bytes[filled..], deadline)? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(received) => filled += received,
                None => return Ok(None),
            }
        }
    }

    /// Waits for bytes. Returns 0 at the end, and `None` if the deadline has passed.
    fn receive_some(
        &self,
        buffer: &mut [u8],
        deadline: Option<Instant>,
    ) -> io::Result<Option<usize>> {
        loop {
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if !sys::wait_readable(self.socket()?, left)? {
                    if left.is_zero() {
                        return Ok(None);
                    }
                    continue;
                }
            }
            match sys::receive(self.socket()?, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.resume_keeper(),
                received => return received.map(Some),
            }
        }
    }

    /// Continues the keeper if it is suspended. All clients of the service would wait for it otherwise.
    fn resume_keeper(&self) {
        let pid = self.keeper.pid;
        if !process::is_suspended(pid) {
            return;
        }
        if let Ok(Some(keeper)) = process::find(self.keeper) {
            if keeper.wake().is_ok() {
                tracing::warn!(pid, "continued a suspended keeper");
            }
        }
    }

    /// Introduces this process to the keeper.
    pub(super) fn hello(&self, nonce: u64, start: u64) -> Result<Response, Lost> {
        self.call(&Request {
            nonce,
            seq: 0,
            call: Call::Hello { start },
        })
    }
}
