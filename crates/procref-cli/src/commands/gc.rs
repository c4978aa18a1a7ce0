use std::path::PathBuf;
use std::process::ExitCode;

use procref::{Removed, Services};
use serde::Serialize;

use crate::args::GcArgs;
use crate::config;
use crate::error::{Error, Result};
use crate::exit::FAILED;
use crate::globals::Globals;
use crate::output;
use crate::runtime_dir::services;
use crate::signals::Unsuspended;
use crate::text::shown;

#[derive(Default, Serialize)]
struct GcJson {
    removed: Vec<RemovedJson>,
    failures: Vec<String>,
}

#[derive(Serialize)]
struct RemovedJson {
    name: Option<String>,
    runtime_dir: PathBuf,
    stopped: Option<u32>,
    kernel_object: Option<String>,
    files: Vec<PathBuf>,
}

pub(crate) fn run(globals: &Globals, args: &GcArgs) -> Result<ExitCode> {
    let mut all = GcJson::default();
    for namespace in config::namespaces(globals, args.all)? {
        let services = services(namespace.dir.as_deref())?;
        let collected = {
            let _unsuspended = Unsuspended::begin();
            services.gc_blocking()?
        };
        for removed in collected.removed() {
            let removed = RemovedJson::new(&services, removed);
            if !args.json.json {
                output::print(&removed.line())?;
            }
            all.removed.push(removed);
        }
        for failure in collected.failures() {
            all.failures.push(failure.to_string());
        }
        config::forget(&namespace)?;
    }
    if args.json.json {
        output::print_json(&all)?;
    } else if all.removed.is_empty() && all.failures.is_empty() {
        output::note(globals, "nothing to remove");
    }
    for failure in &all.failures {
        output::error(&Error::Failed(failure.clone()));
    }
    match all.failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(FAILED)),
    }
}

impl RemovedJson {
    fn new(services: &Services, removed: &Removed) -> Self {
        Self {
            name: removed.name().map(str::to_owned),
            runtime_dir: services.dir().to_owned(),
            stopped: removed.stopped(),
            kernel_object: removed.kernel_object().map(str::to_owned),
            files: removed.files().to_vec(),
        }
    }

    fn line(&self) -> String {
        let name = match &self.name {
            Some(name) => format!("`{}`", shown(name)),
            None => "a service".to_owned(),
        };
        let mut what = Vec::new();
        what.extend(self.stopped.map(|pid| format!("process {pid}")));
        what.extend(
            self.kernel_object
                .as_ref()
                .map(|key| format!("semaphore set {key}")),
        );
        what.extend(self.files.iter().map(|file| shown(&file.to_string_lossy())));
        format!("{name}: removed {}\n", what.join(", "))
    }
}
