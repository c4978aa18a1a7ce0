//! The cost of a reference while the service is running.

use super::{Run, Table};
use crate::contender::Contender;
use crate::driver::{Process, Setup};
use crate::error::Result;
use crate::raw::BareSet;
use crate::stats::{Measure, Unit};

/// The least total time of the repetitions, in ns.
const MIN_TIME: f64 = 20e6;
/// The largest number of repetitions.
const MAX_COUNT: f64 = 10_000.0;
/// Attaches of fresh processes in a round.
const FRESH: usize = 3;

struct Subject {
    setup: Setup,
    /// Holds the service, because otherwise every client would be the first and the last one.
    holder: Process,
    /// Attaches and detaches repeatedly, without another handle.
    again: Process,
    /// Attaches and detaches repeatedly while it holds another handle.
    another: Process,
    /// Number of repetitions.
    count: u32,
}

impl Subject {
    fn new(run: &Run<'_>, contender: Contender) -> Result<Self> {
        let setup = run.scratch.set_up(contender)?;
        let holder = setup.holder()?;
        let mut again = setup.client()?;
        again.run("repeat 1")?;
        let once = again.run("repeat 10")?.took() / 10.0;
        Ok(Self {
            another: setup.holder()?,
            count: (MIN_TIME / once).clamp(10.0, MAX_COUNT) as u32,
            setup,
            holder,
            again,
        })
    }

    fn round(&mut self) -> Result<Costs> {
        let count = f64::from(self.count);
        let repeat = format!("repeat {}", self.count);
        let mut fresh = [0.0; FRESH];
        for took in &mut fresh {
            let mut client = self.setup.client()?;
            *took = client.run("attach")?.took();
            client.finish()?;
        }
        let release = match self.setup.contender {
            Contender::Filelock => None,
            _ => Some(self.again.run(&format!("releases {}", self.count))?.times as f64 / count),
        };
        Ok(Costs {
            fresh,
            again: self.again.run(&repeat)?.took() / count,
            another: self.another.run(&repeat)?.took() / count,
            release,
        })
    }
}

/// The costs of a round, in ns.
struct Costs {
    fresh: [f64; FRESH],
    again: f64,
    another: f64,
    release: Option<f64>,
}

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    let contenders = run.usable();
    let bare = BareSet::new()?;
    let [mut fresh, mut again, mut another, mut release] =
        [(); 4].map(|()| Table::new(&contenders));
    let mut subjects = Vec::new();
    for &contender in &contenders {
        subjects.extend(again.record(contender, Subject::new(run, contender))?);
    }
    for _ in 0..run.effort.rounds {
        for subject in &mut subjects {
            let contender = subject.setup.contender;
            // Measure the floor immediately before, because the speed of the machine changes.
            let floor = bare.floor()?;
            let Some(cost) = again.record(contender, subject.round())? else {
                continue;
            };
            again.of(contender).add_over(cost.again, floor);
            another.of(contender).add_over(cost.another, floor);
            for took in cost.fresh {
                fresh.of(contender).add_over(took, floor);
            }
            if let Some(took) = cost.release {
                release.of(contender).add_over(took, floor);
            }
        }
    }
    if contenders.contains(&Contender::Filelock) {
        release.note(Contender::Filelock, "not measured");
    }
    for subject in subjects {
        subject.another.finish()?;
        subject.again.finish()?;
        subject.holder.finish()?;
    }
    let measure = |id: &'static str, title: &'static str, table: Table, limit: f64| Measure {
        id: id.into(),
        title: title.into(),
        unit: Unit::Nanoseconds,
        floor: Some("a bare pair of semop, +1 and −1 with SEM_UNDO".into()),
        axis: None,
        rows: table.rows(|contender| contender.is_ours().then_some(limit)),
    };
    Ok(vec![
        measure("attach", "First attach of a fresh process", fresh, 50.0),
        measure(
            "re-attach",
            "Attach and detach by a process that did it before",
            again,
            3.5,
        ),
        measure(
            "another-handle",
            "Another handle in a process that holds one",
            another,
            1.5,
        ),
        measure("release", "Release, others remain", release, 2.0),
    ])
}
