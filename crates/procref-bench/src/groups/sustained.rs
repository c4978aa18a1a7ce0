//! The rate at which processes attach and detach.

use super::{Run, Table};
use crate::contender::Contender;
use crate::driver::Process;
use crate::error::Result;
use crate::raw::BareSet;
use crate::stats::{Measure, Row, Samples, Unit};

const PROCESSES: usize = 8;

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    let contenders = run.usable();
    let mut table = Table::new(&contenders);
    let mut bare = Samples::default();
    let seconds = run.effort.seconds;
    for _ in 0..run.effort.crowds {
        for &contender in &contenders {
            let floor = bare_rate(seconds)?;
            bare.add(floor);
            let measured = contended(run, contender, seconds);
            if let Some(rate) = table.record(contender, measured)? {
                table.of(contender).add_under(rate, floor);
            }
        }
    }
    let mut rows = vec![Row::new("bare pairs", &bare)];
    rows.append(&mut table.rows(|_| None));
    Ok(vec![Measure {
        id: "sustained".into(),
        title: "8 processes that attach and detach: how often per second".into(),
        unit: Unit::PerSecond,
        floor: Some("8 processes that perform bare pairs on one set".into()),
        axis: None,
        rows,
    }])
}

fn contended(run: &Run<'_>, contender: Contender, seconds: f64) -> Result<f64> {
    let setup = run.scratch.set_up(contender)?;
    let holder = setup.holder()?;
    let clients = (0..PROCESSES).map(|_| setup.client());
    let clients: Vec<Process> = clients.collect::<Result<_>>()?;
    let rate = rate(clients, &format!("last {seconds}"), seconds)?;
    holder.finish()?;
    Ok(rate)
}

fn bare_rate(seconds: f64) -> Result<f64> {
    let bare = BareSet::new()?;
    let client = |_| {
        let mut client = Process::role(["raw-last", &bare.id(), &seconds.to_string()])?;
        client.line()?;
        Ok(client)
    };
    let clients: Vec<Process> = (0..PROCESSES).map(client).collect::<Result<_>>()?;
    rate(clients, "go", seconds)
}

fn rate(mut clients: Vec<Process>, command: &str, seconds: f64) -> Result<f64> {
    for client in &mut clients {
        client.send(command)?;
    }
    let mut total = 0;
    for client in &mut clients {
        total += client.answer()?.times;
    }
    for client in clients {
        client.finish()?;
    }
    Ok(total as f64 / seconds)
}
