//! A method for each command, which checks the reply.

use std::sync::atomic::Ordering;

use super::{Actor, Held, Pending};
use crate::key::{Key, parse_key};
use crate::protocol::{
    Command, CounterOp, DropContext, Failure, Gate, Reply, ServiceSpec, Serving, StatusReport,
    StormReport, Via,
};
use crate::shared::lock;

/// A time that no test reaches.
const LONG_MS: u64 = 1_000_000;

impl Actor {
    #[track_caller]
    fn done(&self, command: Command) {
        let what = format!("{command:?}");
        let reply = self.call(command);
        assert_eq!(reply, Reply::Done, "{what} in actor {}", self.identity);
    }

    /// Builds the service as number 0 and returns its key.
    ///
    /// # Panics
    ///
    /// Panics if the library refuses the service.
    #[track_caller]
    pub fn build(&self, spec: &ServiceSpec) -> Key {
        self.build_as(0, spec)
    }

    /// Builds the service and returns its key.
    ///
    /// # Panics
    ///
    /// Panics if the library refuses the service.
    #[track_caller]
    pub fn build_as(&self, service: u32, spec: &ServiceSpec) -> Key {
        self.try_build_as(service, spec)
            .unwrap_or_else(|failure| panic!("build: {failure:?}"))
    }

    /// Builds the service and returns its key.
    ///
    /// # Errors
    ///
    /// Returns the error of the library.
    ///
    /// # Panics
    ///
    /// Panics if the actor exits or the deadline passes first.
    #[track_caller]
    pub fn try_build_as(&self, service: u32, spec: &ServiceSpec) -> Result<Key, Failure> {
        let name = spec.name.clone();
        let spec = Box::new(spec.clone());
        match self.call(Command::Build { service, spec }) {
            Reply::Built {
                kernel_object,
                runtime_dir,
            } => {
                let key = parse_key(&kernel_object);
                lock(&self.shared.keys).insert(key, (name, runtime_dir));
                Ok(key)
            }
            Reply::Failed(failure) => Err(failure),
            reply => panic!("build: {reply:?}"),
        }
    }

    /// Starts to acquire service 0.
    ///
    /// # Panics
    ///
    /// Panics if the actor no longer reads its input.
    #[track_caller]
    pub fn begin_acquire(&self, via: Via) -> Pending {
        self.begin_acquire_of(0, via)
    }

    /// Starts to acquire a service.
    ///
    /// # Panics
    ///
    /// Panics if the actor no longer reads its input.
    #[track_caller]
    pub fn begin_acquire_of(&self, service: u32, via: Via) -> Pending {
        let handle = self.handles.fetch_add(1, Ordering::Relaxed);
        self.begin(Command::Acquire {
            service,
            handle,
            via,
        })
    }

    /// Waits for the result of an acquire.
    ///
    /// # Errors
    ///
    /// Returns the error of the library.
    ///
    /// # Panics
    ///
    /// Panics on any other reply, for example if the actor has panicked.
    #[track_caller]
    pub fn finish_acquire(&self, pending: Pending) -> Result<Held, Failure> {
        let handle = pending.handle;
        match self.reply(pending) {
            Reply::Acquired(got) => Ok(Held { handle, got }),
            Reply::Failed(failure) => Err(failure),
            reply => panic!("acquire in actor {}: {reply:?}", self.identity),
        }
    }

    /// Acquires service 0.
    ///
    /// # Errors
    ///
    /// Returns the error of the library.
    #[track_caller]
    pub fn try_acquire(&self, via: Via) -> Result<Held, Failure> {
        let pending = self.begin_acquire(via);
        self.finish_acquire(pending)
    }

    /// Acquires service 0, which must succeed.
    ///
    /// # Panics
    ///
    /// Panics if the command fails.
    #[track_caller]
    pub fn acquire(&self) -> Held {
        self.acquire_via(Via::TokioMulti)
    }

    /// Acquires service 0, which must succeed.
    ///
    /// # Panics
    ///
    /// Panics if the command fails.
    #[track_caller]
    pub fn acquire_via(&self, via: Via) -> Held {
        self.try_acquire(via)
            .unwrap_or_else(|failure| panic!("acquire in actor {}: {failure:#?}", self.identity))
    }

    /// Joins service 0 if it runs.
    ///
    /// # Errors
    ///
    /// Returns the error of the library.
    ///
    /// # Panics
    ///
    /// Panics on any other reply, for example if the actor has panicked.
    #[track_caller]
    pub fn try_join(&self) -> Result<Option<Held>, Failure> {
        let handle = self.handles.fetch_add(1, Ordering::Relaxed);
        let command = Command::TryJoin {
            service: 0,
            handle,
            via: Via::Pollster,
        };
        match self.call(command) {
            Reply::Acquired(got) => Ok(Some(Held { handle, got })),
            Reply::Nothing => Ok(None),
            Reply::Failed(failure) => Err(failure),
            reply => panic!("try_join in actor {}: {reply:?}", self.identity),
        }
    }

    /// Releases with `release().await`, which must succeed.
    ///
    /// # Panics
    ///
    /// Panics if the command fails.
    #[track_caller]
    pub fn release(&self, held: &Held) {
        self.release_via(held, Via::TokioMulti);
    }

    /// Releases, which must succeed.
    ///
    /// # Panics
    ///
    /// Panics if the command fails.
    #[track_caller]
    pub fn release_via(&self, held: &Held, via: Via) {
        self.done(Command::Release {
            handle: held.handle,
            via,
        });
    }

    /// Releases.
    ///
    /// # Errors
    ///
    /// Returns the error of the library.
    ///
    /// # Panics
    ///
    /// Panics on any other reply, for example if the actor has panicked.
    #[track_caller]
    pub fn try_release(&self, held: &Held, via: Via) -> Result<(), Failure> {
        match self.call(Command::Release {
            handle: held.handle,
            via,
        }) {
            Reply::Done => Ok(()),
            Reply::Failed(failure) => Err(failure),
            reply => panic!("release in actor {}: {reply:?}", self.identity),
        }
    }

    /// Pins service 0.
    ///
    /// # Panics
    ///
    /// Panics if the command fails.
    #[track_caller]
    pub fn pin(&self, held: &Held) {
        let handle = held.handle;
        self.done(Command::Pin { handle });
    }

    /// Unpins service 0. Returns `true` if the service was pinned.
    ///
    /// # Panics
    ///
    /// Panics if the command fails.
    #[track_caller]
    pub fn unpin(&self, via: Via) -> bool {
        match self.call(Command::Unpin { service: 0, via }) {
            Reply::Flag(pinned) => pinned,
            reply => panic!("unpin in actor {}: {reply:?}", self.identity),
        }
    }

    /// Returns the current instance, according to a handle.
    ///
    /// # Errors
    ///
    /// Returns the error of the library.
    ///
    /// # Panics
    ///
    /// Panics on any other reply, for example if the actor has panicked.
    #[track_caller]
    pub fn current(&self, held: &Held) -> Result<Option<Serving>, Failure> {
        let handle = held.handle;
        match self.call(Command::Current { handle }) {
            Reply::Serves(info) => Ok(info),
            Reply::Failed(failure) => Err(failure),
            reply => panic!("current in actor {}: {reply:?}", self.identity),
        }
    }

    /// Starts to wait for the death of a handle's instance, with `count` futures.
    ///
    /// # Panics
    ///
    /// Panics if the actor no longer reads its input.
    #[track_caller]
    pub fn begin_wait_dead(&self, held: &Held, count: u32, via: Via) -> Pending {
        self.begin(Command::WaitDead {
            handle: held.handle,
            count,
            limit_ms: LONG_MS,
            via,
        })
    }

    /// Starts to wait for the end of service 0, with `count` futures.
    ///
    /// # Panics
    ///
    /// Panics if the actor no longer reads its input.
    #[track_caller]
    pub fn begin_wait_stopped(&self, count: u32, via: Via) -> Pending {
        self.begin(Command::WaitStopped {
            service: 0,
            count,
            limit_ms: LONG_MS,
            via,
        })
    }

    /// Starts to wait until a client has started service 0, with `count` futures.
    ///
    /// # Panics
    ///
    /// Panics if the actor no longer reads its input.
    #[track_caller]
    pub fn begin_wait_ready(&self, count: u32, via: Via) -> Pending {
        self.begin(Command::WaitReady {
            service: 0,
            count,
            limit_ms: LONG_MS,
            via,
        })
    }

    /// Starts to stop service 0. With `force`, stops the service even if clients hold it.
    ///
    /// # Panics
    ///
    /// Panics if the actor no longer reads its input.
    #[track_caller]
    pub fn begin_stop(&self, force: bool, via: Via) -> Pending {
        self.begin(Command::Stop {
            service: 0,
            force,
            via,
        })
    }

    /// Waits for the result of a stop. Returns `true` if there was an instance to stop.
    ///
    /// # Errors
    ///
    /// Returns the error of the library.
    ///
    /// # Panics
    ///
    /// Panics on any other reply, for example if the actor has panicked.
    #[track_caller]
    pub fn finish_stop(&self, pending: Pending) -> Result<bool, Failure> {
        match self.reply(pending) {
            Reply::Flag(stopped) => Ok(stopped),
            Reply::Failed(failure) => Err(failure),
            reply => panic!("stop in actor {}: {reply:?}", self.identity),
        }
    }

    /// Stops service 0. Returns `true` if there was an instance to stop.
    ///
    /// # Errors
    ///
    /// Returns the error of the library.
    ///
    /// # Panics
    ///
    /// Panics on any other reply.
    #[track_caller]
    pub fn stop(&self, force: bool, via: Via) -> Result<bool, Failure> {
        let pending = self.begin_stop(force, via);
        self.finish_stop(pending)
    }

    /// Waits until a wait has succeeded.
    ///
    /// # Panics
    ///
    /// Panics on any other reply.
    #[track_caller]
    pub fn finish_wait(&self, pending: Pending) {
        match self.reply(pending) {
            Reply::Done | Reply::Flag(true) => {}
            reply => panic!("wait in actor {}: {reply:?}", self.identity),
        }
    }

    /// Drops a handle.
    ///
    /// # Panics
    ///
    /// Panics if the drop panics.
    #[track_caller]
    pub fn drop_handle(&self, held: &Held, context: DropContext) {
        self.done(Command::Drop {
            handle: held.handle,
            context,
        });
    }

    /// Calls `count` on service 0.
    ///
    /// # Panics
    ///
    /// Panics if the command fails.
    #[track_caller]
    pub fn count(&self) -> u32 {
        match self.call(Command::Count { service: 0 }) {
            Reply::Count(count) => count,
            reply => panic!("count in actor {}: {reply:?}", self.identity),
        }
    }

    /// Calls `status` on service 0.
    ///
    /// # Panics
    ///
    /// Panics if the command fails.
    #[track_caller]
    pub fn status(&self) -> StatusReport {
        match self.call(Command::Status { service: 0 }) {
            Reply::Status(status) => status,
            reply => panic!("status in actor {}: {reply:?}", self.identity),
        }
    }

    /// Lets one future pass a gate of service 0.
    ///
    /// # Panics
    ///
    /// Panics if the actor exits or the deadline passes first.
    #[track_caller]
    pub fn proceed(&self, gate: Gate) {
        self.done(Command::Proceed { service: 0, gate });
    }

    /// Drops the future of a request. Returns `true` if the request had not completed.
    ///
    /// # Panics
    ///
    /// Panics if the actor exits or the deadline passes first.
    #[track_caller]
    pub fn cancel(&self, pending: Pending) -> bool {
        self.done(Command::Cancel {
            request: pending.request,
        });
        self.reply(pending) == Reply::Cancelled
    }

    /// Waits for the report of a storm.
    ///
    /// # Panics
    ///
    /// Panics on any other reply.
    #[track_caller]
    pub fn finish_storm(&self, pending: Pending) -> StormReport {
        match self.reply(pending) {
            Reply::Stormed(report) => report,
            reply => panic!("storm in actor {}: {reply:?}", self.identity),
        }
    }

    /// Opens a counter.
    ///
    /// # Panics
    ///
    /// Panics if the counter cannot be opened.
    #[track_caller]
    pub fn counter(&self, counter: u32, name: &str) {
        let (name, dir) = (name.to_owned(), None);
        self.done(Command::Counter { counter, name, dir });
    }

    /// Performs an operation of a counter.
    ///
    /// # Panics
    ///
    /// Panics if the actor exits or the deadline passes first.
    #[track_caller]
    pub fn counter_op(&self, counter: u32, op: CounterOp) -> Reply {
        self.call(Command::CounterOp { counter, op })
    }
}
