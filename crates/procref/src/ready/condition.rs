//! A condition that must hold before readiness is probed.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::wait::ReadinessWait;
use super::{Alarm, FIRST_PAUSE, LONGEST_PAUSE, Notified, Waited};
use crate::info::ServiceInfo;

/// A condition that must hold before readiness is probed.
#[derive(Clone)]
pub(crate) struct Condition(Arc<dyn Fn(&ServiceInfo) -> bool + Send + Sync>);

impl Condition {
    pub(crate) fn new(holds: impl Fn(&ServiceInfo) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(holds))
    }

    /// Waits until the condition holds, the alarm is raised, or the deadline has passed. Blocks the thread.
    pub(crate) fn wait(&self, info: &ServiceInfo, alarm: Alarm<'_>, deadline: Instant) -> Waited {
        let watch = ReadinessWait::new(alarm, deadline);
        let mut pause = FIRST_PAUSE;
        while !(self.0)(info) {
            if watch.has_alarm() {
                return Waited::Alarm;
            }
            if watch.is_over() {
                return Waited::Late {
                    waiting_for: "the execution of its program".to_owned(),
                    last: "not executed yet".to_owned(),
                };
            }
            watch.at_most(pause).rest();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Waited::Ready(Notified::default())
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condition")
    }
}
