//! A cold start: what it takes beyond what the service itself needs.

use std::time::Instant;

use super::{Run, Table};
use crate::Result;
use crate::contender::Contender;
use crate::site::Site;
use crate::stats::{Measure, Row, Samples, Unit};

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    let contenders = run.usable();
    let mut table = Table::new(&contenders);
    let mut service = Samples::default();
    for _ in 0..run.effort.starts {
        for &contender in &contenders {
            let floor = itself(run)?;
            service.add(floor);
            if let Some(took) = table.outcome(contender, cold(run, contender))? {
                table.of(contender).add(took - floor);
            }
        }
    }
    let mut rows = vec![Row::new("the service itself, started and ready", &service)];
    rows.append(&mut table.rows(|_| None));
    Ok(vec![Measure {
        id: "cold-start".into(),
        title: "Cold start, beyond what the service itself needs".into(),
        unit: Unit::Nanoseconds,
        floor: None,
        axis: None,
        rows,
    }])
}

fn cold(run: &Run<'_>, contender: Contender) -> Result<f64> {
    let place = run.scratch.place(contender)?;
    let mut client = place.client()?;
    let took = client.ask("attach")?.took();
    client.end()?;
    Ok(took)
}

/// The service, started and awaited by nothing but that.
fn itself(run: &Run<'_>) -> Result<f64> {
    let site = Site::new(&run.scratch.fresh()?);
    let began = Instant::now();
    let pid = site.start()?;
    let took = began.elapsed().as_nanos() as f64;
    crate::driver::end_now(pid);
    Ok(took)
}
