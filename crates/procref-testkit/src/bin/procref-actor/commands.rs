//! What each command does.

use std::any::Any;
use std::error::Error as _;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use procref::process::Process;
use procref::{PlatformRefCounter, RefCounter, Removed, ServiceHandle, ServiceInfo, Services};
use procref_testkit::observe;
use procref_testkit::protocol::{
    Acquired, Command, CounterOp, DropContext, Failure, Gate, ProcessOp, Reply, ServiceSpec,
    Serving, StatusReport, StormReport, Via,
};

use crate::callbacks;
use crate::drops::drop_in;
use crate::runtime::{Ticking, drive};
use crate::stage::{Gates, Stage, lock};

/// Runs a command on a thread of its own and answers when it is done.
pub fn run(stage: &Arc<Stage>, id: u64, command: Command) {
    // Registered here, so that a cancellation that follows finds it.
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
        lock(&stage.cancels).insert(id, Arc::default());
    }
    let stage = Arc::clone(stage);
    std::thread::spawn(move || {
        let worker = {
            let stage = Arc::clone(&stage);
            std::thread::spawn(move || perform(&stage, id, command))
        };
        let reply = worker
            .join()
            .unwrap_or_else(|panic| Reply::Panicked(panic_text(&*panic)));
        lock(&stage.cancels).remove(&id);
        stage.answer(id, reply);
    });
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "something that is no text".to_owned())
}

fn perform(stage: &Arc<Stage>, id: u64, command: Command) -> Reply {
    match command {
        Command::Build { service, spec } => build(stage, service, &spec),
        Command::Rewrite { mib } => {
            let mut ballast = lock(&stage.ballast);
            ballast.resize(mib << 20, 0);
            for byte in ballast.iter_mut() {
                *byte = byte.wrapping_add(1);
            }
            Reply::Done
        }
        Command::DropService { service } => {
            let forgotten = lock(&stage.services).remove(&service);
            drop(forgotten);
            Reply::Done
        }
        Command::Acquire {
            service,
            handle,
            via,
        } => acquire(stage, id, service, handle, via),
        Command::AcquireMany { service, count } => acquire_many(stage, service, count),
        Command::Cancel { request } => {
            let gate = lock(&stage.cancels).get(&request).cloned();
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
            let service = stage.service(service);
            let joined = drive(via, None, async move { service.try_join().await });
            match joined {
                Ok(Some(joined)) => keep(stage, handle, joined),
                Ok(None) => Reply::Nothing,
                Err(error) => failed(&error),
            }
        }
        Command::Pin { handle } => outcome(stage.handle(handle).pin(), |()| Reply::Done),
        Command::Current { handle } => outcome(stage.handle(handle).current(), |info| {
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
            let handle = stage.handle(handle);
            if via == Via::Blocking {
                let limit = Duration::from_millis(limit_ms);
                return outcome(handle.wait_dead_blocking(limit), Reply::Flag);
            }
            wait_all(stage, id, via, count, move || {
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
            let service = stage.service(service);
            if via == Via::Blocking {
                let limit = Duration::from_millis(limit_ms);
                return outcome(service.wait_stopped_blocking(limit), Reply::Flag);
            }
            wait_all(stage, id, via, count, move || {
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
            let service = stage.service(service);
            if via == Via::Blocking {
                let limit = Duration::from_millis(limit_ms);
                let ready = service.wait_ready_blocking(limit);
                return outcome(ready, |info| Reply::Flag(info.is_some()));
            }
            wait_all(stage, id, via, count, move || {
                let service = Arc::clone(&service);
                async move { service.wait_ready().await.map(drop) }
            })
        }
        Command::Unpin { service, via } => unpin(stage, id, service, via),
        Command::Stop {
            service,
            force,
            via,
        } => stop(stage, id, service, force, via),
        Command::Release { handle, via } => release(stage, id, handle, via),
        Command::Drop { handle, context } => {
            drop_in(context, stage.take_handle(handle));
            Reply::Done
        }
        Command::DropAll => {
            stage.clear();
            Reply::Done
        }
        Command::Count { service } => outcome(stage.service(service).count(), Reply::Count),
        Command::Status { service } => outcome(stage.service(service).status(), |status| {
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
            stage.built(service).1.get(gate).open();
            Reply::Done
        }
        Command::Storm {
            service,
            rounds,
            pause_us,
        } => Reply::Stormed(storm(stage, service, rounds, pause_us)),
        Command::Counter { counter, name, dir } => {
            let opened = match dir {
                Some(dir) => PlatformRefCounter::in_dir(&name, dir),
                None => PlatformRefCounter::new(&name),
            };
            outcome(opened, |opened| {
                lock(&stage.counters).insert(counter, Arc::new(opened));
                Reply::Done
            })
        }
        Command::CounterOp { counter, op } => {
            let counter = lock(&stage.counters).get(&counter).cloned();
            count(&*counter.expect("a counter of this number"), op)
        }
        Command::Gc { dir, rounds } => outcome(gc(&dir, rounds), |reply| reply),
        Command::Process { op, pid } => process(op, pid),
        Command::Fork { .. } | Command::Exec | Command::Die(_) => {
            unreachable!("left to the thread that reads commands")
        }
    }
}

pub fn failed(error: &procref::Error) -> Reply {
    let mut sources = Vec::new();
    let mut source = error.source();
    while let Some(below) = source {
        sources.push(below.to_string());
        source = below.source();
    }
    Reply::Failed(Failure {
        text: error.to_string(),
        sources,
        debug: format!("{error:?}"),
    })
}

fn outcome<T>(result: procref::Result<T>, reply: impl FnOnce(T) -> Reply) -> Reply {
    match result {
        Ok(value) => reply(value),
        Err(error) => failed(&error),
    }
}

fn build(stage: &Stage, number: u32, spec: &ServiceSpec) -> Reply {
    let gates = Arc::<Gates>::default();
    outcome(callbacks::build(spec, &gates, stage.voice()), |service| {
        let reply = Reply::Built {
            kernel_object: service.kernel_object(),
            runtime_dir: service.runtime_dir().to_owned(),
        };
        lock(&stage.services).insert(number, (Arc::new(service), gates));
        reply
    })
}

fn keep(stage: &Stage, number: u32, handle: ServiceHandle) -> Reply {
    let at = observe::now_ns();
    let metadata = metadata(handle.info());
    let acquired = Acquired {
        pid: handle.pid(),
        port: handle.port(),
        generation: handle.generation(),
        metadata,
        at,
    };
    lock(&stage.handles).insert(number, Arc::new(handle));
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
    stage: &Stage,
    id: u64,
    via: Via,
    count: u32,
    wait: impl Fn() -> F + Send + 'static,
) -> Reply
where
    F: Future<Output = procref::Result<()>> + Send + 'static,
{
    let cancel = cancel_gate(stage, id);
    let result = drive(via, None, async move {
        let mut waits: Vec<_> = (0..count).map(|_| Some(Box::pin(wait()))).collect();
        let all = std::future::poll_fn(|context| {
            for wait in &mut waits {
                match wait.as_mut().map(|it| it.as_mut().poll(context)) {
                    Some(Poll::Ready(Ok(()))) => *wait = None,
                    Some(Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                    Some(Poll::Pending) | None => {}
                }
            }
            match waits.iter().all(Option::is_none) {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        });
        or_cancelled(all, &cancel).await
    });
    result.map_or(Reply::Cancelled, |it| outcome(it, |()| Reply::Done))
}

fn acquire(stage: &Stage, id: u64, service: u32, handle: u32, via: Via) -> Reply {
    let (service, gates) = stage.built(service);
    if via == Via::Blocking {
        return outcome(service.acquire_blocking(), |got| keep(stage, handle, got));
    }
    let cancel = cancel_gate(stage, id);
    let ticking = Ticking {
        gate: gates.get(Gate::Tick),
        voice: stage.voice(),
    };
    let result = drive(via, Some(ticking), async move {
        or_cancelled(service.acquire(), &cancel).await
    });
    match result {
        None => Reply::Cancelled,
        Some(result) => outcome(result, |got| keep(stage, handle, got)),
    }
}

fn cancel_gate(stage: &Stage, id: u64) -> Arc<crate::gate::Gate> {
    let gate = lock(&stage.cancels).get(&id).cloned();
    gate.expect("registered when the command came")
}

/// None when the gate opened first; `future` is dropped by then.
async fn or_cancelled<T>(future: impl Future<Output = T>, cancel: &crate::gate::Gate) -> Option<T> {
    let wanted = async { Some(future.await) };
    let unwanted = async {
        cancel.pass().await;
        None
    };
    smol::future::or(wanted, unwanted).await
}

fn acquire_many(stage: &Stage, service: u32, count: u32) -> Reply {
    let service = stage.service(service);
    let result = drive(Via::TokioCurrent, None, async move {
        let tasks: Vec<_> = (0..count)
            .map(|_| {
                let service = Arc::clone(&service);
                tokio::spawn(async move { service.acquire().await })
            })
            .collect();
        let mut handles = Vec::new();
        for task in tasks {
            handles.push(task.await.expect("the task ends well")?);
        }
        Ok(handles.len())
    });
    outcome(result, |held| {
        Reply::Count(u32::try_from(held).expect("not that many"))
    })
}

fn release(stage: &Stage, id: u64, number: u32, via: Via) -> Reply {
    let handle = stage.take_handle(number);
    if via == Via::Blocking {
        return outcome(handle.release_blocking(), |()| Reply::Done);
    }
    // Any service's gate will do for the tick: tests of it have only one.
    let ticking = lock(&stage.services)
        .values()
        .next()
        .map(|(_, gates)| Ticking {
            gate: gates.get(Gate::Tick),
            voice: stage.voice(),
        });
    let cancel = cancel_gate(stage, id);
    let result = drive(via, ticking, async move {
        or_cancelled(handle.release(), &cancel).await
    });
    result.map_or(Reply::Cancelled, |it| outcome(it, |()| Reply::Done))
}

fn unpin(stage: &Stage, id: u64, service: u32, via: Via) -> Reply {
    let service = stage.service(service);
    if via == Via::Blocking {
        return outcome(service.unpin_blocking(), Reply::Flag);
    }
    let cancel = cancel_gate(stage, id);
    let result = drive(via, None, async move {
        or_cancelled(service.unpin(), &cancel).await
    });
    result.map_or(Reply::Cancelled, |it| outcome(it, Reply::Flag))
}

fn stop(stage: &Stage, id: u64, service: u32, force: bool, via: Via) -> Reply {
    let service = stage.service(service);
    if via == Via::Blocking {
        let stopped = if force {
            service.force_stop_blocking()
        } else {
            service.stop_blocking()
        };
        return outcome(stopped, Reply::Flag);
    }
    let cancel = cancel_gate(stage, id);
    let result = drive(via, None, async move {
        let stopped = async {
            if force {
                service.force_stop().await
            } else {
                service.stop().await
            }
        };
        or_cancelled(stopped, &cancel).await
    });
    result.map_or(Reply::Cancelled, |it| outcome(it, Reply::Flag))
}

fn storm(stage: &Stage, number: u32, rounds: u32, pause_us: u64) -> StormReport {
    let (service, _) = stage.built(number);
    let mut report = StormReport::default();
    let mut dice = u64::from(std::process::id());
    for round in 0..rounds {
        // A linear congruence is chance enough to be out of step.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_micros((dice >> 33) % (pause_us + 1)));
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
        let well = match procref_testkit::query::service(port) {
            Ok((who, true)) if who == pid => true,
            other => {
                let text = format!("round {round}: held {pid}:{port}, which said {other:?}");
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
            Ok(()) if well => report.good += 1,
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

fn count(counter: &dyn RefCounter, op: CounterOp) -> Reply {
    match op {
        CounterOp::Acquire => outcome(counter.acquire(), Reply::Count),
        CounterOp::Release => outcome(counter.release(), Reply::Count),
        CounterOp::Count => outcome(counter.count(), Reply::Count),
        CounterOp::TryLock => outcome(counter.try_lock(), Reply::Flag),
        CounterOp::Unlock => outcome(counter.unlock(), |()| Reply::Done),
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
        ProcessOp::Open => return outcome(Process::open(pid), |_| Reply::Done),
        ProcessOp::OpenAndStop => {
            let stopped = Process::open(pid).and_then(|it| it.stop(Duration::from_secs(1)));
            return outcome(stopped, |()| Reply::Done);
        }
    }
    Reply::Done
}
