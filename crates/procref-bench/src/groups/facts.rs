//! What each contender does and does not do, found out by trying.

use serde::{Deserialize, Serialize};

use super::Run;
use crate::Result;
use crate::contender::Contender;
use crate::driver::{NEVER, Place, Process, end_now};
use crate::site::Event;

/// How many clients race for the first start.
const RACERS: usize = 16;

/// What was seen of one contender. Everything is what happened in these trials, not what is promised.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// It can be used, or why not.
    pub works: std::result::Result<(), String>,
    /// What was wrong in trials that came to nothing: they count as "no".
    pub failures: Vec<String>,
    /// How many services ran when clients came at once, of which one is wanted.
    pub starts_in_a_race: usize,
    /// Nobody was let in before the service was ready.
    pub waits_for_ready: bool,
    /// The service was stopped after the last client let go.
    pub stops_after_last: bool,
    /// It was stopped after the others let go, although a client had been killed.
    pub survives_a_killed_client: bool,
    /// It was stopped after the last client was killed.
    pub stops_after_last_is_killed: bool,
    /// A waiting client started the service after the one that was starting it was killed. `None`:
    /// clients start nothing.
    pub takes_over: Option<bool>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            works: Err("not tried".to_owned()),
            failures: Vec::new(),
            starts_in_a_race: 0,
            waits_for_ready: false,
            stops_after_last: false,
            survives_a_killed_client: false,
            stops_after_last_is_killed: false,
            takes_over: None,
        }
    }
}

pub fn find(run: &Run<'_>) -> Result<Vec<(Contender, Facts)>> {
    let found = run.contenders.iter().map(|&contender| {
        let facts = of(run, contender).unwrap_or_else(|error| Facts {
            works: Err(error.to_string()),
            ..Facts::default()
        });
        if let Err(why) = &facts.works {
            eprintln!("  {} cannot be measured: {why}", contender.title());
        }
        (contender, facts)
    });
    let found: Vec<_> = found.collect();
    for (contender, facts) in &found {
        if contender.is_ours() && facts.works.is_err() {
            return Err("procref itself does not work".into());
        }
    }
    Ok(found)
}

fn of(run: &Run<'_>, contender: Contender) -> Result<Facts> {
    let place = run.scratch.place(contender)?;
    let client = place.holder()?;
    client.end()?;
    let stops_after_last = place.wait_note(Event::Asked, 0, NEVER).is_some();
    drop(place);
    let mut failures = Vec::new();
    let mut failed = |error: crate::Failure| failures.push(error.to_string());
    let race = run.scratch.place(contender).and_then(|place| race(&place));
    let (starts_in_a_race, waits_for_ready) = race.map_err(&mut failed).unwrap_or_default();
    let mut trial = |trial: fn(&Place) -> Result<bool>| {
        let seen = run.scratch.place(contender).and_then(|place| trial(&place));
        seen.map_err(&mut failed).unwrap_or(false)
    };
    Ok(Facts {
        works: Ok(()),
        starts_in_a_race,
        waits_for_ready,
        stops_after_last,
        survives_a_killed_client: trial(one_killed),
        stops_after_last_is_killed: trial(last_killed),
        takes_over: match contender {
            // The bus starts the service.
            Contender::Dbus => None,
            _ => Some(trial(|place| Ok(takes_over(place)?.is_some()))),
        },
        failures,
    })
}

fn race(place: &Place) -> Result<(usize, bool)> {
    place.site.close_gate()?;
    let mut racers: Vec<Process> = (0..RACERS).map(|_| place.client()).collect::<Result<_>>()?;
    for racer in &mut racers {
        racer.send("attach")?;
    }
    place
        .wait_note(Event::Begun, 0, NEVER)
        .ok_or("no service begins")?;
    // Long enough for a second one.
    std::thread::sleep(NEVER / 10);
    place.site.open_gate()?;
    let answers: Vec<_> = racers
        .iter_mut()
        .map(Process::answer)
        .collect::<Result<_>>()?;
    let notes = place.site.notes();
    let ready = notes
        .iter()
        .find(|note| note.event == Event::Ready)
        .ok_or("it is never ready")?;
    let starts = notes
        .iter()
        .filter(|note| note.event == Event::Begun)
        .count();
    let waited = answers.iter().all(|answer| answer.ended >= ready.at);
    Ok((starts, waited))
}

fn one_killed(place: &Place) -> Result<bool> {
    let survivor = place.holder()?;
    place.holder()?.kill();
    survivor.end()?;
    Ok(place.wait_note(Event::Asked, 0, NEVER).is_some())
}

fn last_killed(place: &Place) -> Result<bool> {
    place.holder()?.kill();
    Ok(place.wait_note(Event::Asked, 0, NEVER).is_some())
}

/// From the starter's SIGKILL to the first instruction of the next service, in ns.
pub fn takes_over(place: &Place) -> Result<Option<f64>> {
    place.site.close_gate()?;
    let mut starter = place.client()?;
    starter.send("attach")?;
    let first = place
        .wait_note(Event::Begun, 0, NEVER)
        .ok_or("no service begins")?;
    let mut waiter = place.client()?;
    waiter.send("attach")?;
    // Nothing tells that it waits.
    std::thread::sleep(NEVER / 30);
    let killed = match place.contender {
        Contender::Daemon => {
            // The daemon is the starter.
            let killed = procref_testkit::observe::now_ns();
            end_now(first.parent);
            killed
        }
        _ => starter.kill(),
    };
    if place.contender != Contender::Command {
        // What a killed callback has started nobody knows. It is not what is measured.
        end_now(first.pid);
    }
    let next = place.wait_note(Event::Begun, 1, NEVER);
    Ok(next.map(|next| (next.at - killed) as f64))
}
