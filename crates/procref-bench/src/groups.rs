//! The groups of measurements, their order, and their repetitions.

use std::path::Path;

use clap::ValueEnum;

use crate::contender::Contender;
use crate::driver::Scratch;
use crate::error::Result;
use crate::results::{Facts, Machine, Results};
use crate::stats::{Row, Samples};
use crate::{plot, report};

mod attach;
mod cold;
mod crash;
mod crowd;
mod facts;
mod growth;
mod memory;
mod scale;
mod size;
mod steps;
mod sustained;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// The behavior of each contender, on which the other groups depend
    Facts,
    /// Attach, attach again, another handle, release
    Attach,
    /// System calls and instructions of frequent steps
    Steps,
    /// Cost by number of services and clients
    Scale,
    /// Time, memory and kernel objects by number of clients and of services
    Growth,
    /// Memory
    Memory,
    /// Attach and detach at the highest rate
    Sustained,
    /// A crowd of clients that waits for one start
    Crowd,
    /// Cold start, without the time of the service itself
    Cold,
    /// From the last client's death to the stop, and from the starter's death to the next start
    Crash,
    /// Dependencies, compile time and program size
    Size,
}

/// The number of repetitions and the sizes of each group.
pub struct Effort {
    pub quick: bool,
    /// Rounds of measurements that take microseconds.
    pub rounds: usize,
    /// Rounds of measurements that start services.
    pub starts: usize,
    pub crowd: usize,
    pub crowds: usize,
    /// Time for which a rate is measured, in seconds.
    pub seconds: f64,
    pub services: Vec<usize>,
    pub clients: Vec<usize>,
    pub namespace: Vec<usize>,
    pub handles: usize,
    /// Clients that attach at once.
    pub crowds_of_clients: Vec<usize>,
    /// Services that one process starts.
    pub crowds_of_services: Vec<usize>,
}

impl Effort {
    pub fn new(quick: bool) -> Self {
        if quick {
            return Self {
                quick,
                rounds: 3,
                starts: 2,
                crowd: 30,
                crowds: 1,
                seconds: 0.2,
                services: vec![1, 10, 50],
                clients: vec![1, 10, 50],
                namespace: vec![1, 10, 50],
                handles: 1000,
                crowds_of_clients: vec![1, 10, 50],
                crowds_of_services: vec![1, 10, 50],
            };
        }
        Self {
            quick,
            rounds: 41,
            starts: 41,
            crowd: 1000,
            crowds: 5,
            seconds: 1.0,
            services: vec![1, 3, 10, 30, 100, 300, 1000, 2000],
            clients: vec![1, 10, 50, 100, 200, 1000, 5000],
            namespace: vec![1, 10, 100, 1000, 5000],
            handles: 100_000,
            crowds_of_clients: vec![10, 100, 1000, 5000],
            crowds_of_services: vec![1, 100, 5000],
        }
    }
}

/// The groups and contenders to measure, and the output.
pub struct Selection<'a> {
    /// An empty list selects all groups.
    pub only: &'a [Group],
    /// An empty list selects all contenders.
    pub contenders: &'a [Contender],
    pub out: &'a Path,
    /// Fail if a figure is above its limit.
    pub check: bool,
}

/// The state that the groups share.
pub struct Run<'a> {
    pub scratch: &'a Scratch,
    pub effort: &'a Effort,
    pub contenders: &'a [Contender],
    pub facts: &'a [(Contender, Facts)],
}

impl Run<'_> {
    pub fn facts_of(&self, contender: Contender) -> Facts {
        let found = self.facts.iter().find(|(known, _)| *known == contender);
        found.map(|(_, facts)| facts.clone()).unwrap_or_default()
    }

    /// Returns the contenders that can be used.
    pub fn usable(&self) -> Vec<Contender> {
        let works = |contender: &Contender| self.facts_of(*contender).works.is_ok();
        self.contenders.iter().copied().filter(works).collect()
    }
}

/// The samples of a table during the rounds.
pub struct Table {
    rows: Vec<(Contender, Samples, Option<String>)>,
}

impl Table {
    pub fn new(contenders: &[Contender]) -> Self {
        let row = |&contender: &Contender| (contender, Samples::default(), None);
        Self {
            rows: contenders.iter().map(row).collect(),
        }
    }

    pub fn of(&mut self, contender: Contender) -> &mut Samples {
        let row = self.rows.iter_mut().find(|row| row.0 == contender);
        &mut row.expect("a row for every contender").1
    }

    pub fn note(&mut self, contender: Contender, note: impl Into<String>) {
        let row = self.rows.iter_mut().find(|row| row.0 == contender);
        row.expect("a row for every contender").2 = Some(note.into());
    }

    /// Handles the result of a measurement. The failure of a peer becomes a note. A failure of procref ends the run.
    pub fn record<T>(&mut self, contender: Contender, done: Result<T>) -> Result<Option<T>> {
        match done {
            Ok(value) => Ok(Some(value)),
            Err(error) if contender.is_ours() => Err(error),
            Err(error) => {
                self.note(contender, format!("failed: {error}"));
                Ok(None)
            }
        }
    }

    pub fn rows(self, limit: impl Fn(Contender) -> Option<f64>) -> Vec<Row> {
        let row = |(contender, samples, note): (Contender, Samples, Option<String>)| {
            let row = Row::new(contender.title(), &samples).limited(limit(contender));
            match note {
                Some(note) => row.noted(note),
                None => row,
            }
        };
        self.rows.into_iter().map(row).collect()
    }
}

pub fn measure(scratch: &Path, effort: &Effort, selection: &Selection<'_>) -> Result<()> {
    let all = Contender::all();
    let selected: Vec<Contender> = match selection.contenders {
        [] => all.to_vec(),
        some => some.to_vec(),
    };
    raise_limits()?;
    let python = std::env::current_exe()?.with_file_name("filelock-venv");
    let scratch = Scratch::new(scratch, &python, &selected);
    let mut run = Run {
        scratch: &scratch,
        effort,
        contenders: &selected,
        facts: &[],
    };
    eprintln!("facts");
    let facts = facts::find(&run)?;
    run.facts = &facts;
    let mut results = Results {
        machine: Machine::current(),
        quick: effort.quick,
        facts: facts.clone(),
        measures: match selection.only.is_empty() {
            true => Vec::new(),
            false => report::earlier(selection.out)?,
        },
    };
    let mut measured = Vec::new();
    for &group in Group::value_variants() {
        if group == Group::Facts || !(selection.only.is_empty() || selection.only.contains(&group))
        {
            continue;
        }
        eprintln!("{}", format!("{group:?}").to_lowercase());
        let found = match group {
            Group::Facts => Vec::new(),
            Group::Attach => attach::measure(&run)?,
            Group::Cold => cold::measure(&run)?,
            Group::Crash => crash::measure(&run)?,
            Group::Crowd => crowd::measure(&run)?,
            Group::Sustained => sustained::measure(&run)?,
            Group::Steps => steps::measure(&run)?,
            Group::Scale => scale::measure(&run)?,
            Group::Growth => growth::measure(&run)?,
            Group::Memory => memory::measure(&run)?,
            Group::Size => size::measure(&run)?,
        };
        for measure in found {
            measured.push(measure.id.clone());
            match results
                .measures
                .iter_mut()
                .find(|earlier| earlier.id == measure.id)
            {
                Some(earlier) => *earlier = measure,
                None => results.measures.push(measure),
            }
        }
        // The results so far are kept if a long run is interrupted.
        report::write(&results, selection.out)?;
        plot::draw(&results, selection.out)?;
    }
    report::print(&results);
    if selection.check {
        // An earlier run may have measured the others on a busy machine.
        results.measures.retain(|it| measured.contains(&it.id));
        report::check(&results)?;
    }
    Ok(())
}

/// Raises the limit of open files to the maximum, because each client needs two pipes.
fn raise_limits() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}
