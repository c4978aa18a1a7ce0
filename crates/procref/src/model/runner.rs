//! Runs a scenario once: polls the futures of its processes in a chosen order.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::choices::Choice;
use super::client;
use super::machine::Machine;
use super::process::{Process, Sim, lock};
use super::process_table::{ClientProcess, Kind, ProcId};
use super::scenario::{self, Scenario};
use super::supervisor;
use crate::kernel::sim::SetId;
use crate::launch::LaunchSpec;
use crate::runtime::BoxFuture;

/// A process or task that a step has started.
pub(super) enum Spawned {
    Task(ProcId, BoxFuture<()>),
    Supervisor {
        id: ProcId,
        set: SetId,
        spec: Option<LaunchSpec>,
    },
}

struct Task {
    proc: ProcId,
    /// Its number within its process.
    number: u32,
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

/// Tasks whose futures must be polled again although none of their steps was performed.
type WokenTasks = Arc<Mutex<Vec<usize>>>;

struct Alarm {
    task: usize,
    woken: WokenTasks,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let mut woken = self.woken.lock().expect("no panic while locked");
        if !woken.contains(&self.task) {
            woken.push(self.task);
        }
    }
}

pub(super) struct Run {
    machine: Arc<Mutex<Machine>>,
    tasks: Vec<Option<Task>>,
    woken: WokenTasks,
}

impl Run {
    pub(super) fn new(scenario: &Arc<Scenario>, traced: bool) -> Self {
        let mut run = Self {
            machine: Arc::new(Mutex::new(Machine::new(scenario, traced))),
            tasks: Vec::new(),
            woken: WokenTasks::default(),
        };
        for acts in &scenario.clients {
            run.add_client(acts);
        }
        run.run_until_blocked();
        run
    }

    pub(super) fn machine(&self) -> std::sync::MutexGuard<'_, Machine> {
        lock(&self.machine)
    }

    fn add_client(&mut self, acts: &[scenario::Act]) {
        let id = self.machine().add(Kind::Client(ClientProcess::default()));
        let sim = Sim::new(self.process(id));
        let future = client::client(sim, acts.to_vec());
        self.add(id, Box::pin(future));
    }

    fn process(&self, id: ProcId) -> Process {
        Process {
            machine: Arc::clone(&self.machine),
            id,
        }
    }

    fn add(&mut self, proc: ProcId, future: Pin<Box<dyn Future<Output = ()>>>) {
        let number = {
            let mut machine = self.machine();
            let tasks = &mut machine.state.procs[proc.0].tasks;
            *tasks += 1;
            let number = *tasks - 1;
            machine.count_task(proc, 1);
            number
        };
        let index = self.tasks.len();
        let alarm = Alarm {
            task: index,
            woken: Arc::clone(&self.woken),
        };
        self.tasks.push(Some(Task {
            proc,
            number,
            future,
            waker: Waker::from(Arc::new(alarm)),
        }));
        self.poll(index);
    }

    fn poll(&mut self, index: usize) {
        let Some(task) = self.tasks.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        lock(&self.machine).current = Some((task.proc, task.number));
        let mut context = Context::from_waker(&task.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| task.future.as_mut().poll(&mut context)));
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => {
                let proc = task.proc;
                self.tasks[index] = None;
                self.machine().count_task(proc, -1);
            }
            Err(_) => {
                lock(&self.machine).violate("a panic");
                // Forget the future, because its destructors may panic again.
                std::mem::forget(self.tasks[index].take());
            }
        }
    }

    /// Polls until no task can continue without a choice.
    fn run_until_blocked(&mut self) {
        loop {
            let spawned = std::mem::take(&mut self.machine().spawned);
            let woken = std::mem::take(&mut *self.woken.lock().expect("no panic while locked"));
            if spawned.is_empty() && woken.is_empty() {
                break;
            }
            for index in woken {
                self.poll(index);
            }
            for spawned in spawned {
                match spawned {
                    Spawned::Task(proc, future) => {
                        if self.machine().is_alive(proc) {
                            self.add(proc, future);
                        }
                    }
                    Spawned::Supervisor { id, set, spec } => {
                        let life = supervisor::live(self.process(id), set, spec);
                        self.add(id, Box::pin(life));
                    }
                }
            }
        }
        // Drop the futures of dead processes.
        let dead = |machine: &Machine, task: &Option<Task>| {
            task.as_ref()
                .is_some_and(|task| !machine.is_alive(task.proc))
        };
        for index in 0..self.tasks.len() {
            if dead(&self.machine(), &self.tasks[index]) {
                let task = self.tasks[index].take();
                drop(task);
            }
        }
        let mut machine = self.machine();
        machine.spawned.clear();
        machine.mark_unreferenced();
        machine.check();
    }

    /// Repeats a part of a schedule.
    pub(super) fn repeat(&mut self, choices: &[Choice]) {
        self.machine().repeats = true;
        choices.iter().for_each(|&choice| self.take(choice));
        self.machine().repeats = false;
    }

    pub(super) fn take(&mut self, choice: Choice) {
        let task = {
            let mut machine = self.machine();
            if machine.trace.is_some() {
                let line = machine.describe(choice);
                machine.note(|| line);
            }
            machine.switch(choice);
            machine.perform_event(choice);
            match choice {
                Choice::Step(id) => self.tasks.iter().position(|task| {
                    let task = task.as_ref();
                    task.is_some_and(|task| (task.proc, task.number) == (id.proc, id.task))
                }),
                _ => None,
            }
        };
        if let Some(task) = task {
            self.poll(task);
        }
        if choice == Choice::CleanupClient {
            self.add_client(&scenario::janitor());
        }
        self.run_until_blocked();
        let mut machine = self.machine();
        if machine.trace.is_some() {
            let line = format!("        {}", machine.describe_sets());
            machine.note(|| line);
        }
        if machine.granted.is_some() {
            machine.violate("the model is broken: a step was not performed");
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.machine().over = true;
        self.tasks.clear();
    }
}
