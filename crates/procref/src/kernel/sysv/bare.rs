//! The supervisor's steps, on system calls alone: no allocation, no lock, no thread-local value.

use std::io;
use std::time::Duration;

use super::sys;
use crate::kernel::semset::{self, Changes, Op, UNLOCK, WAIT_CLIENT, WAIT_IDLE, Wait};
use crate::kernel::{Instance, Lock, Snapshot};

/// A set that is open already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set(sys::SetId);

/// Why a step did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A condition does not hold, or did not in the time that was given.
    NotNow,
    /// The set is gone, or of no use any more.
    Gone,
}

type Step<T> = Result<T, Refused>;

impl Set {
    pub(super) fn new(id: sys::SetId) -> Self {
        Self(id)
    }

    /// Counts this process as a supervisor for as long as it lives.
    pub(crate) fn supervise(self) -> Step<()> {
        self.repeat(|| sys::operate(self.0, &semset::SUPERVISE, Wait::No))
    }

    /// Sleeps until nobody is left, and has the lock then.
    pub(crate) fn wait_idle(self) -> Step<()> {
        self.repeat(|| sys::operate(self.0, &WAIT_IDLE, Wait::Yes))
    }

    /// Takes the lock if nobody is there.
    pub(crate) fn try_idle(self) -> Step<()> {
        self.repeat(|| sys::operate(self.0, &WAIT_IDLE, Wait::No))
    }

    /// Sleeps until somebody is there, at most `limit`.
    pub(crate) fn wait_client(self, limit: Duration) -> Step<()> {
        // Signals are blocked, so no interruption makes it longer.
        self.repeat(|| sys::operate_within(self.0, &WAIT_CLIENT, limit))
    }

    pub(crate) fn unlock(self) -> Step<()> {
        self.operate(&UNLOCK)
    }

    pub(crate) fn snapshot(self) -> Step<Snapshot> {
        let values = self.repeat(|| sys::values_in_new_room(self.0))?;
        Ok(semset::decode(&values, true))
    }

    /// Under the lock.
    pub(crate) fn publish(self, instance: Option<&Instance>, generation: u16) -> Step<()> {
        let before = self.repeat(|| sys::values_in_new_room(self.0))?;
        let mut after = before;
        semset::encode(&mut after, instance, generation);
        let changes = Changes::between(&before, &after, Lock::Keep);
        if changes.ops().is_empty() {
            return Ok(());
        }
        self.operate(changes.ops())
    }

    pub(crate) fn remove(self) -> Step<()> {
        self.repeat(|| sys::remove(self.0))
    }

    fn operate(self, ops: &[Op]) -> Step<()> {
        self.repeat(|| sys::operate(self.0, ops, Wait::No))
    }

    fn repeat<T>(self, call: impl Fn() -> io::Result<T>) -> Step<T> {
        loop {
            match call() {
                Ok(output) => return Ok(output),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN) => return Err(Refused::NotNow),
                    _ => return Err(Refused::Gone),
                },
            }
        }
    }
}
