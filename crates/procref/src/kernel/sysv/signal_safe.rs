//! The supervisor's calls, on system calls alone: no allocation, no lock, no thread-local value.

use std::io;
use std::time::Duration;

use super::sys;
use crate::kernel::semset::signal_safe::{Refused, SetCalls, SetResult, SignalSafeSet};
use crate::kernel::semset::{Op, Values, Wait};

pub(crate) use super::sys::Limit;

/// A set that is open already.
pub(crate) type NativeSet = SignalSafeSet<RawCalls>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct RawCalls(sys::SetId);

impl RawCalls {
    pub(super) fn new(id: sys::SetId) -> Self {
        Self(id)
    }

    fn repeat<T>(self, call: impl Fn(sys::SetId) -> io::Result<T>) -> SetResult<T> {
        loop {
            match call(self.0) {
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

impl SetCalls for RawCalls {
    type Limit = Limit;

    async fn operate(self, ops: &[Op]) -> SetResult<()> {
        self.repeat(|id| sys::operate(id, ops, Wait::No))
    }

    async fn operate_within(self, ops: &[Op], limit: Duration) -> SetResult<()> {
        self.repeat(|id| sys::operate_within(id, ops, limit))
    }

    async fn sleep(self, ops: &[Op], limit: &Limit) -> SetResult<()> {
        sys::operate_until(self.0, ops, limit).map_err(|error| match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Refused::NotNow,
            _ => Refused::Gone,
        })
    }

    async fn values(self) -> SetResult<Values> {
        self.repeat(sys::values_in_new_room)
    }

    async fn remove(self) -> SetResult<()> {
        self.repeat(sys::remove)
    }
}
