//! Cost by number of services and clients.

use std::path::Path;

use super::Run;
use crate::contender::Contender;
use crate::driver::{Process, Setup};
use crate::error::Result;
use crate::many::Kind;
use crate::raw::BareSet;
use crate::stats::{Measure, Row, Samples, Unit};

const FLOOR: &str = "a bare pair of semop";
/// Contenders that keep state for each client. The others are counters, whose cost does not depend on the number of
/// clients.
const COUNTERS: [Contender; 2] = [Contender::Callback, Contender::Daemon];

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    let mut measures = services(run)?;
    measures.append(&mut clients(run)?);
    measures.append(&mut namespace(run)?);
    Ok(measures)
}

/// Returns the number of rounds for each point.
fn rounds(run: &Run<'_>) -> usize {
    if run.effort.quick { 1 } else { 7 }
}

/// Compares a process that holds many services with one that has undo entries on as many bare sets.
fn services(run: &Run<'_>) -> Result<Vec<Measure>> {
    let points = &run.effort.services;
    let empty = || vec![Samples::default(); points.len()];
    let [
        mut first,
        mut again,
        mut bare_first,
        mut bare_again,
        mut memory,
    ] = [(); 5].map(|()| empty());
    for _ in 0..rounds(run) {
        let dir = run.scratch.fresh()?;
        let host = host(&dir, *points.last().ok_or("no points")?)?;
        let floors = hold(Kind::Sets, &dir, points)?;
        let costs = hold(Kind::Services, &dir, points)?;
        for (at, (cost, floor)) in costs.iter().zip(&floors).enumerate() {
            bare_first[at].add(floor[1]);
            bare_again[at].add(floor[2]);
            first[at].add_over(cost[1], floor[1]);
            again[at].add_over(cost[2], floor[2]);
            memory[at].add(cost[3] / cost[0]);
        }
        host.finish()?;
    }
    let rows = |series: &[(&str, &[Samples])]| {
        let mut rows = Vec::new();
        for (label, samples) in series {
            rows.extend(
                points
                    .iter()
                    .zip(*samples)
                    .map(|(&x, samples)| Row::new(*label, samples).at(x)),
            );
        }
        rows
    };
    let axis = || Some("services that the process holds".into());
    Ok(vec![
        Measure {
            id: "services-again".into(),
            title: "A process that holds many services releases one and takes it again".into(),
            unit: Unit::Nanoseconds,
            floor: Some(
                "a bare pair, by a process that has undo entries on as many bare sets".into(),
            ),
            axis: axis(),
            rows: rows(&[("bare pair", &bare_again), ("procref, callbacks", &again)]),
        },
        Measure {
            id: "services-first".into(),
            title: "A process that holds many services takes another one for the first time".into(),
            unit: Unit::Nanoseconds,
            floor: Some(
                "the first bare pair on another set, by a process that has as many undo entries"
                    .into(),
            ),
            axis: axis(),
            rows: rows(&[("bare pair", &bare_first), ("procref, callbacks", &first)]),
        },
        Measure {
            id: "services-memory".into(),
            title: "Private memory of a process that holds many services, each".into(),
            unit: Unit::Bytes,
            floor: None,
            axis: axis(),
            rows: rows(&[("procref, callbacks", &memory)]),
        },
    ])
}

fn host(dir: &Path, count: usize) -> Result<Process> {
    let mut host = Process::role(["host", &dir.to_string_lossy(), &count.to_string()])?;
    host.line()?;
    Ok(host)
}

fn hold(kind: Kind, dir: &Path, points: &[usize]) -> Result<Vec<Vec<f64>>> {
    let mut args = vec!["many".to_owned(), kind.name().to_owned()];
    args.push(dir.to_string_lossy().into_owned());
    args.extend(points.iter().map(ToString::to_string));
    let mut holder = Process::role(&args)?;
    let mut results = Vec::new();
    for _ in points {
        let line = holder.line()?;
        results.push(
            line.split(' ')
                .map(str::parse)
                .collect::<std::result::Result<_, _>>()?,
        );
    }
    holder.finish()?;
    Ok(results)
}

/// Measures the cost of the next process while many processes hold one service.
fn clients(run: &Run<'_>) -> Result<Vec<Measure>> {
    let usable = run.usable();
    let contenders = COUNTERS
        .into_iter()
        .filter(|contender| usable.contains(contender));
    let [mut fresh, mut again] = [Vec::new(), Vec::new()];
    for contender in contenders {
        let setup = run.scratch.set_up(contender)?;
        let bare = BareSet::new()?;
        let mut long = setup.client()?;
        let mut held: Vec<Process> = Vec::new();
        for &point in &run.effort.clients {
            grow(&setup, &mut held, point)?;
            let [mut first, mut more] = [Samples::default(), Samples::default()];
            for _ in 0..4 * rounds(run) {
                let floor = bare.floor()?;
                let mut client = setup.client()?;
                first.add_over(client.run("attach")?.took(), floor);
                client.finish()?;
                more.add_over(long.run("repeat 200")?.took() / 200.0, floor);
            }
            fresh.push(Row::new(contender.title(), &first).at(point));
            again.push(Row::new(contender.title(), &more).at(point));
        }
        long.finish()?;
    }
    let measure = |id: &'static str, title: &'static str, rows| Measure {
        id: id.into(),
        title: title.into(),
        unit: Unit::Nanoseconds,
        floor: Some(FLOOR.into()),
        axis: Some("processes that hold the service".into()),
        rows,
    };
    Ok(vec![
        measure(
            "clients-again",
            "A process attaches and detaches again while many others hold the service",
            again,
        ),
        measure(
            "clients-first",
            "A fresh process attaches while many others hold the service",
            fresh,
        ),
    ])
}

fn grow(setup: &Setup, held: &mut Vec<Process>, point: usize) -> Result<()> {
    let known = held.len();
    for _ in known..point {
        held.push(setup.starting_client()?);
    }
    for client in &mut held[known..] {
        client.wait_ready()?;
        client.run("attach")?;
    }
    Ok(())
}

/// Measures the cost in a namespace with many services that the client does not use.
fn namespace(run: &Run<'_>) -> Result<Vec<Measure>> {
    let bare = BareSet::new()?;
    let [mut attach, mut list] = [Vec::new(), Vec::new()];
    for &point in &run.effort.namespace {
        let [mut one, mut all] = [Samples::default(), Samples::default()];
        let dir = run.scratch.fresh()?;
        let host = host(&dir, point)?;
        for _ in 0..4 * rounds(run) {
            let floor = bare.floor()?;
            // This is the host's first service.
            one.add_over(hold(Kind::Services, &dir, &[1])?[0][2], floor);
        }
        for _ in 0..rounds(run) {
            let began = std::time::Instant::now();
            let found = procref::Services::in_dir(&dir)?.list()?.len();
            if found != point {
                return Err(format!("{found} services were listed instead of {point}").into());
            }
            all.add(began.elapsed().as_nanos() as f64 / point as f64);
        }
        attach.push(Row::new("procref, callbacks", &one).at(point));
        list.push(Row::new("procref, callbacks", &all).at(point));
        host.finish()?;
    }
    let axis = || Some("services in the namespace".into());
    Ok(vec![
        Measure {
            id: "namespace-again".into(),
            title: "A process attaches and detaches one of many services of a namespace".into(),
            unit: Unit::Nanoseconds,
            floor: Some(FLOOR.into()),
            axis: axis(),
            rows: attach,
        },
        Measure {
            id: "namespace-list".into(),
            title: "All services of a namespace are listed, for each".into(),
            unit: Unit::Nanoseconds,
            floor: None,
            axis: axis(),
            rows: list,
        },
    ])
}
