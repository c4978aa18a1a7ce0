//! The cost of a cold start, without the time of the service itself.

use std::time::Instant;

use super::{Run, Table};
use crate::contender::Contender;
use crate::error::Result;
use crate::site::Site;
use crate::stats::{Measure, Row, Samples, Unit};

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    let contenders = run.usable();
    let mut table = Table::new(&contenders);
    let mut service = Samples::default();
    for _ in 0..run.effort.starts {
        for &contender in &contenders {
            let floor = service_alone(run)?;
            service.add(floor);
            if let Some(took) = table.record(contender, cold(run, contender))? {
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
    let setup = run.scratch.set_up(contender)?;
    let mut client = setup.client()?;
    let took = client.run("attach")?.took();
    client.finish()?;
    Ok(took)
}

/// Returns the time to start the service and wait until it is ready, without a contender.
fn service_alone(run: &Run<'_>) -> Result<f64> {
    let site = Site::new(&run.scratch.fresh()?);
    let began = Instant::now();
    let pid = site.start()?;
    let took = began.elapsed().as_nanos() as f64;
    crate::driver::kill_now(pid);
    Ok(took)
}
