//! Trials that show the behavior of each contender.

use super::Run;
use crate::contender::Contender;
use crate::driver::{NEVER, Process, Setup, kill_now};
use crate::error::{Failure, Result};
use crate::results::Facts;
use crate::site::Event;

/// Number of clients that race for the first start.
const RACERS: usize = 16;

pub fn find(run: &Run<'_>) -> Result<Vec<(Contender, Facts)>> {
    let found = run.contenders.iter().map(|&contender| {
        let facts = of(run, contender).unwrap_or_else(|error| Facts {
            works: Err(error.to_string()),
            ..Facts::default()
        });
        if let Err(reason) = &facts.works {
            eprintln!("  {} cannot be measured: {reason}", contender.title());
        }
        (contender, facts)
    });
    let found: Vec<_> = found.collect();
    for (contender, facts) in &found {
        if contender.is_ours() && facts.works.is_err() {
            return Err("procref cannot be measured".into());
        }
    }
    Ok(found)
}

fn of(run: &Run<'_>, contender: Contender) -> Result<Facts> {
    let setup = run.scratch.set_up(contender)?;
    let client = setup.holder()?;
    client.finish()?;
    let stops_after_last = setup.wait_note(Event::StopSignal, 0, NEVER).is_some();
    drop(setup);
    let mut failures = Vec::new();
    let mut failed = |error: Failure| failures.push(error.to_string());
    let race = run.scratch.set_up(contender).and_then(|setup| race(&setup));
    let (starts_in_a_race, waits_for_ready) = race.map_err(&mut failed).unwrap_or_default();
    let mut trial = |trial: fn(&Setup) -> Result<bool>| {
        let seen = run
            .scratch
            .set_up(contender)
            .and_then(|setup| trial(&setup));
        seen.map_err(&mut failed).unwrap_or(false)
    };
    Ok(Facts {
        works: Ok(()),
        starts_in_a_race,
        waits_for_ready,
        stops_after_last,
        survives_a_killed_client: trial(stops_after_one_is_killed),
        stops_after_last_is_killed: trial(stops_after_last_is_killed),
        takes_over: match contender {
            // The bus starts the service.
            Contender::Dbus => None,
            _ => Some(trial(|setup| Ok(takes_over(setup)?.is_some()))),
        },
        failures,
    })
}

fn race(setup: &Setup) -> Result<(usize, bool)> {
    setup.site.close_gate()?;
    let mut racers: Vec<Process> = (0..RACERS).map(|_| setup.client()).collect::<Result<_>>()?;
    for racer in &mut racers {
        racer.send("attach")?;
    }
    setup
        .wait_note(Event::Started, 0, NEVER)
        .ok_or("no service starts")?;
    // A second service would start within this time.
    std::thread::sleep(NEVER / 10);
    setup.site.open_gate()?;
    let answers: Vec<_> = racers
        .iter_mut()
        .map(Process::answer)
        .collect::<Result<_>>()?;
    let notes = setup.site.notes();
    let ready = notes
        .iter()
        .find(|note| note.event == Event::Ready)
        .ok_or("the service is never ready")?;
    let starts = notes
        .iter()
        .filter(|note| note.event == Event::Started)
        .count();
    let waited = answers.iter().all(|answer| answer.ended >= ready.at);
    Ok((starts, waited))
}

fn stops_after_one_is_killed(setup: &Setup) -> Result<bool> {
    let survivor = setup.holder()?;
    setup.holder()?.kill();
    survivor.finish()?;
    Ok(setup.wait_note(Event::StopSignal, 0, NEVER).is_some())
}

fn stops_after_last_is_killed(setup: &Setup) -> Result<bool> {
    setup.holder()?.kill();
    Ok(setup.wait_note(Event::StopSignal, 0, NEVER).is_some())
}

/// Returns the time from SIGKILL of the starter to the first step of the next service, in ns.
pub fn takes_over(setup: &Setup) -> Result<Option<f64>> {
    setup.site.close_gate()?;
    let mut starter = setup.client()?;
    starter.send("attach")?;
    let first = setup
        .wait_note(Event::Started, 0, NEVER)
        .ok_or("no service starts")?;
    let mut waiter = setup.client()?;
    waiter.send("attach")?;
    // No event shows that the client waits.
    std::thread::sleep(NEVER / 30);
    let killed = match setup.contender {
        Contender::Daemon => {
            // The daemon is the starter.
            let killed = procref_testkit::observe::now_ns();
            kill_now(first.parent);
            killed
        }
        _ => starter.kill(),
    };
    if setup.contender != Contender::Command {
        // No process knows a service that a killed callback has started. Kill the service here, because this
        // trial does not measure that gap.
        kill_now(first.pid);
    }
    let next = setup.wait_note(Event::Started, 1, NEVER);
    Ok(next.map(|next| (next.at - killed) as f64))
}
