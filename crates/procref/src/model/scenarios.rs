//! The explored scenarios.

use super::scenario::Act::{
    self, Acquire, AcquireOrCancel, Beside, Drop, Exit, ForceStop, Pin, Release, Stop, TryJoin,
    Unpin, WaitStopped,
};
use super::scenario::{By, Recover, Scenario, Settings};

const ONCE: &[Act] = &[Acquire, Release];
const TWICE: &[Act] = &[Acquire, Release, Acquire, Release];

/// Two clients of a service that callbacks start.
pub(super) fn by_callback() -> Vec<Scenario> {
    let two = |name| Scenario::new(name, By::Callback, &[ONCE, ONCE]);
    vec![
        Scenario::new("callback, alone", By::Callback, &[ONCE]).with_budget(|it| it.clients = 1),
        two("callback"),
        Scenario::new("callback, twice", By::Callback, &[TWICE, ONCE]),
        two("callback, each killed").with_budget(|it| it.clients = 2),
        Scenario::new("callback, dropped", By::Callback, &[&[Acquire, Drop], ONCE])
            .with_budget(|it| it.clients = 1),
        Scenario::new("callback, exits", By::Callback, &[&[Acquire, Exit], ONCE]),
        two("callback, orphans kept, killed")
            .keeping_orphans()
            .with_budget(|it| it.clients = 2),
        two("callback, supervisor killed").with_budget(|it| it.supervisors = 1),
        two("callback, client and supervisor killed").with_budget(|it| {
            it.supervisors = 1;
            it.clients = 1;
        }),
        two("callback, supervisor suspended, one killed").with_budget(|it| {
            it.suspensions = 1;
            it.clients = 1;
        }),
        two("callback, crashes").with_budget(|it| it.crashes = 1),
        two("callback, crashes, client killed").with_budget(|it| {
            it.crashes = 1;
            it.clients = 1;
        }),
        two("callback, falls ill").with_budget(|it| it.illnesses = 1),
        two("callback, falls ill, recovered")
            .with(|it| it.recover = Some(Recover::Restarts))
            .with_budget(|it| it.illnesses = 1),
        two("callback, falls ill, replaced, client killed")
            .with(|it| it.recover = Some(Recover::Replaces))
            .with_budget(|it| {
                it.illnesses = 1;
                it.clients = 1;
            }),
        two("callback, start fails").with_budget(|it| it.failures = 1),
        Scenario::new("callback, first step refused", By::Callback, &[ONCE])
            .with_budget(|it| it.refusals = 1),
        two("callback, one step refused").with_budget(|it| it.refusals = 1),
        two("callback, start fails, client killed").with_budget(|it| {
            it.failures = 1;
            it.clients = 1;
        }),
        Scenario::new(
            "callback, cancelled",
            By::Callback,
            &[&[AcquireOrCancel, Release], ONCE],
        )
        .with_budget(|it| it.cancels = 1),
        two("callback, set removed")
            .with(|it| it.bound = Some(2))
            .with_budget(|it| it.removals = 1),
        // With one preemption, the search takes too long for every run. A test follows one schedule into the
        // case that needs a preemption.
        ill_and_removed().with(|it| it.bound = Some(0)),
        two("callback, stubborn")
            .with(|it| it.stubborn = true)
            .with_budget(|it| it.clients = 1),
        two("callback, time is up").with_budget(|it| it.time = 1),
    ]
}

/// The second client finds the instance of a set unhealthy, and the set is then removed. The first client has
/// a new instance with the same generation.
pub(super) fn ill_and_removed() -> Scenario {
    let name = "callback, falls ill, set removed";
    Scenario::new(name, By::Callback, &[TWICE, ONCE])
        .with(|it| it.bound = Some(1))
        .with_budget(|it| {
            it.illnesses = 1;
            it.removals = 1;
        })
}

/// Other calls and settings.
pub(super) fn others() -> Vec<Scenario> {
    vec![
        Scenario::new("lingers", By::Callback, &[ONCE, ONCE])
            .lingering()
            .with_budget(|it| it.clients = 1),
        Scenario::new("lingers, each killed", By::Callback, &[ONCE, ONCE])
            .lingering()
            .with_budget(|it| it.clients = 2),
        Scenario::new("one of two lingers", By::Callback, &[ONCE, ONCE])
            .lingering()
            .with(|it| it.second = Some(Settings::default()))
            .with_budget(|it| it.clients = 1),
        Scenario::new("one of two keeps orphans", By::Callback, &[ONCE, ONCE])
            .keeping_orphans()
            .with(|it| it.second = Some(Settings::default()))
            .with_budget(|it| {
                it.clients = 1;
                it.supervisors = 1;
            }),
        Scenario::new(
            "pinned and unpinned",
            By::Callback,
            &[&[Acquire, Pin, Release], &[Acquire, Unpin, Release]],
        ),
        Scenario::new(
            "pinned, unpinned without a handle",
            By::Callback,
            &[&[Acquire, Pin, Release], &[Unpin]],
        )
        .with_budget(|it| it.clients = 1),
        Scenario::new(
            "stopped on demand, undisturbed",
            By::Callback,
            &[ONCE, &[Stop]],
        ),
        Scenario::new("stopped on demand", By::Callback, &[ONCE, &[Stop]])
            .with(|it| it.bound = Some(2))
            .with_budget(|it| it.clients = 1),
        Scenario::new(
            "pinned, stopped on demand",
            By::Callback,
            &[&[Acquire, Pin, Release], &[Stop]],
        )
        .with(|it| it.bound = Some(2))
        .with_budget(|it| it.clients = 1),
        Scenario::new("command, stopped on demand", By::Command, &[ONCE, &[Stop]])
            .with(|it| it.bound = Some(2))
            .with_budget(|it| it.clients = 1),
        Scenario::new(
            "stopped by force, its holder killed",
            By::Callback,
            &[ONCE, &[ForceStop]],
        )
        .with(|it| it.bound = Some(2))
        .with_budget(|it| it.clients = 1),
        Scenario::new(
            "two handles of a process",
            By::Callback,
            &[&[Beside(vec![Acquire, Release]), Acquire, Release], ONCE],
        ),
        Scenario::new(
            "two handles of a process, one joined",
            By::Callback,
            &[&[Acquire, TryJoin, Release, Release], ONCE],
        ),
        Scenario::new(
            "two handles of a process, falls ill",
            By::Callback,
            &[&[Beside(vec![Acquire, Release]), Acquire, Release]],
        )
        .with_budget(|it| it.illnesses = 1),
        Scenario::new(
            "two handles of a process, crashes, start fails",
            By::Callback,
            &[&[Beside(vec![Acquire, Release]), Acquire, Release]],
        )
        .with_budget(|it| {
            it.crashes = 1;
            it.failures = 1;
        }),
        Scenario::new(
            "two handles, and another process, start fails",
            By::Callback,
            &[&[Beside(vec![Acquire, Release]), Acquire, Release], ONCE],
        )
        .with(|it| it.bound = Some(1))
        .with_budget(|it| {
            it.crashes = 1;
            it.failures = 1;
        }),
        Scenario::new(
            "two handles of a process, one cancelled",
            By::Callback,
            &[&[Beside(vec![AcquireOrCancel, Release]), Acquire, Release]],
        )
        .with_budget(|it| it.cancels = 1),
        Scenario::new(
            "a client only joins",
            By::Callback,
            &[ONCE, &[TryJoin, Release]],
        )
        .with_budget(|it| it.clients = 1),
        Scenario::new(
            "a client waits for the end",
            By::Callback,
            &[ONCE, &[WaitStopped]],
        )
        .with_budget(|it| it.clients = 1),
    ]
}

/// Two clients of a service that is a command.
pub(super) fn by_command() -> Vec<Scenario> {
    let two = |name| Scenario::new(name, By::Command, &[ONCE, ONCE]);
    vec![
        Scenario::new("command, alone", By::Command, &[ONCE]).with_budget(|it| it.clients = 1),
        two("command"),
        two("command, one killed").with_budget(|it| it.clients = 1),
        two("command, each killed").with_budget(|it| it.clients = 2),
        two("command, supervisor killed").with_budget(|it| it.supervisors = 1),
        two("command, supervisor suspended").with_budget(|it| it.suspensions = 1),
        two("command, crashes, supervisor suspended")
            .with(|it| {
                it.workers = true;
                it.bound = Some(2);
            })
            .with_budget(|it| {
                it.crashes = 1;
                it.suspensions = 1;
            }),
        two("command, crashes")
            .with(|it| it.workers = true)
            .with_budget(|it| it.crashes = 1),
        two("command, crashes, client killed")
            .with(|it| {
                it.workers = true;
                it.bound = Some(2);
            })
            .with_budget(|it| {
                it.crashes = 1;
                it.clients = 1;
            }),
        two("command, crashes, each killed")
            .with(|it| it.bound = Some(1))
            .with_budget(|it| {
                it.crashes = 1;
                it.clients = 2;
            }),
        two("command, falls ill").with_budget(|it| it.illnesses = 1),
        Scenario::new(
            "command, cancelled",
            By::Command,
            &[&[AcquireOrCancel, Release], ONCE],
        )
        .with_budget(|it| it.cancels = 1),
        two("command, set removed")
            .with(|it| it.bound = Some(2))
            .with_budget(|it| it.removals = 1),
        two("command, lingers")
            .lingering()
            .with_budget(|it| it.clients = 1),
        two("command, notifies, each killed")
            .with(|it| it.notifies = true)
            .with_budget(|it| it.clients = 2),
        two("command, stubborn")
            .with(|it| it.stubborn = true)
            .with_budget(|it| it.clients = 1),
    ]
}

fn three(name: &'static str, by: By, bound: u8) -> Scenario {
    Scenario::new(name, by, &[ONCE, ONCE, ONCE])
        .with(|it| it.bound = Some(bound))
        .with_budget(|it| it.clients = 2)
}

/// Three clients, two of which may be killed, with bounded preemption.
pub(super) fn three_by_callback() -> Scenario {
    three("three, callback", By::Callback, 2)
}

pub(super) fn three_with_orphans_kept() -> Scenario {
    three("three, callback, orphans kept", By::Callback, 2).keeping_orphans()
}

pub(super) fn three_by_command() -> Scenario {
    three("three, command", By::Command, 1)
}

/// At most one of three clients and one supervisor are killed.
pub(super) fn three_and_a_supervisor() -> Vec<Scenario> {
    let one_each = |it: Scenario| {
        it.with_budget(|it| {
            it.clients = 1;
            it.supervisors = 1;
        })
    };
    vec![
        one_each(three(
            "three, callback, one and a supervisor",
            By::Callback,
            1,
        )),
        one_each(three(
            "three, command, one and a supervisor",
            By::Command,
            1,
        )),
    ]
}

/// Scenarios that are too large to explore.
pub(super) fn at_random() -> Vec<Scenario> {
    let three = |name, by| {
        Scenario::new(name, by, &[TWICE, TWICE, ONCE])
            .with(|it| it.workers = by == By::Command)
            .with_budget(|it| {
                it.clients = 2;
                it.supervisors = 1;
                it.crashes = 1;
            })
    };
    vec![
        three("at random, callback", By::Callback),
        three("at random, command", By::Command),
        three("at random, callback, lingers", By::Callback).lingering(),
    ]
}
