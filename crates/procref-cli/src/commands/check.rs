//! `procref check`: checks the configuration, and searches for the programs of its services.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use procref_config::Diagnostic;
use procref_config::files::{CheckedProgram, CheckedService, json_schema};
use serde::Serialize;

use crate::args::CheckArgs;
use crate::config;
use crate::error::{Error, Result};
use crate::exit::{FAILED, USAGE};
use crate::globals::Globals;
use crate::output;
use crate::table;
use crate::text::shown;
use crate::user;

#[derive(Default, Serialize)]
struct CheckJson<'a> {
    files: &'a [PathBuf],
    errors: Vec<ErrorJson<'a>>,
    services: Vec<ServiceJson<'a>>,
}

#[derive(Serialize)]
struct ErrorJson<'a> {
    file: &'a Path,
    line: Option<usize>,
    column: Option<usize>,
    message: &'a str,
}

#[derive(Serialize)]
struct ServiceJson<'a> {
    name: &'a str,
    file: &'a Path,
    programs: Vec<ProgramJson<'a>>,
    user: Option<UserJson<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct UserJson<'a> {
    name: &'a str,
    exists: bool,
}

#[derive(Serialize)]
struct ProgramJson<'a> {
    key: &'static str,
    name: &'a str,
    path: Option<&'a Path>,
}

pub(crate) fn run(globals: &Globals, args: &CheckArgs) -> Result<ExitCode> {
    if args.schema {
        let schema = serde_json::to_string_pretty(&json_schema());
        let schema = schema.map_err(|error| Error::io("write JSON", error.into()))?;
        output::print(&(schema + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let checked = match config::check(globals) {
        Ok(checked) => checked,
        Err(Error::Config(error)) if args.json.json => {
            output::print_json(&CheckJson {
                errors: error.diagnostics().iter().map(ErrorJson::new).collect(),
                ..CheckJson::default()
            })?;
            return Ok(ExitCode::from(USAGE));
        }
        Err(error) => return Err(error),
    };
    if checked.files.is_empty() {
        return Err(Error::Usage(config::no_file(globals)?));
    }
    let programs = checked.services.iter().flat_map(|it| &it.programs);
    let missing = programs.filter(|it| it.path.is_none()).count();
    let unknown_users = checked.services.iter().filter_map(unknown_user);
    let unknown_users: Vec<String> = unknown_users.collect();
    if args.json.json {
        output::print_json(&CheckJson {
            files: &checked.files,
            errors: Vec::new(),
            services: checked.services.iter().map(ServiceJson::new).collect(),
        })?;
    } else {
        if !checked.services.is_empty() {
            output::print(&render(&checked.services))?;
        }
        for file in &checked.files {
            output::note(
                globals,
                &format!("{}: valid", shown(&file.to_string_lossy())),
            );
        }
        for service in &checked.services {
            for warning in &service.warnings {
                let (name, warning) = (shown(&service.name), shown(warning));
                output::note(globals, &format!("warning: service `{name}`: {warning}"));
            }
        }
        for unknown in &unknown_users {
            match user::is_effective() {
                true => output::error(&Error::Failed(unknown.clone())),
                false => output::note(globals, &format!("warning: {unknown}")),
            }
        }
        if missing > 0 {
            let programs = if missing == 1 { "program" } else { "programs" };
            return Err(Error::Failed(format!(
                "{missing} {programs} not found (install them, name their paths, or set `path`)"
            )));
        }
    }
    // For another user than root, `user` has no effect.
    let is_user_missing = !unknown_users.is_empty() && user::is_effective();
    Ok(match missing > 0 || is_user_missing {
        false => ExitCode::SUCCESS,
        true => ExitCode::from(FAILED),
    })
}

/// Returns a message if the user of a service does not exist.
fn unknown_user(service: &CheckedService) -> Option<String> {
    let name = service.user.as_deref().filter(|name| !user::exists(name))?;
    let service = shown(&service.name);
    Some(format!(
        "service `{service}`: `user`: there is no user `{}` (if root starts the service, the start fails)",
        shown(name)
    ))
}

fn render(services: &[CheckedService]) -> String {
    let rows = services.iter().flat_map(|service| {
        let row = |program: &CheckedProgram| {
            let path = program.path.as_ref();
            vec![
                shown(&service.name),
                program.key.to_owned(),
                shown(&program.name),
                path.map_or_else(
                    || "not found".to_owned(),
                    |path| shown(&path.to_string_lossy()),
                ),
            ]
        };
        service.programs.iter().map(row)
    });
    table::render(&["NAME", "KEY", "PROGRAM", "FILE"], rows.collect())
}

impl<'a> ErrorJson<'a> {
    fn new(diagnostic: &'a Diagnostic) -> Self {
        Self {
            file: diagnostic.file(),
            line: diagnostic.line(),
            column: diagnostic.column(),
            message: diagnostic.message(),
        }
    }
}

impl<'a> ServiceJson<'a> {
    fn new(service: &'a CheckedService) -> Self {
        let programs = service.programs.iter().map(|program| ProgramJson {
            key: program.key,
            name: &program.name,
            path: program.path.as_deref(),
        });
        Self {
            name: &service.name,
            file: &service.file,
            programs: programs.collect(),
            user: service.user.as_deref().map(|name| UserJson {
                name,
                exists: user::exists(name),
            }),
            warnings: &service.warnings,
        }
    }
}
