//! The origin of processes on a system without subreapers.

use std::collections::BTreeSet;

/// A process, and what shows its origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) pid: u32,
    /// A number that no other process ever has. 0 if it is unknown.
    pub(super) number: u64,
    /// The number of the process that has forked it.
    pub(super) parent: u64,
    /// `true` if the process belongs to the service whatever its parent is.
    pub(super) is_marked: bool,
}

/// Returns the pids of those that belong to the service: the marked ones, and those that a known process has forked. Adds
/// their numbers to the known ones.
pub(super) fn members(mut candidates: Vec<Candidate>, known: &mut BTreeSet<u64>) -> Vec<u32> {
    let mut members = Vec::new();
    loop {
        let belongs = |it: &Candidate| it.is_marked || known.contains(&it.parent);
        let (found, rest): (Vec<_>, Vec<_>) = candidates.into_iter().partition(belongs);
        if found.is_empty() {
            return members;
        }
        members.extend(found.iter().map(|it| it.pid));
        // All processes whose number is unknown would belong together.
        known.extend(
            found
                .iter()
                .map(|it| it.number)
                .filter(|&number| number != 0),
        );
        candidates = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(pid: u32, number: u64, parent: u64) -> Candidate {
        Candidate {
            pid,
            number,
            parent,
            is_marked: false,
        }
    }

    #[test]
    fn g3_descendants_are_found_in_any_order() {
        let mut known = BTreeSet::from([10]);
        let listed = vec![
            candidate(4, 40, 30),
            candidate(3, 30, 20),
            candidate(9, 90, 80),
            candidate(2, 20, 10),
        ];
        assert_eq!(members(listed, &mut known), [2, 3, 4]);
        // The parent has exited, and its number stays known.
        let later = vec![candidate(5, 50, 40), candidate(9, 90, 80)];
        assert_eq!(members(later, &mut known), [5]);
    }

    #[test]
    fn g5_processes_with_unknown_numbers_are_no_descendants() {
        let mut known = BTreeSet::from([10]);
        let marked = Candidate {
            is_marked: true,
            ..candidate(2, 0, 0)
        };
        let listed = vec![marked, candidate(3, 0, 0), candidate(4, 40, 0)];
        assert_eq!(members(listed, &mut known), [2]);
    }
}
