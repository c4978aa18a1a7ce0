//! Acquires services at the same time, each one as soon as its dependencies are acquired.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use procref::{ServiceHandle, SharedService};

type Acquire<'a> = Pin<Box<dyn Future<Output = procref::Result<ServiceHandle>> + Send + 'a>>;

/// The state of a service.
enum Slot<'a> {
    /// A dependency is not acquired yet.
    Waiting,
    Acquiring(Acquire<'a>),
    Acquired(ServiceHandle),
}

/// Services that are acquired at the same time, on one thread.
///
/// Dropping the value cancels what is not acquired yet: the library releases these references.
pub struct SideBySide<'a> {
    services: &'a [SharedService],
    slots: Vec<Slot<'a>>,
}

impl<'a> SideBySide<'a> {
    /// Returns services of which none is acquired.
    pub fn new(services: &'a [SharedService]) -> Self {
        Self {
            services,
            slots: services.iter().map(|_| Slot::Waiting).collect(),
        }
    }

    /// Returns `Ready` when all services are acquired, or when the first of them failed, with its position.
    ///
    /// `needs` returns the positions of the dependencies of a service, which are less than its own. `acquired` is called
    /// for each service that was acquired.
    pub fn poll<'b>(
        &mut self,
        context: &mut Context<'_>,
        needs: impl Fn(usize) -> &'b [usize],
        acquired: impl Fn(usize, &ServiceHandle),
    ) -> Poll<Result<(), (usize, procref::Error)>> {
        // A dependency comes before its dependents, so one pass begins everything that can begin.
        for at in 0..self.slots.len() {
            let is_acquired = |at: &usize| matches!(self.slots[*at], Slot::Acquired(_));
            if matches!(self.slots[at], Slot::Waiting) && needs(at).iter().all(is_acquired) {
                self.slots[at] = Slot::Acquiring(Box::pin(self.services[at].acquire()));
            }
            let Slot::Acquiring(acquire) = &mut self.slots[at] else {
                continue;
            };
            match acquire.as_mut().poll(context) {
                Poll::Ready(Ok(handle)) => {
                    acquired(at, &handle);
                    self.slots[at] = Slot::Acquired(handle);
                }
                Poll::Ready(Err(error)) => {
                    self.slots[at] = Slot::Waiting;
                    return Poll::Ready(Err((at, error)));
                }
                Poll::Pending => {}
            }
        }
        let is_acquired = |slot: &Slot<'_>| matches!(slot, Slot::Acquired(_));
        match self.slots.iter().all(is_acquired) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Cancels what is not acquired yet, and returns the handle of each service that is.
    pub fn into_acquired(self) -> Vec<ServiceHandle> {
        let slots = self.slots.into_iter();
        slots
            .filter_map(|slot| match slot {
                Slot::Acquired(handle) => Some(handle),
                Slot::Waiting | Slot::Acquiring(_) => None,
            })
            .collect()
    }
}
