//! Explores the schedules of a scenario: all of them, or random ones.
//!
//! A schedule is the list of its choices. A run cannot be copied, but it can be repeated, because a process
//! depends only on its observations. For the same reason, a state of a run consists of the machine's state
//! and the observations of each process. If two states are equal, the search continues from only one of them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::choices::Choice;
use super::runner::Run;
use super::scenario::Scenario;

/// The greatest number of steps of a run.
const DEPTH: usize = 4000;

/// The figures of all explored schedules.
#[derive(Debug, Default)]
pub(super) struct Explored {
    pub(super) schedules: u64,
    pub(super) states: usize,
    pub(super) steps: u64,
    pub(super) depth: usize,
    pub(super) time: Duration,
    /// `true` if all schedules were explored.
    pub(super) whole: bool,
}

/// A schedule that violates an invariant.
#[derive(Debug)]
pub(super) struct Counterexample {
    pub(super) violation: String,
    pub(super) schedules: u64,
    pub(super) trace: Vec<String>,
}

/// A hasher that returns its input, because states are hashes already.
#[derive(Default)]
struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
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

type BuildIdentityHasher = BuildHasherDefault<IdentityHasher>;

/// A choice that led to a new state.
#[derive(Clone, Copy)]
struct TreeNode {
    by: Choice,
    after: Node,
    depth: u16,
}

/// The number of such a choice, from 1. The initial state is 0.
type Node = u32;

#[derive(Default)]
struct ChoiceTree(Vec<TreeNode>);

impl ChoiceTree {
    fn depth(&self, node: Node) -> u16 {
        match node {
            0 => 0,
            node => self.0[node as usize - 1].depth,
        }
    }

    fn add(&mut self, after: Node, by: Choice) -> Node {
        let depth = self.depth(after) + 1;
        self.0.push(TreeNode { by, after, depth });
        u32::try_from(self.0.len()).expect("the machine has no memory for so many states")
    }

    fn path_to(&self, node: Node, path: &mut Vec<Choice>) {
        path.clear();
        let mut node = node;
        while node != 0 {
            let TreeNode { by, after, .. } = self.0[node as usize - 1];
            path.push(by);
            node = after;
        }
        path.reverse();
    }
}

/// A choice that is not explored yet.
#[derive(Clone, Copy)]
struct Pending {
    after: Node,
    by: Choice,
    /// The state before the choice, if the choice needs no external event.
    before: Option<u64>,
    /// The state after the choice, if it can be predicted without a run.
    foreseen: Option<u64>,
}

/// Explores at most `limit` schedules.
///
/// With bounded preemption, schedules without preemption come first, then those with one, and so on. So each
/// state is first reached with the fewest preemptions. The search does not continue from it when it is
/// reached again with more.
pub(super) fn search(scenario: &Scenario, limit: u64) -> Result<Explored, Counterexample> {
    let begun = Instant::now();
    let scenario = Arc::new(scenario.clone());
    let mut explored = Explored::default();
    let mut known: HashMap<u64, Node, BuildIdentityHasher> = HashMap::default();
    let mut tree = ChoiceTree::default();
    let mut graph = Graph::default();
    let mut now: Vec<Pending> = Vec::new();
    let mut later: Vec<Pending> = Vec::new();
    let mut bound = scenario.bound;
    let mut next: Option<Pending> = None;
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
                .or_else(|| too_long.then(|| "the schedule does not end".to_owned()))
                .or_else(|| unforeseen.then(|| "the model is broken: wrong prediction".to_owned()));
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
                let open = Pending {
                    after: here,
                    by,
                    before: Some(state).filter(|_| index < by_itself),
                    foreseen: run.machine().predict(by),
                };
                match bound {
                    Some(0) if run.machine().preempts(by) => {}
                    Some(_) if run.machine().preempts(by) => later.push(open),
                    _ => now.push(open),
                }
            }
            // Take the last choice first.
            now[first..].reverse();
            if now.len() == first {
                break;
            }
            let open = now.pop().expect("a pending choice");
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
            // Skip a run that would only repeat the earlier choices and reach a known state.
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
        let violation = "G4: no final state is reachable from here".to_owned();
        tree.path_to(known[&trap], &mut path);
        return Err(found(&scenario, &path, violation, explored.schedules));
    }
    explored.states = known.len();
    explored.time = begun.elapsed();
    Ok(explored)
}

/// The successors of each state without external events.
#[derive(Default)]
struct Graph {
    steps: Vec<(u64, u64)>,
    /// Final states.
    ends: Vec<u64>,
}

impl Graph {
    fn step(&mut self, from: u64, to: u64) {
        self.steps.push((to, from));
    }

    /// Returns a state from which no final state is reachable.
    fn trap(mut self) -> Option<u64> {
        self.steps.sort_unstable();
        let mut good: HashSet<u64, BuildIdentityHasher> = HashSet::default();
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

/// Repeats the schedule and returns its trace.
fn trace(scenario: &Arc<Scenario>, choices: &[Choice]) -> Vec<String> {
    let mut run = Run::new(scenario, true);
    for &choice in choices {
        run.take(choice);
    }
    let trace = run.machine().trace.take();
    trace.unwrap_or_default()
}

/// Returns the trace of the schedule without preemptions and external events.
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

/// A schedule that a test determines.
pub(super) struct Directed(Run);

impl Directed {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self(Run::new(&Arc::new(scenario.clone()), true))
    }

    /// Takes the choice whose description ends with `described`.
    pub(super) fn take(&mut self, described: &str) {
        let choice = self.find(described);
        let choice =
            choice.unwrap_or_else(|| panic!("{described:?} cannot happen: {:#?}", self.trace()));
        self.0.take(choice);
    }

    /// Runs everything except `client` until a choice with the description `until` is possible next.
    pub(super) fn run_without(&mut self, client: &str, until: &str) {
        while self.find(until).is_none() {
            let next = {
                let machine = self.0.machine();
                let (choices, by_itself) = machine.choices();
                let own = |choice: &&Choice| !machine.describe(**choice).starts_with(client);
                choices[..by_itself].iter().find(own).copied()
            };
            let next =
                next.unwrap_or_else(|| panic!("{until:?} does not occur: {:#?}", self.trace()));
            self.0.take(next);
        }
    }

    fn find(&self, described: &str) -> Option<Choice> {
        let machine = self.0.machine();
        let (choices, _) = machine.choices();
        let mut choices = choices.into_iter();
        choices.find(|&choice| machine.describe(choice).ends_with(described))
    }

    /// Returns the violation.
    pub(super) fn violation(&self) -> Option<String> {
        self.0.machine().violation.clone()
    }

    fn trace(&self) -> Vec<String> {
        self.0.machine().trace.clone().unwrap_or_default()
    }
}

/// Explores random schedules, and returns their figures.
pub(super) fn walk(
    scenario: &Scenario,
    seed: u64,
    schedules: u64,
) -> Result<Explored, Counterexample> {
    let begun = Instant::now();
    let scenario = Arc::new(scenario.clone());
    let mut explored = Explored::default();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut seen: HashMap<u64, (), BuildIdentityHasher> = HashMap::default();
    for _ in 0..schedules {
        explored.schedules += 1;
        let mut run = Run::new(&scenario, false);
        let mut taken = Vec::new();
        // Choose another probability of external events for each run.
        let outside = random.f64() * 0.2;
        loop {
            let (choices, by_itself) = run.machine().choices();
            if by_itself == 0 {
                run.machine().check_end();
            }
            let violation =
                run.machine().violation.take().or_else(|| {
                    (taken.len() > DEPTH).then(|| "the schedule does not end".to_owned())
                });
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
