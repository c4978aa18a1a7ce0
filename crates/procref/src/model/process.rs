//! A process's view of the simulated machine. The explorer chooses the moment of each step.

use std::fmt::Debug;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::machine::{HashedRecord, Machine};
use super::mutations::{self, step};
use super::process_table::ProcId;
use super::scenario::RELEASE_HANDLE;
use super::yield_points::{PointId, Until};
use crate::kernel::Missing;
use crate::kernel::semset::layout::{Values, slot};
use crate::kernel::semset::steps::{Op, Wait, op, undo};
use crate::kernel::sim::{SetId, SimKernel, TableCalls};
use crate::kernel::table::Outcome;

/// The machine as one process uses it.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) machine: Arc<Mutex<Machine>>,
    pub(super) id: ProcId,
}

/// The platform of the engine, with the simulated kernel.
#[derive(Clone)]
pub(super) struct Sim {
    pub(super) process: Process,
    pub(super) kernel: SimKernel<Process>,
}

impl Sim {
    pub(super) fn new(process: Process) -> Self {
        Self {
            kernel: SimKernel(process.clone()),
            process,
        }
    }
}

impl std::ops::Deref for Sim {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

pub(super) fn lock(machine: &Mutex<Machine>) -> MutexGuard<'_, Machine> {
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    pub(super) fn lock(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }

    /// Performs a step that is ready at once on a real machine: a system call, a file operation.
    pub(super) async fn call<T: Hash + Debug>(
        &self,
        label: &'static str,
        act: impl FnOnce(&mut Machine) -> T,
    ) -> T {
        self.at(label, Until::Now, true, act).await
    }

    /// Performs a step at which a future may be pending, and dropped, on a real machine.
    pub(super) async fn wait<T: Hash + Debug>(
        &self,
        label: &'static str,
        until: Until,
        act: impl FnOnce(&mut Machine) -> T,
    ) -> T {
        self.at(label, until, false, act).await
    }

    fn at<T, F: FnOnce(&mut Machine) -> T>(
        &self,
        label: &'static str,
        until: Until,
        at_once: bool,
        act: F,
    ) -> Step<'_, F> {
        Step {
            process: self,
            label,
            until: Some(until),
            at_once,
            point: None,
            act: Some(act),
        }
    }

    async fn array(&self, set: SetId, label: &'static str, ops: &[Op], wait: Wait) -> Outcome {
        let pid = self.lock().pid(self.id);
        let sleeping = wait == Wait::Yes;
        let until = if sleeping {
            Until::Performable(set, ops.to_vec())
        } else {
            Until::Now
        };
        let act = |machine: &mut Machine| {
            let left = &mut machine.state.left.refusals;
            if *left > 0 && ops.iter().any(|op| op.undo) {
                *left -= 1;
                return Outcome::OutOfRange;
            }
            machine.state.table.operate(pid, set, ops, wait)
        };
        self.at(label, until, !sleeping, act).await
    }
}

/// Records the begin of a round of a client, and the data that the round depends on, except the state of the
/// machine.
impl Process {
    fn before(&self, set: SetId, operation: &'static str, ops: &[Op]) {
        let mut machine = self.lock();
        let leaving = machine.client(self.id).round == RELEASE_HANDLE;
        let noted = machine.joins_at.take();
        match operation {
            // The steps after a join depend on its place in the engine. A retry with another holder slot has no place,
            // and belongs to the round of the first try.
            step::JOIN => {
                if let Some((_, at)) = noted.filter(|(id, _)| *id == self.id) {
                    machine.begin_round(self.id, step::JOIN, &(at, set, ops));
                }
            }
            // If the step is refused, the client searches a free slot and retries.
            step::LEAVE if leaving => {
                machine.begin_round(self.id, RELEASE_HANDLE, &(set, step::LEAVE))
            }
            _ => {}
        }
        // Its slot depends on the slots of the other clients.
        let name = ops.iter().find(|op| slot::HOLDERS.contains(&op.slot));
        if let (Some(name), Some((proc, task))) = (name, machine.current) {
            machine.observe(proc, task, "name", &name.slot);
        }
    }

    /// With the lock held, the client reads everything again.
    fn after(&self, set: SetId, operation: &'static str) {
        let mut machine = self.lock();
        let round = machine.client(self.id).round;
        match operation {
            step::ENTER | step::LOCK if round == step::JOIN => {
                machine.begin_round(self.id, step::ENTER, &set);
            }
            step::LEAVE_LAST if round == RELEASE_HANDLE => {
                machine.begin_round(self.id, step::LEAVE_LAST, &set);
            }
            _ => {}
        }
    }

    /// After this step, the client relies only on values that it reads later.
    fn is_about_to_check(&self, operation: &'static str) {
        if matches!(operation, step::JOIN | step::ENTER | step::LOCK) {
            self.lock().client(self.id).meanwhile.supervisor = false;
        }
    }
}

/// Returns the values as a client distinguishes them. For a number of processes, a client distinguishes only
/// zero, one and more.
#[derive(Debug)]
struct SeenByClient(Option<Values>);

impl Hash for SeenByClient {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(values) = &self.0 {
            let at = |slot: u16| values[slot as usize];
            (at(slot::REFS).min(2), at(slot::SUPERVISOR) > 0).hash(state);
            (at(slot::LOCK) > 0, at(slot::TREE) > 0, at(slot::PIN) > 0).hash(state);
            values[slot::GENERATION as usize..slot::SUPERVISOR_PID as usize].hash(state);
        }
    }
}

/// Returns the values as a supervisor distinguishes them. A supervisor observes other processes only through
/// its arrays.
#[derive(Debug)]
pub(super) struct SeenBySupervisor(pub(super) Option<Values>);

impl Hash for SeenBySupervisor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(values) = &self.0 {
            (values[slot::TREE as usize] > 0).hash(state);
            values[slot::GENERATION as usize..slot::SUPERVISOR_PID as usize].hash(state);
        }
    }
}

/// Returns the first future that is ready, or `a` if both are.
pub(super) async fn either<A, B>(
    one: impl Future<Output = A>,
    other: impl Future<Output = B>,
) -> Result<A, B> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|context| {
        if let Poll::Ready(done) = one.as_mut().poll(context) {
            return Poll::Ready(Ok(done));
        }
        other.as_mut().poll(context).map(Err)
    })
    .await
}

/// One step. It is pending until the explorer grants it. Then it is performed atomically.
struct Step<'a, F> {
    process: &'a Process,
    label: &'static str,
    until: Option<Until>,
    at_once: bool,
    point: Option<PointId>,
    act: Option<F>,
}

// No field is structurally pinned.
impl<F> Unpin for Step<'_, F> {}

impl<T: Hash + Debug, F: FnOnce(&mut Machine) -> T> Future for Step<'_, F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        let mut machine = this.process.lock();
        match this.point {
            None if machine.at_once => {}
            None => {
                let until = this.until.take().unwrap_or(Until::Now);
                this.point = Some(machine.register(until, this.label, this.at_once));
                return Poll::Pending;
            }
            Some(point) if machine.granted == Some(point) => {
                machine.granted = None;
                machine.points.remove(&point);
                this.point = None;
            }
            Some(point) => {
                // A task may continue a future that another task began.
                this.point = Some(machine.moved(point));
                return Poll::Pending;
            }
        }
        let act = this.act.take().expect("a step is performed once");
        let seen = act(&mut machine);
        let (proc, task) = machine.current.expect("a step is polled by its task");
        machine.observe(proc, task, this.label, &seen);
        machine.note(|| shown(&seen));
        Poll::Ready(seen)
    }
}

/// The values of a set are shown by the line that describes the sets.
fn shown(seen: &impl Debug) -> String {
    let seen = format!("{seen:?}");
    if seen.len() > 200 {
        "    -> as described".to_owned()
    } else {
        format!("    -> {seen}")
    }
}

impl<F> Drop for Step<'_, F> {
    fn drop(&mut self) {
        if let Some(point) = self.point {
            self.process.lock().points.remove(&point);
        }
    }
}

impl TableCalls for Process {
    fn pid(&self) -> u32 {
        self.lock().pid(self.id)
    }

    async fn open(&self, key: i32, missing: Missing) -> Option<SetId> {
        let id = self.id;
        let open = |machine: &mut Machine| {
            machine.client(id).bereft = false;
            machine.state.table.open(key, missing)
        };
        self.call("open the set", open).await
    }

    async fn operate(
        &self,
        set: SetId,
        operation: &'static str,
        ops: &[Op],
        wait: Wait,
    ) -> Outcome {
        self.before(set, operation, ops);
        let mutation = self.lock().scenario.mutation;
        let Some(mutation) = mutation else {
            let outcome = self.array(set, operation, ops, wait).await;
            if outcome == Outcome::Done {
                self.after(set, operation);
                self.is_about_to_check(operation);
            }
            return outcome;
        };
        let set = mutations::set(self, set);
        let mut outcome = Outcome::Done;
        for array in mutations::arrays(mutation, operation, ops) {
            outcome = self.array(set, operation, &array, wait).await;
            if outcome != Outcome::Done {
                break;
            }
        }
        if outcome == Outcome::Done {
            self.is_about_to_check(operation);
        }
        if let Some(record) = mutations::late_record(self, operation, ops) {
            let write = |machine: &mut Machine| machine.state.record = Some(HashedRecord(record));
            self.call("write the record", write).await;
        }
        if mutations::keeps_lock(self, mutation, operation) {
            let lock = [op(slot::LOCK, 0), undo(slot::LOCK, 1)];
            self.array(set, step::LOCK, &lock, Wait::No).await;
        }
        mutations::outcome(self, mutation, operation, outcome)
    }

    async fn values(&self, set: SetId) -> Option<Values> {
        let (id, set) = (self.id, mutations::set(self, set));
        let read = |machine: &mut Machine| SeenByClient(mutations::values(machine, id, set));
        self.call("read the set", read).await.0
    }

    async fn remove(&self, set: SetId) -> bool {
        let remove = |machine: &mut Machine| machine.state.table.remove(set);
        let removed = self.call("remove the set", remove).await;
        if mutations::unlinks_after_removal(&self.lock()) {
            let unlink = |machine: &mut Machine| machine.state.record = None;
            self.call("unlink the record", unlink).await;
        }
        removed
    }

    async fn sleepers(&self, set: SetId, slot: u16) -> Option<u32> {
        let ask = |machine: &mut Machine| machine.sleepers(set, slot);
        self.call("ask who waits", ask).await
    }

    async fn last_pid(&self, set: SetId, slot: u16) -> Option<u32> {
        let ask = |machine: &mut Machine| machine.state.table.last_pid(set, slot);
        self.call("check which client was the last", ask).await
    }
}
