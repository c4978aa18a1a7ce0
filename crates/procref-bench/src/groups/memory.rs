//! Memory.

use procref_testkit::observe::{self, Identity};

use super::Run;
use crate::contender::Contender;
use crate::driver::Process;
use crate::error::Result;
use crate::many;
use crate::site::Event;
use crate::stats::{Measure, Row, Samples, Unit};

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    let mut rows = Vec::new();
    for contender in run.usable() {
        match extra_process(run, contender) {
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
        holder.finish()?;
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
            "Private memory of the process beside the service",
            rows,
        ),
        measure(
            "memory-handle",
            "Memory of another handle",
            vec![Row::new("procref", &handles)],
        ),
    ])
}

fn extra_process(run: &Run<'_>, contender: Contender) -> Result<Row> {
    let setup = run.scratch.set_up(contender)?;
    let holder = setup.holder()?;
    let service = setup.site.last_note(Event::Started).ok_or("no service")?;
    let (role, process) = match contender {
        Contender::Command | Contender::Callback => {
            let supervisors = observe::supervisors_of(&setup.site.name());
            ("its supervisor", supervisors.first().copied())
        }
        Contender::Daemon => ("the daemon", Identity::of(service.parent)),
        Contender::Dbus => ("the bus", setup.bus()),
        _ => return Ok(Row::without(contender.title(), "no extra process")),
    };
    let mut samples = Samples::default();
    let process = process.ok_or("the extra process was not found")?;
    samples.add((process.private_memory() * 1024) as f64);
    holder.finish()?;
    Ok(Row::new(contender.title(), &samples).noted(role))
}
