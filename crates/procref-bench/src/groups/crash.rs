//! The time from a death to its effect.

use super::{Run, Table, facts};
use crate::driver::{NEVER, Process, Setup};
use crate::error::Result;
use crate::raw::{BareSet, Until};
use crate::site::{Event, Site};
use crate::stats::{Measure, Row, Samples, Unit};

/// The largest accepted ratio to a bare wake.
const LIMIT: f64 = 3.5;

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    Ok(vec![to_stop(run)?, to_takeover(run)?])
}

fn to_stop(run: &Run<'_>) -> Result<Measure> {
    let contenders = run.usable();
    let mut table = Table::new(&contenders);
    let mut wakes = Samples::default();
    for _ in 0..run.effort.starts {
        for &contender in &contenders {
            if !run.facts_of(contender).stops_after_last_is_killed {
                table.note(contender, "never");
                continue;
            }
            let floor = bare_wake(Until::Idle)?;
            wakes.add(floor);
            let setup = run.scratch.set_up(contender)?;
            if let Some(taken) = table.record(contender, stopped(&setup))? {
                table.of(contender).add_over(taken, floor);
            }
        }
    }
    let mut rows = vec![Row::new("bare wake", &wakes)];
    rows.append(&mut table.rows(|contender| contender.is_ours().then_some(LIMIT)));
    Ok(Measure {
        id: "crash-to-stop".into(),
        title: "SIGKILL of the last client to SIGTERM at the service".into(),
        unit: Unit::Nanoseconds,
        floor: Some(
            "the wake of a process that waits in a bare array until no reference is left".into(),
        ),
        axis: None,
        rows,
    })
}

fn stopped(setup: &Setup) -> Result<f64> {
    let killed = setup.holder()?.kill();
    let stopped = setup.wait_note(Event::StopSignal, 0, NEVER);
    Ok((stopped.ok_or("the service was not stopped")?.at - killed) as f64)
}

fn to_takeover(run: &Run<'_>) -> Result<Measure> {
    let contenders = run.usable();
    let mut table = Table::new(&contenders);
    let mut floors = Samples::default();
    for _ in 0..run.effort.starts {
        for &contender in &contenders {
            match run.facts_of(contender).takes_over {
                None => table.note(contender, "the bus starts the service, not a client"),
                Some(false) => table.note(contender, "never"),
                Some(true) => {
                    let floor = bare_wake(Until::Unlocked)? + first_step(run)?;
                    floors.add(floor);
                    let setup = run.scratch.set_up(contender)?;
                    let taken = facts::takes_over(&setup)
                        .and_then(|taken| taken.ok_or("no client took over".into()));
                    if let Some(taken) = table.record(contender, taken)? {
                        table.of(contender).add_over(taken, floor);
                    }
                }
            }
        }
    }
    let mut rows = vec![Row::new("bare wake, and a start", &floors)];
    rows.append(&mut table.rows(|_| None));
    Ok(Measure {
        id: "crash-to-takeover".into(),
        title: "SIGKILL of the starter to the first step of the next start's service".into(),
        unit: Unit::Nanoseconds,
        floor: Some("the wake of a process that waits until the lock is free, and a start of the service up to its first step".into()),
        axis: None,
        rows,
    })
}

/// Returns the time from the death of a bare set's holder to the wake of the waiter, in ns.
fn bare_wake(until: Until) -> Result<f64> {
    let bare = BareSet::new()?;
    let mut holder = Process::role(["raw-hold", &bare.id()])?;
    holder.line()?;
    let mut waiter = Process::role(["raw-wait", &bare.id(), until.name()])?;
    waiter.line()?;
    while bare.sleepers() == 0 {
        std::thread::yield_now();
    }
    let killed = holder.kill();
    Ok((waiter.answer()?.ended - killed) as f64)
}

/// Returns the time from the start of the service to its first step, in ns.
fn first_step(run: &Run<'_>) -> Result<f64> {
    let site = Site::new(&run.scratch.fresh()?);
    let started = procref_testkit::observe::now_ns();
    let pid = site.start()?;
    let first = site
        .last_note(Event::Started)
        .ok_or("the service did not start")?;
    crate::driver::kill_now(pid);
    Ok((first.at - started) as f64)
}
