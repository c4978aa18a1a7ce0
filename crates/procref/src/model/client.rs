//! A client of a scenario: it performs its acts with the real engine.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::machine::Machine;
use super::process::{Sim, either};
use super::process_table::{ProcId, SinceCall};
use super::runner::Spawned;
use super::scenario::{Act, By, RELEASE_HANDLE, Recover};
use super::yield_points::Until;
use crate::command::ServiceCommand;
use crate::engine::acquire;
use crate::engine::client::Client;
use crate::engine::config::Config;
use crate::engine::handle::HandleInner;
use crate::engine::platform::Caller;
use crate::engine::stop_service::{self, IfHeld};
use crate::engine::waiting::Waiting;
use crate::engine::{follow, pin};
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::kernel::Supervised;
use crate::key::ServiceKey;
use crate::name::Name;
use crate::namespace::Namespace;
use crate::process::View;
use crate::runtime::BoxFuture;

/// Returns the key of the one service of the model.
fn key() -> ServiceKey {
    static KEY: OnceLock<ServiceKey> = OnceLock::new();
    let make = || {
        let namespace = Namespace::new(PathBuf::from("/made-up"), (0, 0), View::default());
        ServiceKey::new(namespace, Name::new("made-up").expect("a valid name"))
    };
    KEY.get_or_init(make).clone()
}

fn waiting(client: &Arc<Client<Sim>>, config: &Config) -> Waiting<Sim> {
    Waiting::new(client, config.patience())
}

/// Runs a client.
pub(super) async fn client(sim: Sim, acts: Vec<Act>) {
    let client = Arc::new(Client::new(sim.clone(), key()));
    let config = Arc::new(config(&sim));
    act(sim, client, config, acts).await;
}

fn act(sim: Sim, client: Arc<Client<Sim>>, config: Arc<Config>, acts: Vec<Act>) -> BoxFuture<()> {
    Box::pin(async move {
        let mut handles: Vec<HandleInner<Sim>> = Vec::new();
        for act_now in acts {
            sim.next_act();
            match act_now {
                Act::Acquire => {
                    sim.begin();
                    let acquired =
                        acquire::acquire(&client, &config, waiting(&client, &config), Caller::Task)
                            .await;
                    handles.extend(sim.acquired(acquired.map(Some)));
                }
                Act::AcquireOrCancel => {
                    sim.begin();
                    let cancel = |machine: &mut Machine| machine.state.left.cancels -= 1;
                    let cancelled = sim.wait("cancel", Until::Cancel, cancel);
                    match either(
                        acquire::acquire(&client, &config, waiting(&client, &config), Caller::Task),
                        cancelled,
                    )
                    .await
                    {
                        Ok(acquired) => handles.extend(sim.acquired(acquired.map(Some))),
                        Err(()) => sim.end_of_call(),
                    }
                }
                Act::TryJoin => {
                    sim.begin();
                    let joined = acquire::try_join(&client, &config, Supervised::No).await;
                    handles.extend(sim.acquired(joined));
                }
                Act::Release => {
                    if let Some(handle) = handles.pop() {
                        sim.begin_release(&handle).await;
                        sim.begin();
                        sim.lock().at_once = true;
                        let release = handle.release();
                        sim.lock().at_once = false;
                        let released = match release {
                            Some(release) => release.await,
                            None => Ok(()),
                        };
                        sim.expect(released, "release");
                        sim.end_of_call();
                        sim.end_release();
                    }
                }
                Act::Drop => {
                    if let Some(handle) = handles.pop() {
                        sim.begin_release(&handle).await;
                        drop(handle);
                    }
                }
                Act::Pin => {
                    if let Some(handle) = handles.last() {
                        sim.begin();
                        let pinned = handle.pin().await;
                        sim.expect(pinned, "pin");
                        sim.end_of_call();
                    }
                }
                Act::Unpin => {
                    sim.begin();
                    let unpinned = pin::unpin(&client, &config).await;
                    sim.expect(unpinned.map(drop), "unpin");
                    sim.end_of_call();
                }
                Act::Stop => {
                    sim.begin();
                    match stop_service::stop(&client, &config, IfHeld::Refuse).await {
                        Err(Error::Held { .. }) => {}
                        stopped => sim.expect(stopped.map(drop), "stop"),
                    }
                    sim.end_of_call();
                }
                Act::ForceStop => {
                    sim.begin();
                    let stopped = stop_service::stop(&client, &config, IfHeld::Override).await;
                    sim.expect(stopped.map(drop), "stop");
                    sim.end_of_call();
                }
                Act::WaitStopped => {
                    sim.begin();
                    let stopped = follow::wait_stopped(&client).await;
                    sim.expect(stopped, "wait_stopped");
                    sim.end_of_call();
                }
                Act::Beside(acts) => {
                    let (client, config) = (Arc::clone(&client), Arc::clone(&config));
                    let id = sim.id;
                    let beside = act(sim.clone(), client, config, acts);
                    sim.lock().spawned.push(Spawned::Task(id, beside));
                }
                Act::Exit => {
                    let id = sim.id;
                    let exit = |machine: &mut Machine| {
                        machine.mark_unattended();
                        machine.end(id);
                    };
                    sim.call("exit", exit).await;
                    std::future::pending::<()>().await;
                }
            }
        }
    })
}

impl Sim {
    fn next_act(&self) {
        let id = self.id;
        let mut machine = self.lock();
        let client = machine.client(id);
        client.at += 1;
        client.round = "";
    }

    fn begin(&self) {
        let id = self.id;
        let mut machine = self.lock();
        let client = machine.client(id);
        if client.calls == 0 {
            client.meanwhile = SinceCall::default();
            client.unwell = false;
        }
        client.calls += 1;
    }

    fn end_of_call(&self) {
        let id = self.id;
        let mut machine = self.lock();
        let client = machine.client(id);
        client.calls -= 1;
        if client.calls == 0 {
            client.meanwhile = SinceCall::default();
        }
    }

    fn acquired(&self, acquired: Result<Option<HandleInner<Sim>>>) -> Option<HandleInner<Sim>> {
        let acquired = acquired.map(|handle| {
            handle.inspect(|handle| {
                let on = handle
                    .client()
                    .known_object()
                    .map(|object| object.array().id());
                let current = handle.current();
                self.lock().acquired(self.id, current, on);
            })
        });
        let handle = match acquired {
            Ok(handle) => handle,
            Err(error) => {
                self.expect(Err(error), "acquire");
                None
            }
        };
        self.end_of_call();
        handle
    }

    /// Takes a step in which a client uses the service before it releases its handle.
    async fn begin_release(&self, handle: &HandleInner<Sim>) {
        let id = self.id;
        let start = handle.current().instance.identity.start;
        let instance = ProcId(start as usize - 1);
        let release = |machine: &mut Machine| {
            let holds = &mut machine.client(id).holds;
            if let Some(place) = holds.iter().position(|held| *held == instance) {
                holds.remove(place);
            }
            machine.client(id).undisturbed = true;
        };
        self.lock().begin_round(id, RELEASE_HANDLE, &());
        self.call(RELEASE_HANDLE, release).await;
    }

    /// Records that the client has released its handle.
    fn end_release(&self) {
        let id = self.id;
        let mut machine = self.lock();
        machine.state.left_well |= std::mem::take(&mut machine.client(id).undisturbed);
    }

    fn expect(&self, done: Result<()>, operation: &'static str) {
        if let Err(error) = done {
            self.lock().failed(self.id, operation, &error);
        }
    }
}

fn config(sim: &Sim) -> Config {
    let scenario = Arc::clone(&sim.lock().scenario);
    let settings = scenario.settings_of(sim.id);
    let command = || Arc::new(ServiceCommand::new("made-up").port(1));
    let mut config = Config {
        orphan: settings.orphan,
        linger_ms: settings.linger_ms(),
        stop_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let of = sim.clone();
    config.health = Some(Box::new(move |info: &ServiceInfo| {
        let (sim, pid) = (of.clone(), info.pid());
        Box::pin(async move { sim.is_well(pid).await })
    }));
    let of = sim.clone();
    config.on_ready = Some(Box::new(move |info| {
        let sim = of.clone();
        Box::pin(async move { sim.prepare(info.pid()).await })
    }));
    if scenario.by == By::Command {
        config.command = Some(command());
        return config;
    }
    let of = sim.clone();
    config.start = Some(Box::new(move || {
        let sim = of.clone();
        Box::pin(async move { sim.start().await })
    }));
    if !settings.lingers {
        let of = sim.clone();
        config.stop = Some(Box::new(move |info| {
            let sim = of.clone();
            Box::pin(async move { sim.stop(info.pid()).await })
        }));
    }
    if let Some(way) = scenario.recover {
        let of = sim.clone();
        config.recover = Some(Box::new(move |old| {
            let sim = of.clone();
            Box::pin(async move { sim.recover(old.pid(), way).await })
        }));
    }
    config
}

/// The callbacks of the service.
impl Sim {
    async fn start(&self) -> Result<ServiceInfo> {
        let id = self.id;
        let spawn = |machine: &mut Machine| {
            let service = machine.spawn_service(Some(id), None);
            machine.pid(service)
        };
        let started = self.wait("on_first_acquire", Until::Now, spawn);
        if self.lock().scenario.budget.failures == 0 {
            return Ok(ServiceInfo::new(started.await, 0));
        }
        let fail = |machine: &mut Machine| machine.state.left.failures -= 1;
        let failed = self.wait("on_first_acquire fails", Until::Failure, fail);
        match either(started, failed).await {
            Ok(pid) => Ok(ServiceInfo::new(pid, 0)),
            Err(()) => Err(Error::from("the service could not be started")),
        }
    }

    async fn is_well(&self, pid: u32) -> bool {
        let ask = |machine: &mut Machine| {
            let service = machine
                .find_process(pid)
                .and_then(|id| machine.service_of(id));
            service.is_some_and(|it| !it.ill)
        };
        let well = self.wait("on_health_check", Until::Now, ask).await;
        self.note_unwell(!well);
        well
    }

    async fn prepare(&self, pid: u32) -> Result<()> {
        let prepare = |machine: &mut Machine| {
            let found = machine.find_process(pid);
            if let Some(service) = found.and_then(|id| machine.service(id)) {
                service.prepared += 1;
            }
        };
        self.wait("on_ready", Until::Now, prepare).await;
        Ok(())
    }

    async fn stop(&self, pid: u32) -> Result<()> {
        let id = self.id;
        let stop = |machine: &mut Machine| machine.called_to_stop(id, pid);
        self.wait("on_last_release", Until::Now, stop).await;
        Ok(())
    }

    async fn recover(&self, old: u32, way: Recover) -> Result<ServiceInfo> {
        let id = self.id;
        let recover = |machine: &mut Machine| {
            machine.called_to_recover(id, old);
            let old = machine.find_process(old);
            if let Some(old) = old.filter(|&old| machine.service_of(old).is_some()) {
                if let Some(service) = machine.service(old) {
                    service.replaced = true;
                    service.told = true;
                }
                if way == Recover::Restarts {
                    machine.end(old);
                }
            }
            let service = machine.spawn_service(Some(id), None);
            machine.pid(service)
        };
        let pid = self.wait("on_recover", Until::Now, recover).await;
        Ok(ServiceInfo::new(pid, 0))
    }
}
