use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use procref::{State, Status};
use procref_config::definition;
use procref_config::prestart::command_line;
use serde::Serialize;

use crate::args::StatusArgs;
use crate::describe;
use crate::error::{Failures, Result};
use crate::exit::NOT_RUNNING;
use crate::globals::Globals;
use crate::json::ServiceJson;
use crate::output;
use crate::resolve::{NamedService, require, running_variables};
use crate::table;
use crate::text::{self, shown};

/// The JSON about several services.
#[derive(Serialize)]
struct StatusJson {
    services: Vec<ServiceJson>,
}

pub(crate) fn run(globals: &Globals, args: &StatusArgs) -> Result<ExitCode> {
    let mut failures = Failures::default();
    let mut services = Vec::new();
    let mut texts = Vec::new();
    for name in &args.names {
        let named = NamedService::new(globals, name, &args.which)?;
        let required = require(&named);
        if args.json.json {
            // JSON is printed even if the service is not running.
            let status = match &required {
                Ok(status) => status.clone(),
                Err(_) => named.service.status()?,
            };
            services.push(json(globals, args, name, &named, &status));
        } else if let Ok(status) = &required {
            texts.push(describe(&named, status));
        }
        match required {
            Ok(status) if matches!(status.state(), State::Dead | State::Absent) => {
                failures.add_code(NOT_RUNNING);
            }
            Ok(_) => {}
            Err(error) => failures.add(error),
        }
    }
    match services.pop() {
        None => output::print(&texts.join("\n"))?,
        Some(only) if args.names.len() == 1 => output::print_json(&only)?,
        Some(last) => {
            services.push(last);
            output::print_json(&StatusJson { services })?;
        }
    }
    Ok(failures.report())
}

fn json(
    globals: &Globals,
    args: &StatusArgs,
    name: &str,
    named: &NamedService<'_>,
    status: &Status,
) -> ServiceJson {
    let place = (named.service.runtime_dir(), named.spec.project.as_deref());
    let object = named.service.kernel_object();
    let variables = running_variables(globals, &[name.to_owned()], &args.which);
    let variables = variables.unwrap_or_default();
    let json = ServiceJson::new(Some(name), place, &object, status, variables);
    json.described(named.spec.start.is_some())
}

fn describe(named: &NamedService<'_>, status: &Status) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{:12} {value}", format!("{what}:"));
    };
    line("service", shown(named.service.name()));
    line("state", state(status));
    if let Some(info) = status.instance() {
        line("instance", describe::instance(info));
        for (key, value) in info.metadata() {
            line("metadata", format!("{} = {}", shown(key), shown(value)));
        }
    }
    if let Some(uptime) = status.uptime() {
        line("up for", text::time(uptime));
    }
    if !status.command_line().is_empty() {
        let words = command_line::program_of(status.command_line());
        let words = words.iter().map(String::as_str);
        line("command", shown(&shell_words::join(words)));
    }
    if let Some(text) = status.fingerprint() {
        line("fingerprint", shown(text));
    }
    let differing = definition::differences(&named.spec, status.definition());
    if !differing.is_empty() {
        let differing = differing.join(", ");
        line(
            "settings",
            format!("differ from this client's: {differing}"),
        );
    }
    if let Some(log) = status.log_path() {
        line("log", shown(&log.to_string_lossy()));
    }
    line(
        "directory",
        shown(&named.service.runtime_dir().to_string_lossy()),
    );
    if status.is_pinned() {
        line("pinned", "yes".to_owned());
    }
    if !status.linger().is_zero() {
        line("linger", text::time(status.linger()));
    }
    if let Some(pid) = status.supervisor() {
        let suspended = describe::suspended(status.is_supervisor_suspended());
        line("supervisor", format!("pid {pid}{suspended}"));
    }
    line("clients", describe::clients(status).to_string());
    text + &holders(status)
}

fn state(status: &Status) -> String {
    let mut text = table::state(status.state());
    if let Some(pid) = status.transition() {
        let suspended = describe::suspended(status.is_transition_suspended());
        let _ = write!(text, ", by process {pid}{suspended}");
    }
    if let Some(exit) = status.exit_status() {
        let _ = write!(text, ", {}", describe::exit(exit));
    }
    if status.state() == State::Dead && status.transition().is_none() {
        text.push_str(" (its next client starts it again)");
    }
    if let Some(left) = status.linger_left() {
        let _ = write!(text, ", lingering for another {}", text::time(left));
    }
    text
}

/// Returns one line for each process that holds the service.
pub(super) fn holders(status: &Status) -> String {
    let mut text = String::new();
    for holder in describe::holders(status) {
        let age = SystemTime::now().duration_since(holder.since());
        let age = text::time(age.unwrap_or_default());
        let command = holder.command().map_or_else(|| "?".to_owned(), shown);
        let (pid, suspended) = (holder.pid(), describe::suspended(holder.is_suspended()));
        let _ = writeln!(text, "  pid {pid}{suspended}, running for {age}: {command}");
    }
    if status.unknown_holders() > 0 {
        let _ = writeln!(
            text,
            "  and {} that the kernel does not name",
            status.unknown_holders()
        );
    }
    text
}
