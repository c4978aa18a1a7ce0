//! Goes through a scenario's schedules: all of them, or some at random.
//!
//! A schedule is the list of choices that were made. Runs cannot be copied, but they can be repeated: a
//! process does nothing but what follows from what it has observed. For the same reason a state is what the
//! machine is, and what each process has observed; of two equal ones only the first is gone on from.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::choices::Choice;
use super::runner::Run;
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
    /// All schedules were tried.
    pub(super) whole: bool,
}

/// A schedule on which something goes wrong.
#[derive(Debug)]
pub(super) struct Counterexample {
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

/// A choice, by which a state was reached that was not known.
#[derive(Clone, Copy)]
struct Reached {
    by: Choice,
    after: Node,
    depth: u16,
}

/// The number of such a choice, from 1; 0 is where everything begins.
type Node = u32;

#[derive(Default)]
struct Tree(Vec<Reached>);

impl Tree {
    fn depth(&self, node: Node) -> u16 {
        match node {
            0 => 0,
            node => self.0[node as usize - 1].depth,
        }
    }

    fn add(&mut self, after: Node, by: Choice) -> Node {
        let depth = self.depth(after) + 1;
        self.0.push(Reached { by, after, depth });
        u32::try_from(self.0.len()).expect("memory ends sooner")
    }

    fn path_to(&self, node: Node, path: &mut Vec<Choice>) {
        path.clear();
        let mut node = node;
        while node != 0 {
            let Reached { by, after, .. } = self.0[node as usize - 1];
            path.push(by);
            node = after;
        }
        path.reverse();
    }
}

/// Something that is to be tried yet.
#[derive(Clone, Copy)]
struct Open {
    after: Node,
    by: Choice,
    /// The state in which it is tried, where it happens without help from outside.
    before: Option<u64>,
    /// The state that it leads to, where that can be told without a run.
    foreseen: Option<u64>,
}

/// Explores so many schedules at most.
///
/// With bounded preemption those come first in which nobody cuts in, then those in which it happens once,
/// and so on: so a state is reached with as few as possible the first time, and need not be gone on from
/// when it is reached with more.
pub(super) fn search(scenario: &Scenario, limit: u64) -> Result<Explored, Counterexample> {
    let begun = Instant::now();
    let scenario = Arc::new(scenario.clone());
    let mut explored = Explored::default();
    let mut known: HashMap<u64, Node, AsItIs> = HashMap::default();
    let mut tree = Tree::default();
    let mut graph = Graph::default();
    let mut now: Vec<Open> = Vec::new();
    let mut later: Vec<Open> = Vec::new();
    let mut bound = scenario.bound;
    let mut next: Option<Open> = None;
    let mut path = Vec::new();
    loop {
        let mut run = Run::new(&scenario, false);
        let mut here = 0;
        if let Some(open) = next {
            tree.path_to(open.after, &mut path);
            run.repeat(&path);
            run.take(open.by);
            here = open.after;
        }
        explored.schedules += 1;
        loop {
            let (choices, by_itself) = run.machine().choices();
            if by_itself == 0 {
                run.machine().check_end();
            }
            let too_long = usize::from(tree.depth(here)) > DEPTH;
            let violation = run.machine().violation.take();
            let state = run.machine().hash();
            let foreseen = next.and_then(|open| open.foreseen);
            let unforeseen = foreseen.is_some_and(|foreseen| foreseen != state);
            let violation = violation
                .or_else(|| too_long.then(|| "it goes on for ever".to_owned()))
                .or_else(|| unforeseen.then(|| "the model is broken: not foreseen".to_owned()));
            if let Some(violation) = violation {
                tree.path_to(here, &mut path);
                path.extend(next.map(|open| open.by));
                return Err(found(&scenario, &path, violation, explored.schedules));
            }
            if let Some(before) = next.and_then(|open| open.before) {
                graph.step(before, state);
            }
            let Entry::Vacant(unknown) = known.entry(state) else {
                break;
            };
            if let Some(open) = next {
                here = tree.add(here, open.by);
            }
            unknown.insert(here);
            explored.depth = explored.depth.max(tree.depth(here).into());
            if by_itself == 0 {
                graph.ends.push(state);
            }
            let first = now.len();
            for (index, &by) in choices.iter().enumerate() {
                let open = Open {
                    after: here,
                    by,
                    before: Some(state).filter(|_| index < by_itself),
                    foreseen: run.machine().foresee(by),
                };
                match bound {
                    Some(0) if run.machine().cuts_in(by) => {}
                    Some(_) if run.machine().cuts_in(by) => later.push(open),
                    _ => now.push(open),
                }
            }
            // The last one is taken first.
            now[first..].reverse();
            if now.len() == first {
                break;
            }
            let open = now.pop().expect("there is one");
            run.take(open.by);
            next = Some(open);
        }
        explored.steps += u64::from(tree.depth(here));
        next = loop {
            if now.is_empty() && !later.is_empty() {
                now.append(&mut later);
                bound = bound.map(|bound| bound - 1);
            }
            let open = now.pop();
            let foreseen = open
                .filter(|_| explored.schedules < limit)
                .and_then(|open| {
                    let after = open.foreseen.filter(|after| known.contains_key(after));
                    Some((open, after?))
                });
            let Some((open, after)) = foreseen else {
                break open;
            };
            // A run would come to the same, after repeating all that was before.
            explored.schedules += 1;
            explored.steps += u64::from(tree.depth(open.after));
            if let Some(before) = open.before {
                graph.step(before, after);
            }
        };
        if next.is_none() {
            explored.whole = true;
            break;
        }
        if explored.schedules >= limit {
            break;
        }
    }
    if let Some(trap) = graph.trap().filter(|_| explored.whole) {
        let violation = "G4: from here on it can go on for ever, and cannot end".to_owned();
        tree.path_to(known[&trap], &mut path);
        return Err(found(&scenario, &path, violation, explored.schedules));
    }
    explored.states = known.len();
    explored.time = begun.elapsed();
    Ok(explored)
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

fn found(
    scenario: &Arc<Scenario>,
    choices: &[Choice],
    violation: String,
    schedules: u64,
) -> Counterexample {
    Counterexample {
        violation,
        schedules,
        trace: trace(scenario, choices),
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

/// What is told of the schedule in which nobody cuts in and nothing happens from outside.
pub(super) fn undisturbed(scenario: &Scenario) -> Vec<String> {
    let mut run = Run::new(&Arc::new(scenario.clone()), true);
    loop {
        let (choices, by_itself) = run.machine().choices();
        match choices.first().filter(|_| by_itself > 0) {
            Some(&choice) => run.take(choice),
            None => return run.machine().trace.take().unwrap_or_default(),
        }
    }
}

/// One schedule, of which a test says how it goes on.
pub(super) struct Directed(Run);

impl Directed {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self(Run::new(&Arc::new(scenario.clone()), true))
    }

    /// Takes a choice whose description ends so, whether it happens by itself or comes from outside.
    pub(super) fn take(&mut self, described: &str) {
        let choice = self.find(described);
        let choice =
            choice.unwrap_or_else(|| panic!("{described:?} cannot happen: {:#?}", self.trace()));
        self.0.take(choice);
    }

    /// Lets everything go on but `client`, until something that is described so could happen next.
    pub(super) fn go_on_without(&mut self, client: &str, until: &str) {
        while self.find(until).is_none() {
            let next = {
                let machine = self.0.machine();
                let (choices, by_itself) = machine.choices();
                let own = |choice: &&Choice| !machine.describe(**choice).starts_with(client);
                choices[..by_itself].iter().find(own).copied()
            };
            let next =
                next.unwrap_or_else(|| panic!("{until:?} does not come: {:#?}", self.trace()));
            self.0.take(next);
        }
    }

    fn find(&self, described: &str) -> Option<Choice> {
        let machine = self.0.machine();
        let (choices, _) = machine.choices();
        let mut choices = choices.into_iter();
        choices.find(|&choice| machine.describe(choice).ends_with(described))
    }

    /// What has gone wrong.
    pub(super) fn violation(&self) -> Option<String> {
        self.0.machine().violation.clone()
    }

    fn trace(&self) -> Vec<String> {
        self.0.machine().trace.clone().unwrap_or_default()
    }
}

/// How many schedules at random, and what they came to.
pub(super) fn walk(
    scenario: &Scenario,
    seed: u64,
    schedules: u64,
) -> Result<Explored, Counterexample> {
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
                return Err(Counterexample {
                    violation,
                    schedules: explored.schedules,
                    trace: trace(&scenario, &taken),
                });
            }
            seen.insert(run.machine().hash(), ());
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
