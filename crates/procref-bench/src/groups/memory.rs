//! Bytes.

use procref_testkit::observe::{self, Identity};

use super::Run;
use crate::Result;
use crate::contender::Contender;
use crate::driver::Process;
use crate::many;
use crate::site::Event;
use crate::stats::{Measure, Row, Samples, Unit};

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    let mut rows = Vec::new();
    for contender in run.usable() {
        match beside(run, contender) {
            Ok(row) => rows.push(row),
            Err(error) if contender.is_ours() => return Err(error),
            Err(error) => rows.push(Row::without(contender.title(), format!("failed: {error}"))),
        }
    }
    let mut handles = Samples::default();
    for _ in 0..3 {
        let dir = run.scratch.fresh()?;
        let host = many::hosted(&dir, 0)?.acquire_blocking()?;
        let count = run.effort.handles.to_string();
        let mut holder = Process::role(["handles", &dir.to_string_lossy(), &count])?;
        handles.add(holder.line()?.parse()?);
        holder.end()?;
        host.release_blocking()?;
    }
    let measure = |id: &'static str, title: &'static str, rows| Measure {
        id: id.into(),
        title: title.into(),
        unit: Unit::Bytes,
        floor: None,
        axis: None,
        rows,
    };
    Ok(vec![
        measure(
            "memory-beside",
            "Private memory of what runs beside the service",
            rows,
        ),
        measure(
            "memory-handle",
            "Memory of another handle",
            vec![Row::new("procref", &handles)],
        ),
    ])
}

fn beside(run: &Run<'_>, contender: Contender) -> Result<Row> {
    let place = run.scratch.place(contender)?;
    let holder = place.holder()?;
    let service = place.site.noted(Event::Begun).ok_or("no service")?;
    let (what, process) = match contender {
        Contender::Command | Contender::Callback => {
            let supervisors = observe::supervisors_of(&place.site.name());
            ("its supervisor", supervisors.first().copied())
        }
        Contender::Daemon => ("the daemon", Identity::of(service.parent)),
        Contender::Dbus => ("the bus", place.bus()),
        _ => return Ok(Row::without(contender.title(), "no process of its own")),
    };
    let mut samples = Samples::default();
    let process = process.ok_or("the process beside the service is not found")?;
    samples.add((process.private_memory() * 1024) as f64);
    holder.end()?;
    Ok(Row::new(contender.title(), &samples).noted(what))
}
