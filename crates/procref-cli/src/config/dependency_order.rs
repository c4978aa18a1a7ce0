//! In which order services that depend on each other are acquired.

use std::collections::HashMap;
use std::hash::Hash;

/// What a walk along `depends-on` has found out.
pub(super) enum Walk<T> {
    /// Dependencies before their dependents, each once, the one that was asked for last.
    Order(Vec<T>),
    /// A service depends on itself: the way from it back to it.
    Cycle(Vec<T>),
}

enum State {
    OnTheWay,
    InOrder,
}

/// The order in which `first` and all that it depends on are to be acquired. `depends_on` tells the
/// direct dependencies of a service.
pub(super) fn walk<T: Clone + Eq + Hash>(first: T, depends_on: impl Fn(&T) -> Vec<T>) -> Walk<T> {
    // By hand and not by recursion: a file may well have a chain of thousands.
    let mut order = Vec::new();
    let mut begun = HashMap::from([(first.clone(), State::OnTheWay)]);
    let dependencies = depends_on(&first).into_iter();
    let mut way = vec![(first, dependencies)];
    while let Some((name, open)) = way.last_mut() {
        let Some(next) = open.next() else {
            begun.insert(name.clone(), State::InOrder);
            order.extend(way.pop().map(|(name, _)| name));
            continue;
        };
        match begun.get(&next) {
            Some(State::InOrder) => {}
            Some(State::OnTheWay) => {
                let way = way.into_iter().map(|(name, _)| name);
                let cycle = way.skip_while(|name| *name != next);
                return Walk::Cycle(cycle.chain([next.clone()]).collect());
            }
            None => {
                begun.insert(next.clone(), State::OnTheWay);
                let dependencies = depends_on(&next).into_iter();
                way.push((next, dependencies));
            }
        }
    }
    Walk::Order(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(first: &str, edges: &[(&str, &[&str])]) -> String {
        let found = walk(first, |name| {
            let edge = edges.iter().find(|(from, _)| from == name);
            edge.map_or(Vec::new(), |(_, to)| to.to_vec())
        });
        match found {
            Walk::Order(order) => order.join(" "),
            Walk::Cycle(way) => format!("cycle {}", way.join(" ")),
        }
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let edges: &[(&str, &[&str])] = &[
            ("web", &["api", "cache"]),
            ("api", &["db", "cache"]),
            ("cache", &["db"]),
        ];
        assert_eq!(walked("web", edges), "db cache api web");
        assert_eq!(walked("cache", edges), "db cache");
        assert_eq!(walked("db", edges), "db");
    }

    #[test]
    fn a_cycle_is_shown_from_where_it_begins() {
        assert_eq!(walked("a", &[("a", &["a"])]), "cycle a a");
        let edges: &[(&str, &[&str])] = &[("in", &["a"]), ("a", &["b"]), ("b", &["c", "a"])];
        assert_eq!(walked("in", edges), "cycle a b a");
    }

    #[test]
    fn a_long_chain_is_no_deep_recursion() {
        let found = walk(0, |number| {
            let next = (*number < 200_000).then(|| number + 1);
            next.into_iter().collect()
        });
        let Walk::Order(order) = found else {
            panic!("there is no cycle");
        };
        assert_eq!(order.len(), 200_001);
        assert_eq!(order[0], 200_000);
    }
}
