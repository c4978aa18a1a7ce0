//! What is measured, in which order, and how often.

use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::driver::Scratch;
use crate::stats::{Measure, Row, Samples};
use crate::{Arguments, Result, plot, report};

mod attach;
mod cold;
mod crash;
mod crowd;
mod facts;
mod memory;
mod scale;
mod size;
mod sustained;

pub use facts::Facts;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// What each contender does; the other groups rest on it
    Facts,
    /// Attach, re-attach, another handle, release
    Attach,
    /// Cost against the number of services and clients
    Scale,
    /// Bytes
    Memory,
    /// Attach and detach for as long as it takes
    Sustained,
    /// A crowd that waits for one start
    Crowd,
    /// Cold start, beyond what the service itself needs
    Cold,
    /// From the last client's death to the stop, from the starter's to the next start
    Crash,
    /// Dependencies, compile time, size of the program
    Size,
}

/// How much of everything.
pub struct Effort {
    pub quick: bool,
    /// Rounds of what takes microseconds.
    pub rounds: usize,
    /// Rounds of what starts processes that start processes.
    pub starts: usize,
    pub crowd: usize,
    pub crowds: usize,
    /// How long a rate is measured.
    pub seconds: f64,
    pub services: Vec<usize>,
    pub clients: Vec<usize>,
    pub namespace: Vec<usize>,
    pub handles: usize,
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
            };
        }
        Self {
            quick,
            rounds: 20,
            starts: 10,
            crowd: 1000,
            crowds: 2,
            seconds: 1.0,
            services: vec![1, 3, 10, 30, 100, 300, 1000, 2000],
            clients: vec![1, 10, 50, 100, 200, 1000, 5000],
            namespace: vec![1, 10, 100, 1000, 5000],
            handles: 100_000,
        }
    }
}

/// What the groups share.
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

    /// Those that can be used at all.
    pub fn usable(&self) -> Vec<Contender> {
        let works = |it: &Contender| self.facts_of(*it).works.is_ok();
        self.contenders.iter().copied().filter(works).collect()
    }
}

/// One table's samples while the rounds are under way.
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

    /// What came of a measurement. That a peer fails is a result; that procref does ends the run.
    pub fn outcome<T>(&mut self, contender: Contender, done: Result<T>) -> Result<Option<T>> {
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

/// Everything that a run has found.
#[derive(Serialize, Deserialize)]
pub struct Results {
    pub machine: report::Machine,
    pub quick: bool,
    pub facts: Vec<(Contender, Facts)>,
    pub measures: Vec<Measure>,
}

pub fn measure(scratch: &Path, effort: &Effort, arguments: &Arguments) -> Result<()> {
    let all = Contender::all();
    let wanted: Vec<Contender> = match arguments.contenders.as_slice() {
        [] => all.to_vec(),
        some => some.to_vec(),
    };
    raise_limits()?;
    let python = std::env::current_exe()?.with_file_name("filelock-venv");
    let scratch = Scratch::new(scratch, &python, &wanted);
    let mut run = Run {
        scratch: &scratch,
        effort,
        contenders: &wanted,
        facts: &[],
    };
    eprintln!("facts");
    let facts = facts::find(&run)?;
    run.facts = &facts;
    let mut results = Results {
        machine: report::Machine::this(),
        quick: effort.quick,
        facts: facts.clone(),
        measures: match arguments.only.is_empty() {
            true => Vec::new(),
            false => report::earlier(&arguments.out)?,
        },
    };
    for &group in Group::value_variants() {
        if group == Group::Facts || !(arguments.only.is_empty() || arguments.only.contains(&group))
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
            Group::Scale => scale::measure(&run)?,
            Group::Memory => memory::measure(&run)?,
            Group::Size => size::measure(&run)?,
        };
        for measure in found {
            match results.measures.iter_mut().find(|it| it.id == measure.id) {
                Some(earlier) => *earlier = measure,
                None => results.measures.push(measure),
            }
        }
        // Whoever interrupts a long run keeps what there is.
        report::write(&results, &arguments.out)?;
        plot::draw(&results, &arguments.out)?;
    }
    report::print(&results);
    if arguments.check {
        report::check(&results)?;
    }
    Ok(())
}

/// As many open files as this process may have: each client is two pipes.
fn raise_limits() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}
