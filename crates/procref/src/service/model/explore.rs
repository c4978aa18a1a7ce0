//! Goes through a scenario's schedules: all of them, or some at random.
//!
//! A schedule is the list of choices that were made. Runs cannot be copied, but they can be repeated: a
//! process does nothing but what follows from what it has observed. For the same reason a state is what the
//! machine is, and what each process has observed; of two equal ones only the first is gone on from.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::machine::Choice;
use super::run::Run;
use super::scenario::Scenario;

/// No run is longer.
const DEPTH: usize = 4000;

/// What all schedules of a scenario came to.
#[derive(Debug, Default)]
pub(super) struct Explored {
    pub(super) schedules: u64,
    pub(super) states: usize,
    pub(super) steps: u64,
    pub(super) depth: usize,
    pub(super) time: Duration,
}

/// A schedule on which something goes wrong.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) violation: String,
    pub(super) schedules: u64,
    pub(super) trace: Vec<String>,
}

/// States are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type AsItIs = BuildHasherDefault<AsIs>;

struct Frame {
    state: u64,
    choices: Vec<Choice>,
    /// How many of them go on by themselves.
    by_itself: usize,
    taken: usize,
}

/// Explores so many schedules at most. `None`: nothing has gone wrong by then.
pub(super) fn search(scenario: &Scenario, limit: u64) -> Result<Option<Explored>, Found> {
    let begun = Instant::now();
    let scenario = Arc::new(scenario.clone());
    let mut explored = Explored::default();
    let mut known: HashSet<u64, AsItIs> = HashSet::default();
    let mut graph = Graph::default();
    let mut frames: Vec<Frame> = Vec::new();
    loop {
        let mut run = Run::new(&scenario, false);
        for frame in &frames {
            run.take(frame.choices[frame.taken]);
        }
        explored.steps += frames.len() as u64;
        explored.schedules += 1;
        loop {
            let (choices, by_itself) = run.machine().choices();
            if by_itself == 0 {
                run.machine().check_end();
            }
            let violation = run.machine().violation.take();
            if let Some(violation) = violation {
                return Err(found(&scenario, &frames, violation, explored.schedules));
            }
            let state = run.hash();
            if let Some(frame) = frames.last().filter(|frame| frame.taken < frame.by_itself) {
                graph.step(frame.state, state);
            }
            if by_itself == 0 {
                graph.ends.push(state);
            }
            if !known.insert(state) || choices.is_empty() {
                break;
            }
            let first = choices[0];
            frames.push(Frame {
                state,
                choices,
                by_itself,
                taken: 0,
            });
            explored.depth = explored.depth.max(frames.len());
            if frames.len() > DEPTH {
                let violation = "it goes on for ever".to_owned();
                return Err(found(&scenario, &frames, violation, explored.schedules));
            }
            run.take(first);
            explored.steps += 1;
        }
        while let Some(frame) = frames.last_mut() {
            frame.taken += 1;
            if frame.taken < frame.choices.len() {
                break;
            }
            frames.pop();
        }
        if frames.is_empty() {
            break;
        }
        if explored.schedules >= limit {
            return Ok(None);
        }
    }
    if let Some(trap) = graph.trap() {
        let violation = "G4: from here on it can go on for ever, and cannot end".to_owned();
        return Err(match path_to(&scenario, trap) {
            Some(frames) => found(&scenario, &frames, violation, explored.schedules),
            None => Found {
                violation,
                schedules: explored.schedules,
                trace: Vec::new(),
            },
        });
    }
    explored.states = known.len();
    explored.time = begun.elapsed();
    Ok(Some(explored))
}

/// Which state follows from which, by what happens by itself.
#[derive(Default)]
struct Graph {
    steps: Vec<(u64, u64)>,
    /// States in which nothing more happens by itself.
    ends: Vec<u64>,
}

impl Graph {
    fn step(&mut self, from: u64, to: u64) {
        self.steps.push((to, from));
    }

    /// A state from which no end can be reached.
    fn trap(mut self) -> Option<u64> {
        self.steps.sort_unstable();
        let mut good: HashSet<u64, AsItIs> = HashSet::default();
        let mut open = self.ends;
        while let Some(state) = open.pop() {
            if good.insert(state) {
                let first = self.steps.partition_point(|&(to, _)| to < state);
                let before = self.steps[first..].iter();
                open.extend(before.take_while(|step| step.0 == state).map(|step| step.1));
            }
        }
        let mut states = self.steps.iter().map(|step| step.1);
        states.find(|state| !good.contains(state))
    }
}

/// The schedule that leads to a state.
fn path_to(scenario: &Arc<Scenario>, state: u64) -> Option<Vec<Frame>> {
    let mut known: HashSet<u64, AsItIs> = HashSet::default();
    let mut frames: Vec<Frame> = Vec::new();
    loop {
        let mut run = Run::new(scenario, false);
        for frame in &frames {
            run.take(frame.choices[frame.taken]);
        }
        loop {
            let here = run.hash();
            if here == state {
                return Some(frames);
            }
            let (choices, by_itself) = run.machine().choices();
            if !known.insert(here) || choices.is_empty() {
                break;
            }
            let first = choices[0];
            frames.push(Frame {
                state: here,
                choices,
                by_itself,
                taken: 0,
            });
            run.take(first);
        }
        while let Some(frame) = frames.last_mut() {
            frame.taken += 1;
            if frame.taken < frame.choices.len() {
                break;
            }
            frames.pop();
        }
        if frames.is_empty() {
            return None;
        }
    }
}

fn found(scenario: &Arc<Scenario>, frames: &[Frame], violation: String, schedules: u64) -> Found {
    let choices: Vec<Choice> = frames
        .iter()
        .map(|frame| frame.choices[frame.taken.min(frame.choices.len() - 1)])
        .collect();
    Found {
        violation,
        schedules,
        trace: trace(scenario, &choices),
    }
}

/// The schedule once more, told.
fn trace(scenario: &Arc<Scenario>, choices: &[Choice]) -> Vec<String> {
    let mut run = Run::new(scenario, true);
    for &choice in choices {
        run.take(choice);
    }
    let trace = run.machine().trace.take();
    trace.unwrap_or_default()
}

/// How many schedules at random, and what they came to.
pub(super) fn walk(scenario: &Scenario, seed: u64, schedules: u64) -> Result<Explored, Found> {
    let begun = Instant::now();
    let scenario = Arc::new(scenario.clone());
    let mut explored = Explored::default();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut seen: HashMap<u64, (), AsItIs> = HashMap::default();
    for _ in 0..schedules {
        explored.schedules += 1;
        let mut run = Run::new(&scenario, false);
        let mut taken = Vec::new();
        // Each run has its own idea of how likely it is that something comes from outside.
        let outside = random.f64() * 0.2;
        loop {
            let (choices, by_itself) = run.machine().choices();
            if by_itself == 0 {
                run.machine().check_end();
            }
            let violation = run
                .machine()
                .violation
                .take()
                .or_else(|| (taken.len() > DEPTH).then(|| "it goes on for ever".to_owned()));
            if let Some(violation) = violation {
                return Err(Found {
                    violation,
                    schedules: explored.schedules,
                    trace: trace(&scenario, &taken),
                });
            }
            seen.insert(run.hash(), ());
            let (by_itself, others) = choices.split_at(by_itself);
            let from = if !others.is_empty() && random.f64() < outside {
                others
            } else {
                by_itself
            };
            let Some(&choice) = random.choice(from) else {
                break;
            };
            taken.push(choice);
            run.take(choice);
        }
        explored.steps += taken.len() as u64;
        explored.depth = explored.depth.max(taken.len());
    }
    explored.states = seen.len();
    explored.time = begun.elapsed();
    Ok(explored)
}
