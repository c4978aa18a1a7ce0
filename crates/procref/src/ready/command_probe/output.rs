//! The output of a readiness command.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// The largest part of a run's output that is kept, in bytes.
const TAIL: usize = 1024;

/// The size of the buffer that reads the output. A pipe has at most 16 of them, unless the program has enlarged it.
const BLOCK: usize = 4096;

/// The pipe for a program's output, and what was read from it.
pub(super) struct Output {
    /// `None` after the end of the output.
    pipe: Option<OwnedFd>,
    /// The end of the output.
    tail: Vec<u8>,
}

impl Output {
    /// Takes the end of the pipe that procref reads. Only this end becomes nonblocking: the program expects a blocking
    /// output.
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self {
            pipe: Some(pipe),
            tail: Vec::new(),
        })
    }

    /// Returns the pipe, unless its end was read.
    pub(super) fn pipe(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref()
    }

    /// Reads the output that is available, and keeps its end.
    pub(super) fn read(&mut self) {
        let mut block = [0; BLOCK];
        // A limit, because the program may print faster than this loop reads.
        for _ in 0..16 {
            let Some(pipe) = &self.pipe else {
                return;
            };
            match rustix::io::read(pipe, &mut block) {
                Ok(0) => self.pipe = None,
                Ok(read) => {
                    self.tail.extend_from_slice(&block[..read]);
                    let old = self.tail.len().saturating_sub(TAIL);
                    self.tail.drain(..old);
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Returns the end of the output that was read.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }
}
