use std::env;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use console::Term;
use procref::{Holder, State, Status};
use procref_config::environment::{self, Variables};
use procref_config::running::RunningService;
use procref_config::spec::ServiceSpec;
use serde::Serialize;

use crate::args::PsArgs;
use crate::config;
use crate::describe;
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::helper;
use crate::json::ServiceJson;
use crate::output;
use crate::resolve::NamedService;
use crate::runtime_dir::services;
use crate::table;
use crate::text::{self, shown};

mod monitor;

pub(crate) fn run(globals: &Globals, args: &PsArgs) -> Result<ExitCode> {
    // This fails if a named file does not exist. A file with errors is only reported.
    config::namespaces(globals, args.all)?;
    report_invalid_file(globals);
    if args.watch {
        return match has_screen(args) {
            true => monitor::run(globals, args),
            false => watch(globals, args),
        };
    }
    let found = list(globals, args)?;
    if args.json.json {
        output::print_json(&json(&found))?;
    } else if found.is_empty() {
        output::note(globals, "no services");
    } else {
        output::print(&render(args, &found))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns `true` if the terminal can show a screen, and the user can press keys.
fn has_screen(args: &PsArgs) -> bool {
    can_redraw(args) && io::stdin().is_terminal()
}

/// Returns `true` if the output is a terminal that can move its cursor.
fn can_redraw(args: &PsArgs) -> bool {
    let name = env::var("TERM").unwrap_or_default();
    // On Windows, the variable is usually not set.
    let is_dumb = name == "dumb" || (name.is_empty() && cfg!(unix));
    io::stdout().is_terminal() && !is_dumb && !args.json.json
}

/// Shows the services until this process is interrupted. On a terminal, each table replaces the previous one.
/// Elsewhere, and on a terminal that cannot move its cursor, each change is printed as a separate table or line of JSON.
fn watch(globals: &Globals, args: &PsArgs) -> Result<ExitCode> {
    let redraw = can_redraw(args);
    let term = Term::stdout();
    let mut last = None;
    loop {
        let found = list(globals, args)?;
        let text = match (args.json.json, found.is_empty()) {
            (true, _) => {
                serde_json::to_string(&json(&found))
                    .map_err(|error| Error::io("write JSON", error.into()))?
                    + "\n"
            }
            (false, true) => "no services\n".to_owned(),
            (false, false) => render(args, &found),
        };
        // If each change is printed separately, times that only increase do not count as a change.
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

/// A service that exists, or that the project's file describes.
struct ListedService {
    listed: ListedStatus,
    dir: PathBuf,
    project: Option<PathBuf>,
    /// The project's file describes the service.
    described: bool,
    /// The log of the next run and of the last one, if the project's file describes the service.
    described_log: Option<PathBuf>,
}

impl ListedService {
    /// Returns the service as one that cannot be started. Returns `None` if its name is lost.
    fn named<'a>(&self, globals: &'a Globals) -> Result<Option<NamedService<'a>>> {
        let Some(name) = self.listed.name() else {
            return Ok(None);
        };
        let object = self.listed.kernel_object();
        let fingerprint = self.listed.status().fingerprint();
        NamedService::of_object(globals, &self.dir, name, object, fingerprint).map(Some)
    }

    /// Returns the log of the running instance, or that of the last run if there is one.
    fn log(&self) -> Option<PathBuf> {
        let status = self.listed.status();
        match status.state() {
            State::Absent => self.described_log.clone().filter(|path| path.exists()),
            _ => status.log_path().map(ToOwned::to_owned),
        }
    }
}

struct ListedStatus {
    name: Option<String>,
    kernel_object: String,
    status: Status,
}

impl ListedStatus {
    /// Returns the name, or `None` if it is lost.
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn kernel_object(&self) -> &str {
        &self.kernel_object
    }

    fn status(&self) -> &Status {
        &self.status
    }
}

/// Prints the error of a file that cannot be read. The services that run are listed anyway.
fn report_invalid_file(globals: &Globals) {
    if let Err(error) = config::of_project(globals) {
        output::error(&error);
    }
}

fn list(globals: &Globals, args: &PsArgs) -> Result<Vec<ListedService>> {
    let mut found = Vec::new();
    for namespace in config::namespaces(globals, args.all)? {
        let services = services(namespace.dir.as_deref())?;
        for listed in services.list()? {
            found.push(ListedService {
                listed: ListedStatus {
                    name: listed.name().map(str::to_owned),
                    kernel_object: listed.kernel_object().to_owned(),
                    status: listed.status().clone(),
                },
                dir: services.dir().to_owned(),
                project: namespace.project.clone(),
                described: false,
                described_log: None,
            });
        }
    }
    for spec in config::of_project(globals).unwrap_or_default() {
        add_described(&mut found, &spec)?;
    }
    found.sort_by(|one, other| {
        let order = |it: &ListedService| (it.project.clone(), it.listed.name.is_none());
        let by_place = order(one).cmp(&order(other));
        by_place.then_with(|| one.listed.name.cmp(&other.listed.name))
    });
    Ok(found)
}

/// Marks a service that the project's file describes, and adds it if it does not run.
fn add_described(found: &mut Vec<ListedService>, spec: &ServiceSpec) -> Result<()> {
    let service = helper::build(spec)?;
    let object = service.kernel_object();
    let log = spec.log.clone().unwrap_or_else(|| service.kept_log());
    let same = found
        .iter_mut()
        .find(|it| it.listed.kernel_object() == object && it.dir == service.runtime_dir());
    if let Some(same) = same {
        same.described = true;
        same.described_log = Some(log);
        return Ok(());
    }
    found.push(ListedService {
        listed: ListedStatus {
            name: Some(spec.name.clone()),
            kernel_object: object,
            status: service.status()?,
        },
        dir: service.runtime_dir().to_owned(),
        project: spec.project.clone(),
        described: true,
        described_log: Some(log),
    });
    Ok(())
}

#[derive(Serialize)]
struct PsJson {
    services: Vec<ServiceJson>,
}

fn json(found: &[ListedService]) -> PsJson {
    let services = found.iter().map(|it| {
        let place = (it.dir.as_path(), it.project.as_deref());
        let (name, object) = (it.listed.name(), it.listed.kernel_object());
        let variables = variables(it, found);
        ServiceJson::new(name, place, object, it.listed.status(), variables).described(it.described)
    });
    PsJson {
        services: services.collect(),
    }
}

/// Returns the variables that a client of the service would get. Returns none if the service or one of its dependencies
/// is not ready.
fn variables(service: &ListedService, found: &[ListedService]) -> Variables {
    let Some(own) = running_service(service) else {
        return Variables::new();
    };
    let mut running = Vec::new();
    for name in &own.depends_on {
        // A dependency is in the same project, or shared.
        let is_named = |it: &&ListedService| it.listed.name() == Some(name);
        let same = found
            .iter()
            .filter(is_named)
            .find(|it| it.dir == service.dir);
        let shared = || {
            found
                .iter()
                .filter(is_named)
                .find(|it| it.project.is_none())
        };
        let dependency = same.or_else(shared);
        match dependency.and_then(running_service) {
            Some(dependency) => running.push(dependency),
            None => return Variables::new(),
        }
    }
    running.push(own);
    environment::of_clients(&running, running.last())
}

fn running_service(service: &ListedService) -> Option<RunningService> {
    let name = service.listed.name()?;
    RunningService::recorded(name, service.listed.status(), &service.dir)
}

/// Returns everything that is shown, except the times that increase.
fn shape(found: &[ListedService]) -> Vec<(Option<String>, String)> {
    found
        .iter()
        .map(|it| {
            let status = it.listed.status();
            let holders: Vec<u32> = describe::holders(status).map(Holder::pid).collect();
            let (state, clients) = (status.state(), describe::clients(status));
            let seen = (
                it.listed.name(),
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

fn has_projects(args: &PsArgs, found: &[ListedService]) -> bool {
    args.all || found.iter().any(|it| it.project.is_some())
}

fn render(args: &PsArgs, found: &[ListedService]) -> String {
    let with_project = has_projects(args, found);
    let mut headings = vec!["NAME", "STATE", ">CLIENTS", ">PID", ">PORT", ">UP", "KEPT"];
    let with_address = has_addresses(found);
    if with_address {
        headings.push("ADDRESS");
    }
    if with_project {
        headings.push("PROJECT");
    }
    let rows = found.iter().map(|it| {
        let mut row = row(&it.listed).to_vec();
        if with_address {
            row.push(address(&it.listed).unwrap_or_else(|| "-".to_owned()));
        }
        if with_project {
            let project = it.project.as_ref();
            row.push(project.map_or_else(|| "-".to_owned(), |path| shown(&path.to_string_lossy())));
        }
        row
    });
    table::render(&headings, rows.collect())
}

/// Returns `true` if a service of a cluster is listed.
fn has_addresses(found: &[ListedService]) -> bool {
    found.iter().any(|it| address(&it.listed).is_some())
}

/// Returns the address of a service of a cluster, which may run on another host.
fn address(listed: &ListedStatus) -> Option<String> {
    let address = environment::cluster_address(listed.status().instance()?);
    address.map(shown)
}

/// Returns the state, and which process is starting or stopping the service.
fn state(status: &Status) -> String {
    let state = table::state(status.state());
    match status.transition() {
        Some(pid) => {
            let suspended = describe::suspended(status.is_transition_suspended());
            format!("{state} by {pid}{suspended}")
        }
        None => state,
    }
}

/// Returns name, state, clients, pid, port, uptime, and why the service runs without clients.
fn row(listed: &ListedStatus) -> [String; 7] {
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
        (false, Some(left)) => format!("linger {}", text::time(left)),
        (false, None) => "-".to_owned(),
    };
    [
        name,
        state(status),
        describe::clients(status).to_string(),
        number(instance.map(|info| info.pid())),
        number(instance.map(|info| info.port().into())),
        status.uptime().map_or_else(|| "-".to_owned(), text::time),
        kept,
    ]
}
