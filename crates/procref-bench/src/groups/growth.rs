//! Time, memory and kernel objects by number of clients and of services.
//!
//! All clients attach at once, and are killed at once. So the times include the start of the service. The counts do not
//! depend on the load of the machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use procref_testkit::observe::{Identity, now_ns};

use super::Run;
use crate::contender::Contender;
use crate::driver::{Process, Setup};
use crate::error::Result;
use crate::site::Event;
use crate::stats::{Measure, Row, Samples, Unit};

const LABEL: &str = "procref, callbacks";
/// Time for the stop of a service whose clients were all killed.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// One measure, by number of clients or services.
struct Series {
    id: &'static str,
    title: &'static str,
    unit: Unit,
    rows: Vec<Row>,
}

impl Series {
    fn new(id: &'static str, title: &'static str, unit: Unit) -> Self {
        Self {
            id,
            title,
            unit,
            rows: Vec::new(),
        }
    }

    fn add(&mut self, x: usize, value: f64) {
        let mut samples = Samples::default();
        samples.add(value);
        self.rows.push(Row::new(LABEL, &samples).at(x));
    }

    fn measure(self, axis: &'static str) -> Measure {
        Measure {
            id: self.id.into(),
            title: self.title.into(),
            unit: self.unit,
            floor: None,
            axis: Some(axis.into()),
            rows: self.rows,
        }
    }
}

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    let mut measures = clients(run)?;
    measures.append(&mut services(run)?);
    Ok(measures)
}

fn clients(run: &Run<'_>) -> Result<Vec<Measure>> {
    let [mut attach, mut stop, mut memory, mut files, mut sets] = [
        Series::new(
            "growth-clients-attach",
            "So many fresh processes attach at once: until the last one has the service",
            Unit::Nanoseconds,
        ),
        Series::new(
            "growth-clients-stop",
            "All of them are killed: from the last SIGKILL to SIGTERM at the service",
            Unit::Nanoseconds,
        ),
        Series::new(
            "growth-clients-memory",
            "Private memory that an attach adds to a process",
            Unit::Bytes,
        ),
        Series::new(
            "growth-clients-files",
            "File descriptors that an attach adds to a process",
            Unit::Count,
        ),
        Series::new(
            "growth-clients-sets",
            "Semaphore sets of the service",
            Unit::Count,
        ),
    ];
    for &count in &run.effort.crowds_of_clients {
        let sets_before = settled_sets()?;
        let setup = run.scratch.set_up(Contender::Callback)?;
        let mut clients = start(&setup, count)?;
        let before = sum(&clients, private_memory)?;
        let files_before = sum(&clients, open_files)?;
        let began = now_ns();
        for client in &mut clients {
            client.send("attach")?;
        }
        let mut last = began;
        for client in &mut clients {
            last = last.max(client.answer()?.ended);
        }
        attach.add(count, (last - began) as f64);
        let mean = |after: u64, before: u64| after.saturating_sub(before) as f64 / count as f64;
        memory.add(count, mean(sum(&clients, private_memory)?, before));
        files.add(
            count,
            mean(sum(&clients, open_files)?, files_before).round(),
        );
        sets.add(count, (sets_of_machine()? - sets_before) as f64);
        let killed = clients.iter_mut().map(Process::kill).max();
        let stopped = setup.wait_note(Event::StopSignal, 0, STOP_LIMIT);
        let stopped = stopped.ok_or("the service was not stopped")?;
        stop.add(
            count,
            stopped.at.saturating_sub(killed.ok_or("no client")?) as f64,
        );
    }
    let axis = "processes that hold the service";
    Ok([attach, stop, memory, files, sets]
        .map(|series| series.measure(axis))
        .into())
}

fn start(setup: &Setup, count: usize) -> Result<Vec<Process>> {
    let clients = (0..count).map(|_| setup.starting_client());
    let mut clients: Vec<Process> = clients.collect::<Result<_>>()?;
    for client in &mut clients {
        client.wait_ready()?;
    }
    Ok(clients)
}

fn services(run: &Run<'_>) -> Result<Vec<Measure>> {
    let [
        mut start,
        mut holder,
        mut supervisors,
        mut processes,
        mut sets,
        mut files,
    ] = [
        Series::new(
            "growth-services-start",
            "One process starts so many services, one after another: time for each",
            Unit::Nanoseconds,
        ),
        Series::new(
            "growth-services-memory",
            "Private memory of the process that holds them, for each",
            Unit::Bytes,
        ),
        Series::new(
            "growth-services-supervisors-memory",
            "Private memory of a supervisor, the mean of all",
            Unit::Bytes,
        ),
        Series::new("growth-services-supervisors", "Supervisors", Unit::Count),
        Series::new("growth-services-sets", "Semaphore sets", Unit::Count),
        Series::new(
            "growth-services-files",
            "Files in the runtime directory",
            Unit::Count,
        ),
    ];
    for &count in &run.effort.crowds_of_services {
        let dir = run.scratch.fresh()?;
        let sets_before = settled_sets()?;
        let (path, number) = (dir.to_string_lossy(), count.to_string());
        let mut starter = Process::role(["host", "--supervised", &path, &number])?;
        let line = starter.line()?;
        let figures: Vec<f64> = line
            .split(' ')
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?;
        let [took, grown] = figures[..] else {
            return Err(format!("a host of services printed {line:?}").into());
        };
        start.add(count, took);
        holder.add(count, grown);
        let found = all_supervisors()?;
        let private: u64 = found.iter().map(|it| it.private_memory() * 1024).sum();
        supervisors.add(count, private as f64 / found.len() as f64);
        processes.add(count, found.len() as f64);
        sets.add(count, (sets_of_machine()? - sets_before) as f64);
        files.add(count, files_in(&dir)? as f64);
        starter.finish()?;
    }
    let axis = "services";
    Ok([start, holder, supervisors, processes, sets, files]
        .map(|series| series.measure(axis))
        .into())
}

fn sum(clients: &[Process], of: fn(u32) -> Result<u64>) -> Result<u64> {
    clients.iter().map(|client| of(client.id())).sum()
}

fn private_memory(pid: u32) -> Result<u64> {
    let process = Identity::of(pid).ok_or("a client has exited")?;
    Ok(process.private_memory() * 1024)
}

fn open_files(pid: u32) -> Result<u64> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
}

/// Returns the number of semaphore sets in this run's IPC namespace. The first line is the heading.
fn sets_of_machine() -> Result<usize> {
    let text = fs::read_to_string("/proc/sysvipc/sem")?;
    Ok(text.lines().count() - 1)
}

/// Returns the number of sets after the sets of stopped services were removed. Other contenders may have left some.
fn settled_sets() -> Result<usize> {
    for supervisor in all_supervisors()? {
        supervisor.wait_exit();
    }
    sets_of_machine()
}

/// Returns the supervisors of this run's PID namespace. Each one has the title of its service.
fn all_supervisors() -> Result<Vec<Identity>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        if let Some(process) = pid.and_then(Identity::of) {
            if process.command_line().starts_with(b"procref: ") {
                found.push(process);
            }
        }
    }
    Ok(found)
}

fn files_in(dir: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        count += match entry.file_type()?.is_dir() {
            true => files_in(&entry.path())?,
            false => 1,
        };
    }
    Ok(count)
}
