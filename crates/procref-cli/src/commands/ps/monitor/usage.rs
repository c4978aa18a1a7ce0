//! Memory and processor time of the processes of a service.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use procref::Status;

use crate::describe;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(windows)]
mod windows;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;
#[cfg(windows)]
use windows as sys;

pub(super) use sys::IS_AVAILABLE;

/// The shortest time over which the use of the processor is measured. The kernel counts in steps of 10 ms.
const SHORTEST: Duration = Duration::from_millis(500);

/// What the processes of a service use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TreeUsage {
    /// Resident memory in bytes. Memory that processes share counts once.
    pub(super) memory: u64,
    /// Processor time since the start, including that of processes that have exited.
    pub(super) time: Duration,
}

/// The use of memory and processor, as texts.
#[derive(Debug, Default)]
pub(super) struct UsageText {
    pub(super) percent: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) time: Option<Duration>,
}

/// The processor time of each service at an earlier moment.
#[derive(Debug, Default)]
pub(super) struct Meter {
    baselines: HashMap<(String, u32), Baseline>,
}

#[derive(Debug)]
struct Baseline {
    at: Instant,
    time: Duration,
    /// The share of one processor, as a percentage.
    percent: Option<f64>,
}

impl Meter {
    /// Measures services, each with the name of its kernel object.
    pub(super) fn measure(&mut self, services: &[(&str, &Status)]) -> Vec<UsageText> {
        let roots = |status: &Status| {
            let instance = status.instance().and_then(describe::pid);
            [status.supervisor(), instance]
        };
        let pids = services.iter().flat_map(|(_, status)| roots(status));
        let managed: HashSet<u32> = pids.flatten().collect();
        let now = Instant::now();
        let mut baselines = HashMap::new();
        let measured = services.iter().map(|(object, status)| {
            let [supervisor, instance] = roots(status);
            let Some(usage) = sys::tree_usage(supervisor, instance, &managed) else {
                return UsageText::default();
            };
            let key = ((*object).to_owned(), status.generation());
            let baseline = next(self.baselines.remove(&key), now, usage.time);
            let percent = baseline.percent.map(percentage);
            baselines.insert(key, baseline);
            UsageText {
                percent,
                memory: Some(size(usage.memory)),
                time: Some(usage.time),
            }
        });
        let measured = measured.collect();
        self.baselines = baselines;
        measured
    }
}

/// Returns the next baseline: the same, or a later one if enough time has passed.
fn next(before: Option<Baseline>, at: Instant, time: Duration) -> Baseline {
    match before {
        Some(before) if at - before.at < SHORTEST => before,
        Some(before) => {
            // The time decreases if a process has exited and its parent does not wait for it.
            let used = time.saturating_sub(before.time).as_secs_f64();
            let percent = Some(100.0 * used / (at - before.at).as_secs_f64());
            Baseline { at, time, percent }
        }
        None => Baseline {
            at,
            time,
            percent: None,
        },
    }
}

fn percentage(percent: f64) -> String {
    match percent < 10.0 {
        true => format!("{percent:.1}%"),
        false => format!("{percent:.0}%"),
    }
}

/// Returns a size with a binary unit: `512K`, `12.3M`.
fn size(bytes: u64) -> String {
    let units = ["K", "M", "G", "T"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value < 100.0 && unit > 0 {
        true => format!("{value:.1}{}", units[unit]),
        false => format!("{value:.0}{}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_has_at_most_three_digits_before_its_unit() {
        let sizes = [0, 4096, 1_023_999, 1 << 20, 150 << 20, 3 << 30, 5 << 40].map(size);
        assert_eq!(sizes, ["0K", "4K", "1000K", "1.0M", "150M", "3.0G", "5.0T"]);
    }

    #[test]
    fn percentage_is_the_time_used_since_the_baseline() {
        let begun = Instant::now();
        let after = |ms| begun + Duration::from_millis(ms);
        let first = next(None, begun, Duration::from_secs(7));
        assert_eq!(first.percent, None);
        // A baseline that is too young would turn one tick into a large percentage.
        let same = next(Some(first), after(100), Duration::from_secs(8));
        assert_eq!((same.at, same.percent), (begun, None));
        let second = next(Some(same), after(2000), Duration::from_secs(8));
        assert_eq!(second.percent.map(percentage).as_deref(), Some("50%"));
        let third = next(Some(second), after(3000), Duration::from_secs(7));
        assert_eq!(third.percent.map(percentage).as_deref(), Some("0.0%"));
    }
}
