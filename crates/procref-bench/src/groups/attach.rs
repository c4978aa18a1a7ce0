//! What a reference costs where the service runs already.

use super::{Run, Table};
use crate::Result;
use crate::contender::Contender;
use crate::driver::{Place, Process};
use crate::raw::Bare;
use crate::stats::{Measure, Unit};

/// How long repetitions are to take at least, in ns, and how many there are at most.
const LONG_ENOUGH: f64 = 20e6;
const MOST: f64 = 10_000.0;
/// Attaches of fresh processes in a round.
const FRESH: usize = 3;

struct Subject {
    place: Place,
    /// Without it every client would be the first and the last.
    holder: Process,
    /// Attaches and detaches again and again, holding nothing in between.
    again: Process,
    /// The same, but holds one handle all the time.
    another: Process,
    /// Repetitions.
    count: u32,
}

impl Subject {
    fn new(run: &Run<'_>, contender: Contender) -> Result<Self> {
        let place = run.scratch.place(contender)?;
        let holder = place.holder()?;
        let mut again = place.client()?;
        again.ask("repeat 1")?;
        let once = again.ask("repeat 10")?.took() / 10.0;
        Ok(Self {
            another: place.holder()?,
            count: (LONG_ENOUGH / once).clamp(10.0, MOST) as u32,
            place,
            holder,
            again,
        })
    }

    fn round(&mut self) -> Result<Costs> {
        let count = f64::from(self.count);
        let repeat = format!("repeat {}", self.count);
        let mut fresh = [0.0; FRESH];
        for took in &mut fresh {
            let mut client = self.place.client()?;
            *took = client.ask("attach")?.took();
            client.end()?;
        }
        let release = match self.place.contender {
            Contender::Filelock => None,
            _ => Some(self.again.ask(&format!("releases {}", self.count))?.times as f64 / count),
        };
        Ok(Costs {
            fresh,
            again: self.again.ask(&repeat)?.took() / count,
            another: self.another.ask(&repeat)?.took() / count,
            release,
        })
    }
}

/// Of one round, in ns.
struct Costs {
    fresh: [f64; FRESH],
    again: f64,
    another: f64,
    release: Option<f64>,
}

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    let contenders = run.usable();
    let bare = Bare::new()?;
    let [mut fresh, mut again, mut another, mut release] =
        [(); 4].map(|()| Table::new(&contenders));
    let mut subjects = Vec::new();
    for &contender in &contenders {
        subjects.extend(again.outcome(contender, Subject::new(run, contender))?);
    }
    for _ in 0..run.effort.rounds {
        for subject in &mut subjects {
            let contender = subject.place.contender;
            // Right before, because the machine is not the same a second later.
            let floor = bare.floor()?;
            let Some(cost) = again.outcome(contender, subject.round())? else {
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
        subject.another.end()?;
        subject.again.end()?;
        subject.holder.end()?;
    }
    let measure = |id: &'static str, title: &'static str, table: Table, limit: f64| Measure {
        id: id.into(),
        title: title.into(),
        unit: Unit::Nanoseconds,
        floor: Some("a bare pair of semop, +1 and −1 with SEM_UNDO".into()),
        axis: None,
        rows: table.rows(|it| it.is_ours().then_some(limit)),
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
