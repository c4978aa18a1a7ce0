//! The commands of an actor.

use std::any::Any;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use procref::process::Process;
use procref::{PlatformRefCounter, RefCounter, Removed, ServiceHandle, ServiceInfo, Services};
use procref_testkit::observe;
use procref_testkit::protocol::{
    Acquired, Command, CounterOp, DropContext, Gate, ProcessOp, Reply, ServiceSpec, Serving,
    StatusReport, StormReport, Via,
};

use crate::drop_contexts::drop_in;
use crate::runtime::{Ticker, drive};
use crate::state::{ActorState, Gates, lock};
use crate::{callbacks, reply};

/// Runs a command in its own thread, and replies when the command is done.
pub fn run(state: &Arc<ActorState>, id: u64, command: Command) {
    // This is registered before the thread starts, so that the next command can cancel the request.
    let cancellable = match command {
        Command::Acquire { via, .. }
        | Command::Release { via, .. }
        | Command::Unpin { via, .. }
        | Command::Stop { via, .. }
        | Command::WaitReady { via, .. }
        | Command::WaitDead { via, .. }
        | Command::WaitStopped { via, .. } => via != Via::Blocking,
        _ => false,
    };
    if cancellable {
        lock(&state.cancellations).insert(id, Arc::default());
    }
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        let worker = {
            let state = Arc::clone(&state);
            std::thread::spawn(move || perform(&state, id, command))
        };
        let reply = worker
            .join()
            .unwrap_or_else(|panic| Reply::Panicked(panic_text(&*panic)));
        lock(&state.cancellations).remove(&id);
        state.reporter.reply(id, reply);
    });
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

fn perform(state: &Arc<ActorState>, id: u64, command: Command) -> Reply {
    match command {
        Command::Build { service, spec } => build(state, service, &spec),
        Command::Rewrite { mib } => {
            let mut memory = lock(&state.memory);
            memory.resize(mib << 20, 0);
            for byte in memory.iter_mut() {
                *byte = byte.wrapping_add(1);
            }
            Reply::Done
        }
        Command::DropService { service } => {
            let dropped = lock(&state.services).remove(&service);
            drop(dropped);
            Reply::Done
        }
        Command::Acquire {
            service,
            handle,
            via,
        } => acquire(state, id, service, handle, via),
        Command::AcquireMany { service, count } => acquire_many(state, service, count),
        Command::Cancel { request } => {
            let gate = lock(&state.cancellations).get(&request).cloned();
            if let Some(gate) = gate {
                gate.open();
            }
            Reply::Done
        }
        Command::TryJoin {
            service,
            handle,
            via,
        } => {
            let service = state.service(service);
            let joined = drive(via, None, async move { service.try_join().await });
            match joined {
                Ok(Some(joined)) => add_handle(state, handle, joined),
                Ok(None) => Reply::Nothing,
                Err(error) => reply::error(&error),
            }
        }
        Command::Pin { handle } => reply::result(state.handle(handle).pin(), |()| Reply::Done),
        Command::Current { handle } => reply::result(state.handle(handle).current(), |info| {
            Reply::Serves(info.map(|info| Serving {
                pid: info.pid(),
                metadata: metadata(&info),
            }))
        }),
        Command::WaitDead {
            handle,
            count,
            limit_ms,
            via,
        } => {
            let handle = state.handle(handle);
            if via == Via::Blocking {
                let limit = Duration::from_millis(limit_ms);
                return reply::result(handle.wait_dead_blocking(limit), Reply::Flag);
            }
            wait_all(state, id, via, count, move || {
                let handle = Arc::clone(&handle);
                async move { handle.wait_dead().await }
            })
        }
        Command::WaitStopped {
            service,
            count,
            limit_ms,
            via,
        } => {
            let service = state.service(service);
            if via == Via::Blocking {
                let limit = Duration::from_millis(limit_ms);
                return reply::result(service.wait_stopped_blocking(limit), Reply::Flag);
            }
            wait_all(state, id, via, count, move || {
                let service = Arc::clone(&service);
                async move { service.wait_stopped().await }
            })
        }
        Command::WaitReady {
            service,
            count,
            limit_ms,
            via,
        } => {
            let service = state.service(service);
            if via == Via::Blocking {
                let limit = Duration::from_millis(limit_ms);
                let ready = service.wait_ready_blocking(limit);
                return reply::result(ready, |info| Reply::Flag(info.is_some()));
            }
            wait_all(state, id, via, count, move || {
                let service = Arc::clone(&service);
                async move { service.wait_ready().await.map(drop) }
            })
        }
        Command::Unpin { service, via } => unpin(state, id, service, via),
        Command::Stop {
            service,
            force,
            via,
        } => stop(state, id, service, force, via),
        Command::Release { handle, via } => release(state, id, handle, via),
        Command::Drop { handle, context } => {
            drop_in(context, state.take_handle(handle));
            Reply::Done
        }
        Command::DropAll => {
            state.drop_all();
            Reply::Done
        }
        Command::Count { service } => reply::result(state.service(service).count(), Reply::Count),
        Command::Status { service } => reply::result(state.service(service).status(), |status| {
            Reply::Status(StatusReport {
                clients: status.clients(),
                generation: status.generation(),
                instance: status.instance().map(procref::ServiceInfo::pid),
                state: format!("{:?}", status.state()),
                transition: status.transition(),
                exit: status.exit_status().map(|status| status.to_string()),
                pinned: status.is_pinned(),
            })
        }),
        Command::Proceed { service, gate } => {
            state.built(service).1.get(gate).open();
            Reply::Done
        }
        Command::Storm {
            service,
            rounds,
            pause_us,
        } => Reply::Stormed(storm(state, service, rounds, pause_us)),
        Command::Counter { counter, name, dir } => {
            let opened = match dir {
                Some(dir) => PlatformRefCounter::in_dir(&name, dir),
                None => PlatformRefCounter::new(&name),
            };
            reply::result(opened, |opened| {
                lock(&state.counters).insert(counter, Arc::new(opened));
                Reply::Done
            })
        }
        Command::CounterOp { counter, op } => {
            let counter = lock(&state.counters).get(&counter).cloned();
            counter_op(&*counter.expect("a counter of this number"), op)
        }
        Command::Gc { dir, rounds } => reply::result(gc(&dir, rounds), |reply| reply),
        Command::Process { op, pid } => process(op, pid),
        Command::Fork { .. } | Command::Exec | Command::Die(_) => {
            unreachable!("the thread that reads commands handles this")
        }
    }
}

fn build(state: &ActorState, number: u32, spec: &ServiceSpec) -> Reply {
    let gates = Arc::<Gates>::default();
    reply::result(
        callbacks::build(spec, &gates, state.reporter()),
        |service| {
            let built = Reply::Built {
                kernel_object: service.kernel_object(),
                runtime_dir: service.runtime_dir().to_owned(),
            };
            lock(&state.services).insert(number, (Arc::new(service), gates));
            built
        },
    )
}

/// Stores a handle under its number.
fn add_handle(state: &ActorState, number: u32, handle: ServiceHandle) -> Reply {
    let at = observe::now_ns();
    let metadata = metadata(handle.info());
    let acquired = Acquired {
        pid: handle.pid(),
        port: handle.port(),
        generation: handle.generation(),
        metadata,
        at,
    };
    lock(&state.handles).insert(number, Arc::new(handle));
    Reply::Acquired(acquired)
}

fn metadata(info: &ServiceInfo) -> Vec<(String, String)> {
    let mut metadata: Vec<_> = info
        .metadata()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    metadata.sort();
    metadata
}

/// Waits with several futures of one task at once.
fn wait_all<F>(
    state: &ActorState,
    id: u64,
    via: Via,
    count: u32,
    wait: impl Fn() -> F + Send + 'static,
) -> Reply
where
    F: Future<Output = procref::Result<()>> + Send + 'static,
{
    let all = async move {
        let mut waits: Vec<_> = (0..count).map(|_| Some(Box::pin(wait()))).collect();
        std::future::poll_fn(|context| {
            for wait in &mut waits {
                match wait.as_mut().map(|wait| wait.as_mut().poll(context)) {
                    Some(Poll::Ready(Ok(()))) => *wait = None,
                    Some(Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                    Some(Poll::Pending) | None => {}
                }
            }
            match waits.iter().all(Option::is_none) {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        })
        .await
    };
    drive_cancellable(state, id, via, None, all, |()| Reply::Done)
}

/// Drives a future that [`Command::Cancel`] can drop. Returns the reply for its result.
fn drive_cancellable<T: Send + 'static>(
    state: &ActorState,
    id: u64,
    via: Via,
    ticker: Option<Ticker>,
    future: impl Future<Output = procref::Result<T>> + Send + 'static,
    reply: impl FnOnce(T) -> Reply,
) -> Reply {
    let cancelled = lock(&state.cancellations).get(&id).cloned();
    let cancelled = cancelled.expect("registered when the command was read");
    let result = drive(via, ticker, async move {
        let completed = async { Some(future.await) };
        let cancelled = async {
            cancelled.pass().await;
            None
        };
        smol::future::or(completed, cancelled).await
    });
    result.map_or(Reply::Cancelled, |result| reply::result(result, reply))
}

fn acquire(state: &ActorState, id: u64, service: u32, number: u32, via: Via) -> Reply {
    let (service, gates) = state.built(service);
    let add = |handle| add_handle(state, number, handle);
    if via == Via::Blocking {
        return reply::result(service.acquire_blocking(), add);
    }
    let ticker = Ticker {
        gate: gates.get(Gate::Tick),
        reporter: state.reporter(),
    };
    let acquired = async move { service.acquire().await };
    drive_cancellable(state, id, via, Some(ticker), acquired, add)
}

fn acquire_many(state: &ActorState, service: u32, count: u32) -> Reply {
    let service = state.service(service);
    let result = drive(Via::TokioCurrent, None, async move {
        let tasks: Vec<_> = (0..count)
            .map(|_| {
                let service = Arc::clone(&service);
                tokio::spawn(async move { service.acquire().await })
            })
            .collect();
        let mut handles = Vec::new();
        for task in tasks {
            handles.push(task.await.expect("the task does not panic")?);
        }
        Ok(handles.len())
    });
    reply::result(result, |count| {
        Reply::Count(u32::try_from(count).expect("few handles"))
    })
}

fn release(state: &ActorState, id: u64, number: u32, via: Via) -> Reply {
    let handle = state.take_handle(number);
    if via == Via::Blocking {
        return reply::result(handle.release_blocking(), |()| Reply::Done);
    }
    // The gate of any service is correct here, because tests that use `Gate::Tick` have only one service.
    let ticker = lock(&state.services)
        .values()
        .next()
        .map(|(_, gates)| Ticker {
            gate: gates.get(Gate::Tick),
            reporter: state.reporter(),
        });
    let released = async move { handle.release().await };
    drive_cancellable(state, id, via, ticker, released, |()| Reply::Done)
}

fn unpin(state: &ActorState, id: u64, service: u32, via: Via) -> Reply {
    let service = state.service(service);
    if via == Via::Blocking {
        return reply::result(service.unpin_blocking(), Reply::Flag);
    }
    let unpinned = async move { service.unpin().await };
    drive_cancellable(state, id, via, None, unpinned, Reply::Flag)
}

fn stop(state: &ActorState, id: u64, service: u32, force: bool, via: Via) -> Reply {
    let service = state.service(service);
    if via == Via::Blocking {
        let stopped = if force {
            service.force_stop_blocking()
        } else {
            service.stop_blocking()
        };
        return reply::result(stopped, Reply::Flag);
    }
    let stopped = async move {
        if force {
            service.force_stop().await
        } else {
            service.stop().await
        }
    };
    drive_cancellable(state, id, via, None, stopped, Reply::Flag)
}

/// Acquires, queries and releases a service repeatedly, with random pauses.
fn storm(state: &ActorState, number: u32, rounds: u32, pause_us: u64) -> StormReport {
    let (service, _) = state.built(number);
    let mut report = StormReport::default();
    let mut random = u64::from(std::process::id());
    for round in 0..rounds {
        // A linear congruential generator is sufficient to give the clients different pauses.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(Duration::from_micros((random >> 33) % (pause_us + 1)));
        let via = [Via::Blocking, Via::Pollster, Via::TokioCurrent][round as usize % 3];
        let acquired = match via {
            Via::Blocking => service.acquire_blocking(),
            _ => {
                let service = Arc::clone(&service);
                drive(via, None, async move { service.acquire().await })
            }
        };
        let handle = match acquired {
            Ok(handle) => handle,
            Err(error) => {
                report
                    .wrong
                    .push(format!("round {round}: acquire: {error:?}"));
                continue;
            }
        };
        let (pid, port) = (handle.pid(), handle.port());
        let healthy = match procref_testkit::query::service(port) {
            Ok((answering, true)) if answering == pid => true,
            other => {
                let text = format!("round {round}: held {pid}:{port}, which answered {other:?}");
                report.wrong.push(text);
                false
            }
        };
        let released = match round / 3 % 3 {
            0 => {
                drop_in(DropContext::Thread, handle);
                Ok(())
            }
            1 => handle.release_blocking(),
            _ => drive(via, None, async move { handle.release().await }),
        };
        match released {
            Ok(()) if healthy => report.good += 1,
            Ok(()) => {}
            Err(error) => report
                .wrong
                .push(format!("round {round}: release: {error:?}")),
        }
    }
    report.wrong.truncate(5);
    report
}

fn gc(dir: &Path, rounds: u32) -> procref::Result<Reply> {
    let (mut services, mut stopped, mut failures) = (0, Vec::new(), Vec::new());
    for _ in 0..rounds {
        let dir = dir.to_owned();
        let collected = drive(Via::TokioMulti, None, async move {
            Services::in_dir(dir)?.gc().await
        })?;
        services += collected.removed().len();
        stopped.extend(collected.removed().iter().filter_map(Removed::stopped));
        failures.extend(collected.failures().iter().map(ToString::to_string));
    }
    Ok(Reply::Collected {
        services,
        stopped,
        failures,
    })
}

fn counter_op(counter: &dyn RefCounter, op: CounterOp) -> Reply {
    match op {
        CounterOp::Acquire => reply::result(counter.acquire(), Reply::Count),
        CounterOp::Release => reply::result(counter.release(), Reply::Count),
        CounterOp::Count => reply::result(counter.count(), Reply::Count),
        CounterOp::TryLock => reply::result(counter.try_lock(), Reply::Flag),
        CounterOp::Unlock => reply::result(counter.unlock(), |()| Reply::Done),
    }
}

fn process(op: ProcessOp, pid: u32) -> Reply {
    match op {
        ProcessOp::IsAlive => return Reply::Flag(procref::process::is_alive(pid)),
        ProcessOp::Terminate => {
            procref::process::terminate(pid);
        }
        ProcessOp::Kill => {
            procref::process::kill(pid);
        }
        ProcessOp::Stop => {
            procref::process::stop(pid, 1_000);
        }
        ProcessOp::Open => return reply::result(Process::open(pid), |_| Reply::Done),
        ProcessOp::OpenAndStop => {
            let stopped =
                Process::open(pid).and_then(|process| process.stop(Duration::from_secs(1)));
            return reply::result(stopped, |()| Reply::Done);
        }
    }
    Reply::Done
}
