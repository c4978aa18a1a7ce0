//! Mutated kernels and machines. Each of them performs one step incorrectly.
//!
//! The engine itself is unchanged. The mutation replaces the step that the engine requests.

use super::machine::Machine;
use super::process::Process;
use super::process_table::ProcId;
use super::scenario::Act::{self, Acquire, AcquireOrCancel, Pin, Release, Unpin};
use super::scenario::{By, RELEASE_HANDLE, Recover, Scenario, Settings};
use crate::engine::config::Orphan;
use crate::kernel::semset::layout::{Values, decode, encode, slot};
use crate::kernel::semset::steps::{
    Op, RETIRE, SUPERVISE, SUPERVISE_TREE, UNLOCK, UNREGISTER, WAIT_ALONE, WAIT_CLIENT,
    WAIT_IDLE as WAIT_IDLE_OPS, WAIT_IDLE_RETIRED, op, undo,
};
use crate::kernel::sim::SetId;
use crate::kernel::table::Outcome;
use crate::process::Identity;
use crate::record::Record;

/// A mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mutation {
    // Kernel.
    ReferencesOutliveTheirProcess,
    LockWithoutUndo,
    ReferenceWithoutUndo,
    RemovalWakesNobody,
    // Acquiring.
    JoinsUnsupervised,
    JoinsWhatNobodyHolds,
    LockBeforeReference,
    EnterGivesUpOnRemoval,
    WaiterTakesTheLock,
    WaiterIsNotWoken,
    CancelledWaiterKeepsTheLock,
    NoSecondLook,
    // Starting.
    PublishesSlotBySlot,
    UnlocksBeforePublishing,
    RecordOverKernel,
    ValuesRecordedAfterReady,
    DiscardsTheIll,
    // Releasing.
    LeavesWithoutLooking,
    AbandonsWithoutLooking,
    LastLeaverIgnoresPin,
    LastLeaverTakesNoLock,
    LeavesPinnedUnasked,
    LeavesToNoSupervisor,
    LeavesTheNextSet,
    OwnOrphanSettingCounts,
    OwnLingerCounts,
    // Stopping.
    StopNotAwaited,
    StoppingNotWritten,
    UnlinksAfterRemoval,
    PidWithoutStart,
    // Supervisor.
    BareWaitForZero,
    SupervisorIgnoresPin,
    RemovesWhatIsUsed,
    LockNotShared,
    NoTree,
    NoGate,
    NoConfirm,
    ParentDeaf,
    ExitsWithItsService,
    ClearsUpTooEarly,
    LeavesTheFilesOfAFailedStart,
    LeavesWhatWasLeftToIt,
    LeavesItSuspended,
}

pub(super) const WAIT_IDLE: &str = "wait idle";
pub(super) const WAIT_RETIRED: &str = "wait idle, retired";
pub(super) const UNREGISTERS: &str = "unregister";
pub(super) const WRITE: &str = "write";

/// Returns the name of a supervisor's array.
pub(super) fn label(ops: &[Op]) -> &'static str {
    match ops {
        _ if ops == SUPERVISE => "supervise",
        _ if ops == WAIT_IDLE_OPS => WAIT_IDLE,
        _ if ops == WAIT_IDLE_RETIRED => WAIT_RETIRED,
        _ if ops == SUPERVISE_TREE => "supervise tree",
        _ if ops == UNREGISTER => UNREGISTERS,
        _ if ops == WAIT_ALONE => "wait alone",
        _ if ops == WAIT_CLIENT => "wait for a client",
        _ if ops == UNLOCK => "unlock",
        _ if ops.first() == Some(&RETIRE) => "retire",
        _ => WRITE,
    }
}

fn is_on(slot: u16) -> impl Fn(&Op) -> bool {
    move |op| op.slot == slot
}

fn without(ops: &[Op], dropped: impl Fn(&Op) -> bool) -> Vec<Op> {
    ops.iter().copied().filter(|op| !dropped(op)).collect()
}

fn without_undo(ops: &[Op], slot: u16) -> Vec<Op> {
    let change = |op: &Op| Op {
        undo: op.undo && op.slot != slot,
        ..*op
    };
    ops.iter().map(change).collect()
}

fn one_by_one(ops: &[Op]) -> Vec<Vec<Op>> {
    ops.iter().map(|&op| vec![op]).collect()
}

const ONE_LESS: Op = undo(slot::REFS, -1);

/// The names of the engine's steps.
pub(super) mod step {
    pub(crate) const JOIN: &str = "join the service";
    pub(crate) const ENTER: &str = "take the lock and a reference";
    pub(crate) const LOCK: &str = "take the lock";
    pub(crate) const WAIT: &str = "wait for another process's transition";
    pub(crate) const PUBLISH: &str = "publish the instance";
    pub(crate) const LEAVE: &str = "leave the service";
    pub(crate) const LEAVE_LAST: &str = "leave the service as the last client";
    pub(crate) const LEAVE_PINNED: &str = "leave the pinned service";
    pub(crate) const LEAVE_TO_SUPERVISOR: &str = "leave the service to its supervisor";
    pub(crate) const ABANDON: &str = "release the lock and the reference";
}

/// Returns the arrays that the mutated kernel performs for a client's array.
pub(super) fn arrays(mutation: Mutation, operation: &str, ops: &[Op]) -> Vec<Vec<Op>> {
    let who = |op: &Op| slot::HOLDERS.contains(&op.slot);
    let name: Vec<Op> = ops.iter().copied().filter(who).collect();
    let instead = |ops: &[Op]| vec![[ops, &name].concat()];
    match (mutation, operation) {
        (Mutation::LockWithoutUndo, _) => vec![without_undo(ops, slot::LOCK)],
        (Mutation::ReferenceWithoutUndo, _) => vec![without_undo(ops, slot::REFS)],
        (Mutation::JoinsUnsupervised, step::JOIN) => vec![without(ops, is_on(slot::SUPERVISOR))],
        (Mutation::JoinsWhatNobodyHolds, step::JOIN) => {
            let guarded = |op: &Op| op.slot == slot::REFS;
            vec![[without(ops, guarded), vec![undo(slot::REFS, 1)]].concat()]
        }
        (Mutation::LockBeforeReference, step::ENTER) => vec![without(ops, is_on(slot::REFS))],
        (Mutation::LockBeforeReference, step::PUBLISH) if ops.contains(&UNLOCK[0]) => {
            vec![ops.to_vec(), vec![undo(slot::REFS, 1)]]
        }
        (Mutation::WaiterTakesTheLock, step::WAIT) => {
            vec![vec![op(slot::LOCK, 0), undo(slot::LOCK, 1)]]
        }
        (Mutation::WaiterIsNotWoken, step::WAIT) => vec![vec![op(slot::PIN, -2)]],
        (Mutation::PublishesSlotBySlot, step::PUBLISH) => one_by_one(ops),
        (Mutation::UnlocksBeforePublishing, step::PUBLISH) if ops.contains(&UNLOCK[0]) => {
            vec![UNLOCK.to_vec(), without(ops, is_on(slot::LOCK))]
        }
        (Mutation::LeavesWithoutLooking, step::LEAVE) => instead(&[ONE_LESS]),
        (Mutation::AbandonsWithoutLooking, step::ABANDON) => instead(&[ONE_LESS, UNLOCK[0]]),
        (Mutation::LastLeaverIgnoresPin, step::LEAVE_LAST) => vec![without(ops, is_on(slot::PIN))],
        (Mutation::LastLeaverTakesNoLock, step::LEAVE_LAST) => {
            vec![without(ops, is_on(slot::LOCK))]
        }
        (Mutation::LeavesPinnedUnasked, step::LEAVE_PINNED) => vec![without(ops, is_on(slot::PIN))],
        (Mutation::LeavesToNoSupervisor, step::LEAVE_TO_SUPERVISOR) => {
            vec![without(ops, is_on(slot::SUPERVISOR))]
        }
        // STOPPING, and the limit of the stop.
        (Mutation::StoppingNotWritten, step::PUBLISH) if ops.contains(&op(slot::FLAGS, 2)) => {
            Vec::new()
        }
        _ => vec![ops.to_vec()],
    }
}

/// Returns the arrays that the mutated kernel performs for a supervisor's array.
pub(super) fn supervisor_arrays(
    mutation: Option<Mutation>,
    ops: &[Op],
    sleeps: bool,
) -> Vec<Vec<Op>> {
    let label = label(ops);
    match mutation {
        Some(Mutation::BareWaitForZero) if label == WAIT_IDLE && sleeps => {
            vec![vec![op(slot::REFS, 0)]]
        }
        Some(Mutation::SupervisorIgnoresPin) if label == WAIT_IDLE => {
            vec![without(ops, is_on(slot::PIN))]
        }
        Some(Mutation::RemovesWhatIsUsed) if label == WAIT_IDLE && !sleeps => {
            vec![without(ops, is_on(slot::REFS))]
        }
        Some(Mutation::LockNotShared) if label == "supervise tree" => {
            vec![without(ops, is_on(slot::LOCK))]
        }
        Some(Mutation::NoTree) => vec![without(ops, is_on(slot::TREE))],
        // It exits, whether there is another supervisor or not.
        Some(Mutation::ExitsWithItsService | Mutation::LeavesWhatWasLeftToIt)
            if label == UNREGISTERS =>
        {
            vec![]
        }
        Some(Mutation::PublishesSlotBySlot) if label == WRITE => one_by_one(ops),
        Some(Mutation::LockWithoutUndo) => vec![without_undo(ops, slot::LOCK)],
        _ => vec![ops.to_vec()],
    }
}

/// Returns `true` if the sleep ends at once.
pub(super) fn skips_sleep(mutation: Option<Mutation>, label: &str) -> bool {
    mutation == Some(Mutation::ClearsUpTooEarly) && label == "wait alone"
}

/// Returns `true` if a supervisor exits when it has retired: after the processes of its service have exited, or without a
/// service.
pub(super) fn exits_early(mutation: Option<Mutation>, label: &str, has_launched: bool) -> bool {
    label == WAIT_RETIRED
        && match mutation {
            Some(Mutation::ExitsWithItsService) => has_launched,
            Some(Mutation::LeavesWhatWasLeftToIt) => !has_launched,
            _ => false,
        }
}

/// Returns the set that the step uses.
pub(super) fn set(process: &Process, set: SetId) -> SetId {
    let mut machine = process.lock();
    let leaves = matches!(
        machine.client(process.id).round,
        RELEASE_HANDLE | step::LEAVE_LAST
    );
    if !machine.has(Mutation::LeavesTheNextSet) || !leaves {
        return set;
    }
    let there = machine.state.table.ids().next();
    there.unwrap_or(set)
}

/// Returns the outcome that is reported for a step.
pub(super) fn outcome(
    process: &Process,
    mutation: Mutation,
    operation: &str,
    outcome: Outcome,
) -> Outcome {
    let locked = matches!(operation, step::ENTER | step::LOCK) && outcome == Outcome::Done;
    if locked && mutation == Mutation::NoSecondLook {
        let mut machine = process.lock();
        let id = process.id;
        machine.locked_just_now = Some(id);
    }
    match (mutation, operation, outcome) {
        (Mutation::EnterGivesUpOnRemoval, step::ENTER, Outcome::Gone) => Outcome::OutOfRange,
        _ => outcome,
    }
}

/// Returns `true` if a client that waited for the lock has cancelled its `acquire`.
pub(super) fn keeps_lock(process: &Process, mutation: Mutation, operation: &str) -> bool {
    let id = process.id;
    mutation == Mutation::CancelledWaiterKeepsTheLock
        && operation == step::WAIT
        && process.lock().client(id).calls == 0
}

/// Returns the values that a client reads.
pub(super) fn values(machine: &mut Machine, id: ProcId, set: SetId) -> Option<Values> {
    let mut values = *machine.state.table.values(set)?;
    if let Some(instance) = decode(&values, true).instance {
        machine.named.insert(id, instance.identity);
    }
    if machine.has(Mutation::RecordOverKernel) {
        let start = u64::from(values[slot::START.start as usize]);
        if machine.recorded().is_some_and(|it| it.start == start) {
            values[slot::FLAGS as usize] |= 1;
        }
    }
    let own = machine.scenario.settings_of(id);
    let told = decode(&values, true);
    if let Some(mut instance) = told.instance {
        if machine.has(Mutation::OwnOrphanSettingCounts) {
            instance.keep_orphan = own.orphan == Orphan::Keep;
        }
        if machine.has(Mutation::OwnLingerCounts) {
            instance.linger_ms = own.linger_ms();
        }
        encode(&mut values, Some(&instance), told.generation);
    }
    if machine.has(Mutation::LastLeaverIgnoresPin) {
        values[slot::PIN as usize] = 0;
    }
    if machine.has(Mutation::NoSecondLook) {
        let before = machine.looks.insert(id, values);
        if machine.locked_just_now == Some(id) {
            machine.locked_just_now = None;
            return before.or(Some(values));
        }
    }
    Some(values)
}

/// Returns the result of a lookup in the process table.
pub(super) fn find_process(machine: &mut Machine, pid: u32) -> Option<(Identity, ProcId)> {
    let found = machine.find_process(pid)?;
    let ill = machine.service_of(found).is_some_and(|it| it.ill);
    if ill && machine.has(Mutation::DiscardsTheIll) {
        return None;
    }
    let identity = machine.identity(found);
    if machine.has(Mutation::PidWithoutStart) {
        let named = machine.instances().map(|(_, it)| it.identity);
        let mut named = named.chain(machine.recorded());
        let looked_for = named.find(|it| it.pid == pid);
        return Some((looked_for.unwrap_or(identity), found));
    }
    Some((identity, found))
}

/// Returns the record that is written now. The mutated machine writes the record with the service's values after READY.
pub(super) fn record(machine: &mut Machine, record: Record) -> Option<Record> {
    if machine.has(Mutation::ValuesRecordedAfterReady) && record.has_metadata() {
        machine.late_record = Some(record);
        return None;
    }
    Some(record)
}

/// Returns the record that a client writes after it has published READY.
pub(super) fn late_record(process: &Process, operation: &str, ops: &[Op]) -> Option<Record> {
    let publishes_ready = operation == step::PUBLISH && ops.contains(&UNLOCK[0]);
    process.lock().late_record.take_if(|_| publishes_ready)
}

/// Returns `true` if the record is unlinked after the removal of the set.
pub(super) fn unlinks_after_removal(machine: &Machine) -> bool {
    machine.has(Mutation::UnlinksAfterRemoval)
}

/// A mutation, the scenario that shows it, and the violations by which it may be found.
pub(super) struct MutatedPlatform {
    pub(super) scenario: Scenario,
    pub(super) found_by: &'static [&'static str],
}

const ONCE: &[Act] = &[Acquire, Release];
const TWO_LIVE: &str = "live at the same time";
const STOPPED: &str = "while";
const PINNED: &str = "which is pinned";
const RECORD: &str = "no record";
const TWICE: &str = "on_last_release";
const LEFT: &str = "G6";
const STUCK: &str = "is stuck";
const FAILED: &str = "failed";
const COUNT: &str = "G2";
const NOBODYS: &str = "no process holds the lock";
const STRANGER: &str = "G5";
const FORSAKEN: &str = "no client has held since it ended";
const BAD: &str = "G4: client";
const UNSUPERVISED: &str = "G3";

/// Returns all mutations.
pub(super) fn mutated_platforms() -> Vec<MutatedPlatform> {
    let callback = || Scenario::new("callback", By::Callback, &[ONCE, ONCE]);
    let command = || Scenario::new("command", By::Command, &[ONCE, ONCE]);
    let killed = |it: Scenario| it.with_budget(|it| it.clients = 1);
    let both_killed = |it: Scenario| it.with_budget(|it| it.clients = 2);
    let no_supervisor = |it: Scenario| it.with_budget(|it| it.supervisors = 1);
    let crashes = |it: Scenario| {
        it.with(|it| it.workers = true)
            .with_budget(|it| it.crashes = 1)
    };
    let ill = |it: Scenario| it.with_budget(|it| it.illnesses = 1);
    let removed = |it: Scenario| it.with_budget(|it| it.removals = 1);
    let fails = |it: Scenario| it.with_budget(|it| it.failures = 1);
    let second = |it: &mut Scenario| it.second = Some(Settings::default());
    let pinned = |by| {
        let acts: &[Act] = &[Acquire, Pin, Release];
        Scenario::new("pinned", by, &[acts, &[Acquire, Unpin, Release]])
    };
    let mutated_platforms: Vec<(Mutation, Scenario, &'static [&'static str])> = vec![
        (
            Mutation::ReferencesOutliveTheirProcess,
            killed(callback()),
            &[COUNT, NOBODYS, LEFT, STUCK],
        ),
        (Mutation::LockWithoutUndo, killed(callback()), &[NOBODYS]),
        (
            Mutation::ReferenceWithoutUndo,
            killed(callback()),
            &[COUNT, LEFT, STUCK],
        ),
        (Mutation::RemovalWakesNobody, callback(), &[LEFT, STUCK]),
        (
            Mutation::JoinsUnsupervised,
            no_supervisor(Scenario::new(
                "callback",
                By::Callback,
                &[&[Acquire, Release, Acquire, Release], ONCE],
            )),
            &[UNSUPERVISED, LEFT],
        ),
        (
            Mutation::LockBeforeReference,
            callback(),
            &[TWICE, TWO_LIVE, BAD, STUCK, FAILED, STOPPED, COUNT, LEFT],
        ),
        (
            Mutation::JoinsWhatNobodyHolds,
            Scenario::new(
                "pinned, crashes",
                By::Callback,
                &[
                    &[Acquire, Pin, Release, Acquire, Release],
                    &[Acquire, Unpin, Release],
                ],
            )
            .with(|it| it.recover = Some(Recover::Restarts))
            .with_budget(|it| it.crashes = 1),
            &[FORSAKEN],
        ),
        (Mutation::EnterGivesUpOnRemoval, callback(), &[FAILED]),
        (Mutation::WaiterTakesTheLock, callback(), &[STUCK]),
        (Mutation::WaiterIsNotWoken, pinned(By::Callback), &[STUCK]),
        (
            Mutation::CancelledWaiterKeepsTheLock,
            Scenario::new(
                "callback, cancelled",
                By::Callback,
                &[&[AcquireOrCancel, Release], ONCE],
            )
            .with_budget(|it| it.cancels = 1),
            &[STUCK, LEFT],
        ),
        (
            Mutation::NoSecondLook,
            callback(),
            &[TWO_LIVE, STOPPED, "prepared"],
        ),
        (
            Mutation::PublishesSlotBySlot,
            killed(callback()),
            &[TWO_LIVE, BAD, LEFT, FAILED, "on_last_release"],
        ),
        (
            Mutation::UnlocksBeforePublishing,
            callback(),
            &[RECORD, TWO_LIVE, BAD, STOPPED, FAILED, "on_last_release"],
        ),
        (
            Mutation::RecordOverKernel,
            killed(callback()),
            &[FAILED, BAD, "prepared"],
        ),
        (
            Mutation::ValuesRecordedAfterReady,
            killed(command()).with(|it| it.notifies = true),
            &["without the values"],
        ),
        (Mutation::DiscardsTheIll, ill(callback()), &[TWO_LIVE, LEFT]),
        (
            Mutation::LeavesWithoutLooking,
            callback().keeping_orphans(),
            &[LEFT],
        ),
        (
            Mutation::AbandonsWithoutLooking,
            fails(callback().keeping_orphans()),
            &[LEFT],
        ),
        (
            Mutation::LastLeaverIgnoresPin,
            pinned(By::Callback),
            &[STUCK, LEFT, PINNED],
        ),
        (
            Mutation::LastLeaverTakesNoLock,
            callback(),
            &[TWICE, FAILED, TWO_LIVE, BAD],
        ),
        (
            Mutation::LeavesPinnedUnasked,
            pinned(By::Callback).keeping_orphans(),
            &[LEFT],
        ),
        (
            Mutation::LeavesToNoSupervisor,
            no_supervisor(command()),
            &[LEFT, UNSUPERVISED],
        ),
        (
            Mutation::LeavesTheNextSet,
            removed(callback().with(|it| it.bound = Some(2))),
            &[STOPPED, STUCK],
        ),
        (
            Mutation::OwnOrphanSettingCounts,
            no_supervisor(callback()).keeping_orphans().with(second),
            &[UNSUPERVISED],
        ),
        (
            Mutation::OwnLingerCounts,
            callback().lingering().with(second),
            &["R4"],
        ),
        (Mutation::StopNotAwaited, callback(), &[TWO_LIVE, LEFT]),
        (
            Mutation::StoppingNotWritten,
            killed(callback().keeping_orphans()),
            &[BAD],
        ),
        (Mutation::UnlinksAfterRemoval, callback(), &[RECORD]),
        (
            Mutation::PidWithoutStart,
            crashes(callback()),
            &[STRANGER, BAD, "no service"],
        ),
        (
            Mutation::BareWaitForZero,
            callback(),
            &[TWICE, TWO_LIVE, STOPPED, BAD, FAILED, LEFT],
        ),
        (
            Mutation::SupervisorIgnoresPin,
            pinned(By::Callback),
            &[PINNED],
        ),
        (
            Mutation::RemovesWhatIsUsed,
            callback().lingering(),
            &[STOPPED, BAD],
        ),
        (
            Mutation::LockNotShared,
            command(),
            &[FAILED, STUCK, BAD, TWO_LIVE],
        ),
        (Mutation::NoTree, crashes(command()), &[TWO_LIVE]),
        (
            Mutation::NoGate,
            no_supervisor(command()),
            &[TWO_LIVE, LEFT],
        ),
        (
            Mutation::NoConfirm,
            killed(command()),
            &[FAILED, STUCK, TWO_LIVE, LEFT],
        ),
        (
            Mutation::ParentDeaf,
            crashes(command()),
            &["does not end", STUCK, LEFT],
        ),
        (
            Mutation::ExitsWithItsService,
            both_killed(crashes(command())),
            &[LEFT],
        ),
        (Mutation::ClearsUpTooEarly, command(), &[FAILED, STUCK, BAD]),
        (
            Mutation::LeavesTheFilesOfAFailedStart,
            killed(command().with_budget(|it| it.crashes = 1)),
            &[LEFT],
        ),
        (
            Mutation::LeavesWhatWasLeftToIt,
            killed(command().with_budget(|it| it.crashes = 1)),
            &["left in the final state: a set"],
        ),
        (
            Mutation::LeavesItSuspended,
            crashes(command().with_budget(|it| it.suspensions = 1)),
            &[STUCK],
        ),
    ];
    let plant = |(mutation, scenario, found_by): (Mutation, Scenario, _)| MutatedPlatform {
        scenario: scenario.with(|it| it.mutation = Some(mutation)),
        found_by,
    };
    mutated_platforms.into_iter().map(plant).collect()
}
