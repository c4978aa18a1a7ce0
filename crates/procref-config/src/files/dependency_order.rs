//! Orders services so that dependencies come before their dependents.

use std::collections::HashMap;
use std::hash::Hash;

/// The result of [`order`].
pub(super) enum Order<T> {
    /// Each service once, after its dependencies. The requested service is the last one.
    Acyclic(Vec<T>),
    /// The path from a service that depends on itself back to that service.
    Cycle(Vec<T>),
}

/// The progress of the search at a service.
enum Visit {
    Active,
    Done,
}

/// Orders `first` and its direct and indirect dependencies. `depends_on` returns the direct dependencies of a service.
pub(super) fn order<T: Clone + Eq + Hash>(first: T, depends_on: impl Fn(&T) -> Vec<T>) -> Order<T> {
    // The search is not recursive, because a file may have a chain of thousands of services.
    let mut order = Vec::new();
    let mut visits = HashMap::from([(first.clone(), Visit::Active)]);
    let dependencies = depends_on(&first).into_iter();
    let mut path = vec![(first, dependencies)];
    while let Some((name, remaining)) = path.last_mut() {
        let Some(next) = remaining.next() else {
            visits.insert(name.clone(), Visit::Done);
            order.extend(path.pop().map(|(name, _)| name));
            continue;
        };
        match visits.get(&next) {
            Some(Visit::Done) => {}
            Some(Visit::Active) => {
                let path = path.into_iter().map(|(name, _)| name);
                let cycle = path.skip_while(|name| *name != next);
                return Order::Cycle(cycle.chain([next.clone()]).collect());
            }
            None => {
                visits.insert(next.clone(), Visit::Active);
                let dependencies = depends_on(&next).into_iter();
                path.push((next, dependencies));
            }
        }
    }
    Order::Acyclic(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(first: &str, edges: &[(&str, &[&str])]) -> String {
        let found = order(first, |name| {
            let edge = edges.iter().find(|(from, _)| from == name);
            edge.map_or(Vec::new(), |(_, to)| to.to_vec())
        });
        match found {
            Order::Acyclic(order) => order.join(" "),
            Order::Cycle(cycle) => format!("cycle {}", cycle.join(" ")),
        }
    }

    #[test]
    fn order_has_dependencies_first_and_once() {
        let edges: &[(&str, &[&str])] = &[
            ("web", &["api", "cache"]),
            ("api", &["db", "cache"]),
            ("cache", &["db"]),
        ];
        assert_eq!(ordered("web", edges), "db cache api web");
        assert_eq!(ordered("cache", edges), "db cache");
        assert_eq!(ordered("db", edges), "db");
    }

    #[test]
    fn cycle_begins_and_ends_with_the_same_service() {
        assert_eq!(ordered("a", &[("a", &["a"])]), "cycle a a");
        let edges: &[(&str, &[&str])] = &[("in", &["a"]), ("a", &["b"]), ("b", &["c", "a"])];
        assert_eq!(ordered("in", edges), "cycle a b a");
    }

    #[test]
    fn long_chain_does_not_overflow_the_stack() {
        let found = order(0, |number| {
            let next = (*number < 200_000).then(|| number + 1);
            next.into_iter().collect()
        });
        let Order::Acyclic(order) = found else {
            panic!("there is no cycle");
        };
        assert_eq!(order.len(), 200_001);
        assert_eq!(order[0], 200_000);
    }
}
