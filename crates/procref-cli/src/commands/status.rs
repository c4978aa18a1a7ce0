use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use procref::{State, Status};

use crate::args::{Globals, StatusArgs};
use crate::definition;
use crate::error::Result;
use crate::json::{self, Service};
use crate::output::{self, shown};
use crate::prestart;
use crate::resolve::{Known, require};
use crate::table;

pub(crate) fn run(globals: &Globals, args: &StatusArgs) -> Result<ExitCode> {
    let known = Known::new(globals, &args.name, &args.which)?;
    let looked = require(&known);
    if args.json.json {
        // Also of one that does not run.
        let status = match &looked {
            Ok(status) => status.clone(),
            Err(_) => known.service.status()?,
        };
        let place = (known.service.runtime_dir(), None);
        let object = known.service.kernel_object();
        output::print_json(&Service::new(Some(&args.name), place, &object, &status))?;
    } else if let Ok(status) = &looked {
        output::print(&describe(&known, status))?;
    }
    let status = looked?;
    match status.state() {
        State::Dead | State::Absent => Ok(ExitCode::from(crate::error::NOT_RUNNING)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn describe(known: &Known<'_>, status: &Status) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{:12} {value}", format!("{what}:"));
    };
    line("service", shown(known.service.name()));
    line("state", state(status));
    if let Some(info) = status.instance() {
        line("instance", json::line(info));
        for (key, value) in info.metadata() {
            line("metadata", format!("{} = {}", shown(key), shown(value)));
        }
    }
    if let Some(uptime) = status.uptime() {
        line("up for", output::time(uptime));
    }
    if !status.command_line().is_empty() {
        let words = prestart::program_of(status.command_line());
        let words = words.iter().map(String::as_str);
        line("command", shown(&shell_words::join(words)));
    }
    if let Some(text) = status.fingerprint() {
        line("fingerprint", shown(text));
    }
    let differing = definition::differences(&known.spec, status.definition());
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
        shown(&known.service.runtime_dir().to_string_lossy()),
    );
    if status.is_pinned() {
        line("pinned", "yes".to_owned());
    }
    if !status.linger().is_zero() {
        line("linger", output::time(status.linger()));
    }
    if let Some(pid) = status.supervisor() {
        let suspended = json::suspended(status.is_supervisor_suspended());
        line("supervisor", format!("pid {pid}{suspended}"));
    }
    line("clients", status.clients().to_string());
    text + &holders(status)
}

fn state(status: &Status) -> String {
    let mut text = table::state(status.state());
    if let Some(pid) = status.transition() {
        let suspended = json::suspended(status.is_transition_suspended());
        let _ = write!(text, ", by process {pid}{suspended}");
    }
    if let Some(ended) = status.exit_status() {
        let _ = write!(text, ", {}", json::ended(ended));
    }
    if let Some(left) = status.linger_left() {
        let _ = write!(text, ", kept warm for another {}", output::time(left));
    }
    text
}

/// Those who hold a service, a line for each.
pub(super) fn holders(status: &Status) -> String {
    let mut text = String::new();
    for holder in status.holders() {
        let age = SystemTime::now().duration_since(holder.since());
        let age = output::time(age.unwrap_or_default());
        let command = holder.command().map_or_else(|| "?".to_owned(), shown);
        let (pid, suspended) = (holder.pid(), json::suspended(holder.is_suspended()));
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
