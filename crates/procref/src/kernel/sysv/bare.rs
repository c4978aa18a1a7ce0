//! The supervisor's steps, on system calls alone: no allocation, no lock, no thread-local value.

use std::io;
use std::time::Duration;

use super::sys;
use crate::kernel::semset::{self, Changes, Op, UNLOCK, WAIT_ALONE, WAIT_CLIENT, WAIT_IDLE, Wait};
use crate::kernel::{Ended, Instance, Lock, Snapshot};

pub(crate) use super::sys::Limit;

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

    /// Counts this process as a supervisor that is the parent of the service's processes, and shares the
    /// lock with its starter. Sleeps until an older one's processes are gone, at most `limit`; refused,
    /// too, if the starter has let go of the lock or died.
    pub(crate) fn supervise_tree(self, limit: Duration) -> Step<()> {
        self.repeat(|| sys::operate_within(self.0, &semset::SUPERVISE_TREE, limit))
    }

    /// Takes back [`supervise_tree`](Self::supervise_tree).
    pub(crate) fn step_down(self) -> Step<()> {
        self.operate(&semset::STEP_DOWN)
    }

    /// Sleeps until nobody is left, and has the lock then.
    ///
    /// As every sleep with a [`Limit`], it may end early and without a reason, as [`Refused::NotNow`]: at a
    /// signal, at SIGCONT, at the end of the limit. Its caller knows what it waits for.
    pub(crate) fn wait_idle(self, limit: &Limit) -> Step<()> {
        self.sleep(&WAIT_IDLE, limit)
    }

    /// Sleeps until the lock is this process's alone.
    pub(crate) fn wait_alone(self, limit: &Limit) -> Step<()> {
        self.sleep(&WAIT_ALONE, limit)
    }

    /// Takes the lock if nobody is there.
    pub(crate) fn try_idle(self) -> Step<()> {
        self.repeat(|| sys::operate(self.0, &WAIT_IDLE, Wait::No))
    }

    /// Sleeps until somebody is there.
    pub(crate) fn wait_client(self, limit: &Limit) -> Step<()> {
        self.sleep(&WAIT_CLIENT, limit)
    }

    /// Gives up SUPERVISOR and TREE, and the share of the lock if there is one, and says how the service
    /// ended. Refused if nobody holds the service and it is not pinned: somebody has to see to it.
    pub(crate) fn resign(self, lock: Lock, ended: Option<Ended>) -> Step<()> {
        for to in semset::RESIGN_TO {
            let done = self.operate(Changes::resignation(to, lock, ended).ops());
            if done != Err(Refused::NotNow) {
                return done;
            }
        }
        Err(Refused::NotNow)
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

    fn sleep(self, ops: &[Op], limit: &Limit) -> Step<()> {
        sys::operate_until(self.0, ops, limit).map_err(|error| match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Refused::NotNow,
            _ => Refused::Gone,
        })
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
