//! How soon a death has its effect.

use super::{Run, Table, facts};
use crate::Result;
use crate::driver::{NEVER, Place, Process};
use crate::raw::{Bare, Until};
use crate::site::{Event, Site};
use crate::stats::{Measure, Row, Samples, Unit};

/// At most so many times a bare wake.
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
            let place = run.scratch.place(contender)?;
            if let Some(taken) = table.outcome(contender, stopped(&place))? {
                table.of(contender).add_over(taken, floor);
            }
        }
    }
    let mut rows = vec![Row::new("bare wake", &wakes)];
    rows.append(&mut table.rows(|it| it.is_ours().then_some(LIMIT)));
    Ok(Measure {
        id: "crash-to-stop".into(),
        title: "SIGKILL of the last client to SIGTERM at the service".into(),
        unit: Unit::Nanoseconds,
        floor: Some(
            "the wake of a process that sleeps in a bare array until nobody is left".into(),
        ),
        axis: None,
        rows,
    })
}

fn stopped(place: &Place) -> Result<f64> {
    let killed = place.holder()?.kill();
    let asked = place.wait_note(Event::Asked, 0, NEVER);
    Ok((asked.ok_or("it was not stopped")?.at - killed) as f64)
}

fn to_takeover(run: &Run<'_>) -> Result<Measure> {
    let contenders = run.usable();
    let mut table = Table::new(&contenders);
    let mut floors = Samples::default();
    for _ in 0..run.effort.starts {
        for &contender in &contenders {
            match run.facts_of(contender).takes_over {
                None => table.note(contender, "the bus starts it, and no client"),
                Some(false) => table.note(contender, "never"),
                Some(true) => {
                    let floor = bare_wake(Until::Unlocked)? + begin(run)?;
                    floors.add(floor);
                    let place = run.scratch.place(contender)?;
                    let taken = facts::takes_over(&place)
                        .and_then(|taken| taken.ok_or("nobody took over".into()));
                    if let Some(taken) = table.outcome(contender, taken)? {
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
        floor: Some("the wake of a process that sleeps until the lock is free, and a start of the service up to its first step".into()),
        axis: None,
        rows,
    })
}

/// From the death of who holds a bare set to the wake of who waits for that, in ns.
fn bare_wake(until: Until) -> Result<f64> {
    let bare = Bare::new()?;
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

/// From the order to start the service to its first step.
fn begin(run: &Run<'_>) -> Result<f64> {
    let site = Site::new(&run.scratch.fresh()?);
    let ordered = procref_testkit::observe::now_ns();
    let pid = site.start()?;
    let begun = site.noted(Event::Begun).ok_or("it has not begun")?;
    crate::driver::end_now(pid);
    Ok((begun.at - ordered) as f64)
}
