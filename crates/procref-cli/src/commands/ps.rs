use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use console::Term;
use procref::{Listed, Services, Status};
use serde::Serialize;

use crate::args::{Globals, PsArgs};
use crate::config;
use crate::error::{Error, Result};
use crate::json::{self, Service};
use crate::output::{self, shown};
use crate::table;

pub(crate) fn run(globals: &Globals, args: &PsArgs) -> Result<ExitCode> {
    if args.watch {
        return watch(globals, args);
    }
    let found = look(globals, args)?;
    if args.json.json {
        output::print_json(&json(&found))?;
    } else if found.is_empty() {
        output::note(globals, "no services");
    } else {
        output::print(&draw(args, &found))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Goes on until it is interrupted. On a terminal the table is drawn anew in its place; elsewhere every
/// change is a table, or a line of JSON, of its own.
fn watch(globals: &Globals, args: &PsArgs) -> Result<ExitCode> {
    let redraw = io::stdout().is_terminal() && !args.json.json;
    let term = Term::stdout();
    let mut last = None;
    loop {
        let found = look(globals, args)?;
        let text = match (args.json.json, found.is_empty()) {
            (true, _) => {
                serde_json::to_string(&json(&found))
                    .map_err(|error| Error::io("write JSON", error.into()))?
                    + "\n"
            }
            (false, true) => "no services\n".to_owned(),
            (false, false) => draw(args, &found),
        };
        // What only gets older is no change where every change stays.
        let shape = shape(&found);
        if redraw {
            if let Some((_, lines)) = last {
                let cleared = term.clear_last_lines(lines);
                cleared.map_err(|error| Error::io("write to the terminal", error))?;
            }
            output::print(&text)?;
        } else if last.as_ref().is_none_or(|(before, _)| *before != shape) {
            output::print(&text)?;
        }
        last = Some((shape, text.lines().count()));
        thread::sleep(args.interval);
    }
}

struct Found {
    listed: Listed,
    dir: PathBuf,
    project: Option<PathBuf>,
}

fn look(globals: &Globals, args: &PsArgs) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for namespace in config::namespaces(globals, args.all)? {
        let services = match &namespace.dir {
            Some(dir) => Services::in_dir(dir)?,
            None => Services::open()?,
        };
        for listed in services.list()? {
            found.push(Found {
                listed,
                dir: services.dir().to_owned(),
                project: namespace.project.clone(),
            });
        }
    }
    Ok(found)
}

#[derive(Serialize)]
struct All {
    services: Vec<Service>,
}

fn json(found: &[Found]) -> All {
    let services = found
        .iter()
        .map(|it| Service::listed(&it.listed, &it.dir, it.project.as_deref()));
    All {
        services: services.collect(),
    }
}

/// All that is shown and does not change by itself.
fn shape(found: &[Found]) -> Vec<(Option<String>, String)> {
    found
        .iter()
        .map(|it| {
            let status = it.listed.status();
            let holders: Vec<u32> = status.holders().iter().map(|holder| holder.pid()).collect();
            let (state, clients) = (status.state(), status.clients());
            let seen = (
                state,
                clients,
                holders,
                status.generation(),
                status.is_pinned(),
                (status.transition(), status.is_transition_suspended()),
            );
            (
                it.project.as_ref().map(|path| path.display().to_string()),
                format!("{seen:?}"),
            )
        })
        .collect()
}

fn draw(args: &PsArgs, found: &[Found]) -> String {
    let with_project = args.all || found.iter().any(|it| it.project.is_some());
    let mut headings = vec!["NAME", "STATE", ">CLIENTS", ">PID", ">PORT", ">UP", "KEPT"];
    if with_project {
        headings.push("PROJECT");
    }
    let rows = found.iter().map(|it| {
        let mut row = row(&it.listed);
        if with_project {
            let project = it.project.as_ref();
            row.push(project.map_or_else(|| "-".to_owned(), |path| shown(&path.to_string_lossy())));
        }
        row
    });
    table::render(&headings, rows.collect())
}

/// How a service is, and which process is starting or stopping it.
fn state(status: &Status) -> String {
    let state = table::state(status.state());
    match status.transition() {
        Some(pid) => {
            let suspended = json::suspended(status.is_transition_suspended());
            format!("{state} by {pid}{suspended}")
        }
        None => state,
    }
}

fn row(listed: &Listed) -> Vec<String> {
    let status = listed.status();
    let name = match listed.name() {
        Some(name) => shown(name),
        None => format!("({})", listed.kernel_object()),
    };
    let number = |number: Option<u32>| match number {
        Some(number) if number != 0 => number.to_string(),
        _ => "-".to_owned(),
    };
    let instance = status.instance();
    let kept = match (status.is_pinned(), status.linger_left()) {
        (true, _) => "pinned".to_owned(),
        (false, Some(left)) => format!("warm {}", output::time(left)),
        (false, None) => "-".to_owned(),
    };
    vec![
        name,
        state(status),
        status.clients().to_string(),
        number(instance.map(|info| info.pid())),
        number(instance.map(|info| info.port().into())),
        status.uptime().map_or_else(|| "-".to_owned(), output::time),
        kept,
    ]
}
