//! A crowd of processes that wait for one start.

use std::time::Duration;

use super::{Run, Table};
use crate::Result;
use crate::contender::Contender;
use crate::driver::{Answer, NEVER, Place, Process};
use crate::raw::{Bare, Until};
use crate::site::Event;
use crate::stats::{Measure, Row, Samples, Unit};

/// How long the crowd has to wait, once the service has begun to start.
const WAIT: Duration = Duration::from_secs(1);
/// A Python process is so large that a thousand do not fit into many a machine.
const PYTHONS: usize = 100;

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    let contenders = run.usable();
    let [mut last, mut cpu] = [(); 2].map(|()| Table::new(&contenders));
    let [mut bare_last, mut bare_cpu] = [Samples::default(), Samples::default()];
    for _ in 0..run.effort.crowds {
        let size = run.effort.crowd;
        let floor = bare(size)?;
        bare_last.add(floor.0);
        bare_cpu.add(floor.1);
        for &contender in &contenders {
            let mut size = size;
            if contender == Contender::Filelock && size > PYTHONS {
                size = PYTHONS;
                for table in [&mut last, &mut cpu] {
                    table.note(contender, format!("{PYTHONS} processes only"));
                }
            }
            let place = run.scratch.place(contender)?;
            if let Some((released, burnt)) = last.outcome(contender, crowd(&place, size))? {
                last.of(contender).add_over(released, floor.0);
                cpu.of(contender).add_over(burnt, floor.1);
            }
        }
    }
    let measure = |id: &'static str, title: &'static str, bare: Samples, table: Table| {
        let mut rows = vec![Row::new("bare wait for the lock", &bare)];
        rows.append(&mut table.rows(|_| None));
        Measure {
            id: id.into(),
            title: title.into(),
            unit: Unit::Nanoseconds,
            floor: Some("as many processes that sleep in a bare array until a lock is free".into()),
            axis: None,
            rows,
        }
    };
    Ok(vec![
        measure(
            "crowd-release",
            "A crowd of 1,000 waits for one start: from ready to the last one",
            bare_last,
            last,
        ),
        measure(
            "crowd-cpu",
            "Processor time of the whole crowd, waiting for a second and joining",
            bare_cpu,
            cpu,
        ),
    ])
}

/// From ready to the last one, and the processor time of all of them, in ns.
fn crowd(place: &Place, size: usize) -> Result<(f64, f64)> {
    place.site.close_gate()?;
    let mut waiters: Vec<Process> = (0..size)
        .map(|_| place.client_that_starts())
        .collect::<Result<_>>()?;
    for waiter in &mut waiters {
        waiter.wait_here()?;
    }
    for waiter in &mut waiters {
        waiter.send("attach")?;
    }
    place
        .wait_note(Event::Begun, 0, NEVER)
        .ok_or("no service begins")?;
    std::thread::sleep(WAIT);
    place.site.open_gate()?;
    let answers: Vec<Answer> = waiters
        .iter_mut()
        .map(Process::answer)
        .collect::<Result<_>>()?;
    let ready = place.site.noted(Event::Ready).ok_or("it is not ready")?;
    // Whoever is killed here leaves last in no particular order; nobody has to stop anything.
    drop(waiters);
    Ok(told(&answers, ready.at))
}

fn told(answers: &[Answer], released: u64) -> (f64, f64) {
    let last = answers.iter().map(|it| it.ended).max().unwrap_or(released);
    let cpu: u64 = answers.iter().map(|it| it.cpu).sum();
    (last.saturating_sub(released) as f64, cpu as f64)
}

fn bare(size: usize) -> Result<(f64, f64)> {
    let bare = Bare::new()?;
    bare.lock(1)?;
    let id = bare.id();
    let waiter = |_| Process::role(["raw-wait", &id, Until::Unlocked.name()]);
    let mut waiters: Vec<Process> = (0..size).map(waiter).collect::<Result<_>>()?;
    for waiter in &mut waiters {
        waiter.line()?;
    }
    while (bare.sleepers() as usize) < size {
        std::thread::sleep(Duration::from_millis(1));
    }
    let released = procref_testkit::observe::now_ns();
    bare.lock(-1)?;
    let answers: Vec<Answer> = waiters
        .iter_mut()
        .map(Process::answer)
        .collect::<Result<_>>()?;
    Ok(told(&answers, released))
}
