//! Processes that attach and detach for as long as it takes.

use super::{Run, Table};
use crate::Result;
use crate::contender::Contender;
use crate::driver::Process;
use crate::raw::Bare;
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
            if let Some(rate) = table.outcome(contender, measured)? {
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
        floor: Some("8 processes that do bare pairs on one set".into()),
        axis: None,
        rows,
    }])
}

fn contended(run: &Run<'_>, contender: Contender, seconds: f64) -> Result<f64> {
    let place = run.scratch.place(contender)?;
    let holder = place.holder()?;
    let clients = (0..PROCESSES).map(|_| place.client());
    let clients: Vec<Process> = clients.collect::<Result<_>>()?;
    let rate = rate(clients, &format!("last {seconds}"), seconds)?;
    holder.end()?;
    Ok(rate)
}

fn bare_rate(seconds: f64) -> Result<f64> {
    let bare = Bare::new()?;
    let client = |_| {
        let mut client = Process::role(["raw-last", &bare.id(), &seconds.to_string()])?;
        client.line()?;
        Ok(client)
    };
    let clients: Vec<Process> = (0..PROCESSES).map(client).collect::<Result<_>>()?;
    rate(clients, "go", seconds)
}

fn rate(mut clients: Vec<Process>, order: &str, seconds: f64) -> Result<f64> {
    for client in &mut clients {
        client.send(order)?;
    }
    let mut total = 0;
    for client in &mut clients {
        total += client.answer()?.times;
    }
    for client in clients {
        client.end()?;
    }
    Ok(total as f64 / seconds)
}
