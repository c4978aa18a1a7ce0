//! The limits of System V semaphores, and their use.

use super::text_of;
use crate::doctor::finding::{Finding, Severity};

const CHECK: &str = "semaphores";
const LIMITS: &str = "/proc/sys/kernel/sem";
const SETS: &str = "/proc/sysvipc/sem";

/// The number of semaphores in a service's set.
const SEMAPHORES: u64 = 130;
/// The largest number of operations in a call.
const OPERATIONS: u64 = 18;

/// The limits, in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    /// SEMMSL
    per_set: u64,
    /// SEMMNS
    semaphores: u64,
    /// SEMOPM
    operations: u64,
    /// SEMMNI
    sets: u64,
}

pub(super) fn check() -> Vec<Finding> {
    let missing = |file: &str| {
        let found =
            format!("could not read {file}: the kernel has no System V semaphores or hides them");
        let advice = "use a kernel with CONFIG_SYSVIPC, and mount /proc without `subset=pid`";
        vec![Finding::new(CHECK, Severity::Error, found).advice(advice)]
    };
    let Some(limits) = text_of(LIMITS).as_deref().and_then(parse_limits) else {
        return missing(LIMITS);
    };
    match text_of(SETS) {
        Some(sets) => compare(limits, used(&sets)),
        None => missing(SETS),
    }
}

fn parse_limits(text: &str) -> Option<Limits> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Limits {
        per_set: next()?,
        semaphores: next()?,
        operations: next()?,
        sets: next()?,
    })
}

/// Returns the number of sets, and the number of semaphores in them.
fn used(table: &str) -> (u64, u64) {
    let sizes = table.lines().skip(1).map(|line| {
        let size = line.split_ascii_whitespace().nth(3);
        size.and_then(|size| size.parse::<u64>().ok()).unwrap_or(0)
    });
    sizes.fold((0, 0), |(sets, semaphores), size| {
        (sets + 1, semaphores + size)
    })
}

fn compare(limits: Limits, (sets, semaphores): (u64, u64)) -> Vec<Finding> {
    let Limits {
        per_set,
        semaphores: max_semaphores,
        operations,
        sets: max_sets,
    } = limits;
    let room =
        (max_sets.saturating_sub(sets)).min(max_semaphores.saturating_sub(semaphores) / SEMAPHORES);
    let found = format!(
        "System V semaphores: {sets} of {max_sets} sets and {semaphores} of {max_semaphores} semaphores are in use, room \
         for {room} services"
    );
    let raised = |what: &str| {
        let enough = Limits {
            per_set: per_set.max(SEMAPHORES),
            operations: operations.max(OPERATIONS),
            semaphores: max_semaphores.max((sets + 100) * SEMAPHORES),
            sets: max_sets.max(sets + 100),
        };
        format!(
            "raise {what} with `sysctl -w kernel.sem=\"{} {} {} {}\"` and in /etc/sysctl.d, or remove unused sets \
             (`ipcs -s`, `procref gc --all`)",
            enough.per_set, enough.semaphores, enough.operations, enough.sets
        )
    };
    let mut findings = Vec::new();
    let small = [
        (
            per_set < SEMAPHORES,
            "SEMMSL",
            per_set,
            SEMAPHORES,
            "semaphores in a set",
        ),
        (
            operations < OPERATIONS,
            "SEMOPM",
            operations,
            OPERATIONS,
            "operations in a call",
        ),
    ];
    for (_, name, limit, needed, what) in small.into_iter().filter(|(small, ..)| *small) {
        let found = format!("{name} is {limit}, but a service needs {needed} {what}");
        findings.push(Finding::new(CHECK, Severity::Error, found).advice(raised(name)));
    }
    findings.push(match room {
        0 => Finding::new(CHECK, Severity::Error, found).advice(raised("SEMMNI and SEMMNS")),
        1..10 => Finding::new(CHECK, Severity::Warning, found).advice(raised("SEMMNI and SEMMNS")),
        _ => Finding::ok(CHECK, found),
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = "32000\t1024000000\t500\t32000\n";

    fn severities(limits: &str, used: (u64, u64)) -> Vec<Severity> {
        let findings = compare(parse_limits(limits).expect("four numbers"), used);
        findings.iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn limits_and_use_are_parsed() {
        let limits = parse_limits(DEFAULT).expect("four numbers");
        assert_eq!((limits.per_set, limits.sets), (32_000, 32_000));
        assert_eq!(parse_limits("1 2 3"), None);
        let table =
            "       key      semid perms      nsems\n  1  2  600  130  0\n  5  6  600  3  0\n";
        assert_eq!(used(table), (2, 133));
    }

    #[test]
    fn severity_depends_on_the_number_of_further_services() {
        assert_eq!(severities(DEFAULT, (3, 384)), [Severity::Ok]);
        assert_eq!(severities("250 32000 32 128", (128, 0)), [Severity::Error]);
        assert_eq!(
            severities("250 32000 32 128", (120, 0)),
            [Severity::Warning]
        );
        assert_eq!(severities("250 1000 32 128", (0, 900)), [Severity::Error]);
        assert_eq!(
            severities("100 32000 10 128", (0, 0)),
            [Severity::Error, Severity::Error, Severity::Ok]
        );
    }
}
