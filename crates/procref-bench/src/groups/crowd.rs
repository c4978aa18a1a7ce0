//! A crowd of processes that wait for one start.

use std::time::Duration;

use super::{Run, Table};
use crate::contender::Contender;
use crate::driver::{Answer, NEVER, Process, Setup};
use crate::error::Result;
use crate::raw::{BareSet, Until};
use crate::site::Event;
use crate::stats::{Measure, Row, Samples, Unit};

/// Time that the crowd waits, from the start of the service.
const WAIT: Duration = Duration::from_secs(1);
/// Number of Python processes. A thousand of them need more memory than many machines have.
const MAX_PYTHON: usize = 100;

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
            if contender == Contender::Filelock && size > MAX_PYTHON {
                size = MAX_PYTHON;
                for table in [&mut last, &mut cpu] {
                    table.note(contender, format!("{MAX_PYTHON} processes only"));
                }
            }
            let setup = run.scratch.set_up(contender)?;
            if let Some((released, used)) = last.record(contender, crowd(&setup, size))? {
                last.of(contender).add_over(released, floor.0);
                cpu.of(contender).add_over(used, floor.1);
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
            floor: Some("as many processes that wait in a bare array until a lock is free".into()),
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

/// Returns the time from ready to the last client, and the processor time of all clients, in ns.
fn crowd(setup: &Setup, size: usize) -> Result<(f64, f64)> {
    setup.site.close_gate()?;
    let mut waiters: Vec<Process> = (0..size)
        .map(|_| setup.starting_client())
        .collect::<Result<_>>()?;
    for waiter in &mut waiters {
        waiter.wait_ready()?;
    }
    for waiter in &mut waiters {
        waiter.send("attach")?;
    }
    setup
        .wait_note(Event::Started, 0, NEVER)
        .ok_or("no service starts")?;
    std::thread::sleep(WAIT);
    setup.site.open_gate()?;
    let answers: Vec<Answer> = waiters
        .iter_mut()
        .map(Process::answer)
        .collect::<Result<_>>()?;
    let ready = setup
        .site
        .last_note(Event::Ready)
        .ok_or("the service is not ready")?;
    // The clients are killed, so that none of them has to stop the service.
    drop(waiters);
    Ok(summarize(&answers, ready.at))
}

fn summarize(answers: &[Answer], released: u64) -> (f64, f64) {
    let last = answers
        .iter()
        .map(|answer| answer.ended)
        .max()
        .unwrap_or(released);
    let cpu: u64 = answers.iter().map(|answer| answer.cpu).sum();
    (last.saturating_sub(released) as f64, cpu as f64)
}

fn bare(size: usize) -> Result<(f64, f64)> {
    let bare = BareSet::new()?;
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
    Ok(summarize(&answers, released))
}
