//! Searches the model for a broken promise: every order of steps in a small world, random orders in a larger one.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Budget, Mistake, Move, World};

/// What a search found.
struct Search {
    states: usize,
    ended: usize,
    ready: usize,
    /// States after a link that had waited for an instance became ready.
    answered: usize,
    /// States after a link became ready whose first instance had stopped before that.
    begun_again: usize,
}

fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

fn check_end(world: &World) -> Result<(), String> {
    if world.is_over() && !world.faulty && !world.keys.is_empty() {
        return Err(format!(
            "keys are left after an orderly end: {:?}",
            world.keys
        ));
    }
    Ok(())
}

/// Performs every order of steps.
fn every_order(start: World, limit: usize) -> Result<Search, String> {
    let mut seen = HashSet::from([hash(&start)]);
    let mut open = vec![start];
    let mut search = Search {
        states: 0,
        ended: 0,
        ready: 0,
        answered: 0,
        begun_again: 0,
    };
    while let Some(world) = open.pop() {
        search.states += 1;
        search.ended += usize::from(world.is_over());
        search.ready += usize::from(world.keys.is_ready());
        search.answered += usize::from(world.answered);
        search.begun_again += usize::from(world.begun_again);
        check_end(&world)?;
        if search.states == limit {
            return Err(format!("more than {limit} states"));
        }
        for step in world.moves() {
            let mut next = world.clone();
            next.perform(step)
                .map_err(|broken| format!("{broken}\nafter {step:?} in {world:#?}"))?;
            if seen.insert(hash(&next)) {
                open.push(next);
            }
        }
    }
    Ok(search)
}

/// Performs a random order of steps, and returns the broken promise with the steps that led to it. On average, one of
/// `rarity` steps is a fault or a rare step.
fn random_order(seed: u64, mut world: World, rarity: u32) -> Result<World, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut steps = Vec::new();
    let limit = 400 * usize::try_from(world.budget.until).unwrap_or(usize::MAX);
    loop {
        let mut moves = world.moves();
        let has_other = moves.iter().any(|step| !step.is_fault() && !rare(*step));
        moves.retain(|step| {
            !(step.is_fault() || rare(*step)) || !has_other || random.u32(0..rarity) == 0
        });
        let Some(step) = random.choice(&moves).copied() else {
            return check_end(&world).map(|()| world);
        };
        steps.push((world.now, step));
        let last = &steps[steps.len().saturating_sub(SHOWN)..];
        world
            .perform(step)
            .map_err(|broken| format!("seed {seed}: {broken}\nafter {last:?}"))?;
        if steps.len() > limit {
            return Err(format!("seed {seed}: the steps do not end: {last:?}"));
        }
    }
}

/// The number of steps that an error shows.
const SHOWN: usize = 2_000;

/// Steps that are possible at any time. Without a limit, random orders would consist of them.
fn rare(step: Move) -> bool {
    matches!(
        step,
        Move::Changed(_) | Move::Stop(_) | Move::Resume(_) | Move::Heal(_)
    )
}

/// An hour, if a time to live of six ticks is 15 s.
const HOUR: Budget = Budget {
    links: 250,
    faults: 250,
    until: 1_440,
};

const STORM: Budget = Budget {
    links: 4,
    faults: 12,
    until: 60,
};

/// Performs a random order for each seed. Returns how many of them start a service, in how many a link that had waited for
/// an instance became ready, and in how many one whose first instance had stopped before that. In every second order, only
/// the first host may run the service.
fn storm(seeds: u64, mistake: Option<Mistake>) -> Result<[u64; 3], String> {
    (0..seeds).try_fold([0; 3], |counts, seed| {
        let hosts = 2 + usize::try_from(seed % 3).unwrap_or(0);
        let world = World::new(hosts, STORM, mistake);
        let world = match seed % 2 {
            0 => world,
            _ => world.at_first_host(),
        };
        // Some orders have many faults and some few.
        let rarity = 1 << fastrand::Rng::with_seed(seed).u32(0..7);
        let world = random_order(seed, world, rarity)?;
        let found = [world.last_fence > 0, world.answered, world.begun_again];
        Ok(std::array::from_fn(|at| counts[at] + u64::from(found[at])))
    })
}

fn check_every_order(world: World) -> Search {
    let begun = std::time::Instant::now();
    let (hosts, budget) = (world.hosts.len(), world.budget);
    let search = every_order(world, 5_000_000).unwrap_or_else(|broken| panic!("{broken}"));
    println!(
        "{hosts} hosts, {budget:?}: {} states, {} ends, {} ready, {} answered, {} begun again, {:?}",
        search.states,
        search.ended,
        search.ready,
        search.answered,
        search.begun_again,
        begun.elapsed()
    );
    assert!(
        search.ended > 0 && search.ready > 0,
        "the model does nothing"
    );
    search
}

#[test]
fn g1_g10_hold_in_every_order_with_two_hosts() {
    let budget = Budget {
        links: 1,
        faults: 0,
        until: 2,
    };
    let search = check_every_order(World::new(2, budget, None));
    assert!(search.begun_again > 0, "no link begins again");
}

#[test]
fn g1_g10_hold_in_every_order_with_a_host_that_must_not_run_the_service() {
    let budget = Budget {
        links: 1,
        faults: 0,
        until: 2,
    };
    let search = check_every_order(World::new(2, budget, None).at_first_host());
    assert!(search.answered > 0, "no link waits for the service");
}

#[test]
fn g1_g10_hold_in_every_order_with_faults_on_one_host() {
    let budget = Budget {
        links: 2,
        faults: 1,
        until: 6,
    };
    check_every_order(World::new(1, budget, None));
}

#[test]
fn g1_g10_hold_in_random_orders_with_many_faults() {
    let seeds = std::env::var("PROCREF_MODEL_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(3_000);
    let [started, answered, begun_again] =
        storm(seeds, None).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(
        started > seeds / 2,
        "only {started} of {seeds} orders start a service"
    );
    assert!(
        answered > seeds / 20,
        "only {answered} of {seeds} orders have a link that waits for an instance and gets it"
    );
    assert!(
        begun_again > seeds / 100,
        "only {begun_again} of {seeds} orders have a link that begins again and is ready"
    );
}

#[test]
fn g1_g10_hold_in_hours_of_random_orders() {
    for seed in 0..10 {
        let world = World::new(3, HOUR, None);
        let world = random_order(seed, world, 100).unwrap_or_else(|broken| panic!("{broken}"));
        let links: u32 = world.hosts.iter().map(|host| u32::from(host.links)).sum();
        let faults = HOUR.faults - world.budget.faults;
        println!(
            "{} ticks, {links} links, {} instances, {faults} faults",
            world.now, world.starts
        );
        assert_eq!(world.now, HOUR.until);
        assert!(world.starts > 50 && faults > 100, "the model does little");
    }
}

#[test]
fn model_finds_every_planted_mistake() {
    let mistakes = [
        Mistake::EnterBesideAnother,
        Mistake::KeepAlive,
        Mistake::NoMargin,
        Mistake::NoGrace,
        Mistake::NoFuse,
        Mistake::ProofAtAnswer,
        Mistake::StopNotAwaited,
        Mistake::RunsElsewhere,
    ];
    let missed: Vec<_> = mistakes
        .into_iter()
        .filter(|mistake| storm(20_000, Some(*mistake)).is_ok())
        .collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
