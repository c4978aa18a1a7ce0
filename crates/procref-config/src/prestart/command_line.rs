//! The command line of a service that has work to do before its program.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::protocol::SUBCOMMAND;
use super::task::PrestartTask;
use crate::files::template::{self, AtStart, literal};
use crate::spec::ServiceSpec;

/// Returns the command line of the service's process: `helper` with the hidden subcommand with the task, followed by the
/// command line of the program.
pub fn wrap(spec: &ServiceSpec, helper: &Path, program: &[OsString]) -> Vec<OsString> {
    let prestart = &spec.prestart;
    if !prestart.is_needed() {
        return program.to_vec();
    }
    let templates = spec.env.iter();
    let templates = templates.filter(|(_, value)| is_filled_in_late(spec, value));
    let task = PrestartTask {
        service: spec.name.clone(),
        data: prestart.data.clone(),
        depends_on: prestart.depends_on.clone(),
        dependencies: prestart.dependencies.clone(),
        user: prestart.user.clone(),
        own: spec.env.iter().map(|(name, _)| name.clone()).collect(),
        templates: templates.map(|(name, _)| name.clone()).collect(),
    };
    let task = serde_json::to_string(&task).expect("texts and lists of texts serialize");
    let mut words = vec![literal(helper.as_os_str()), SUBCOMMAND.into()];
    words.extend(["--task".into(), literal(OsStr::new(&task))]);
    if spec.has_port() {
        words.extend(["--port".into(), "{port}".into()]);
    }
    words.extend(["--dir".into(), "{dir}".into()]);
    // Each word is filled in once, by the service's process, when all values are known. If the library filled
    // in the runtime directory first, the path would be treated as a template.
    for word in prestart.init.iter().flatten() {
        words.extend(["--init".into(), literal(word)]);
    }
    words.push("--".into());
    words.extend(program.iter().map(|word| literal(word)));
    words
}

/// Returns the value of a variable of the service's environment as a template for the library.
///
/// The service's process fills in values that have a placeholder of another service.
pub fn variable(spec: &ServiceSpec, value: &str) -> OsString {
    match is_filled_in_late(spec, value) {
        true => literal(OsStr::new(value)),
        false => value.into(),
    }
}

fn is_filled_in_late(spec: &ServiceSpec, value: &str) -> bool {
    let prestart = &spec.prestart;
    prestart.is_needed() && AtStart(&prestart.depends_on).mentions_dependency(value)
}

/// Returns the program and its arguments from the command line of a service's process.
pub fn program_of(command_line: &[String]) -> Vec<String> {
    let is_ours = command_line.get(1).is_some_and(|word| word == SUBCOMMAND);
    let end = command_line.iter().position(|word| word == "--");
    match end.filter(|_| is_ours) {
        Some(end) => {
            let words = command_line[end + 1..].iter();
            words.map(|word| template::shown(word)).collect()
        }
        None => command_line.to_vec(),
    }
}
