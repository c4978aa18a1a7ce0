use std::path::{Path, PathBuf};
use std::process::ExitCode;

use procref::{Collected, Removed};
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
    let vanished = config::vanished(globals)?;
    {
        let _unsuspended = Unsuspended::begin();
        for namespace in config::namespaces(globals, args.all)? {
            let services = services(namespace.dir.as_deref())?;
            all.add(services.dir(), &services.gc_blocking()?);
        }
        for services in vanished {
            all.add(services.dir(), &config::collect(&services)?);
        }
    }
    if !args.json.json {
        for removed in &all.removed {
            output::print(&removed.line())?;
        }
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

impl GcJson {
    fn add(&mut self, dir: &Path, collected: &Collected) {
        let removed = collected.removed().iter();
        self.removed
            .extend(removed.map(|it| RemovedJson::new(dir, it)));
        let failures = collected.failures().iter();
        self.failures.extend(failures.map(ToString::to_string));
    }
}

impl RemovedJson {
    fn new(dir: &Path, removed: &Removed) -> Self {
        Self {
            name: removed.name().map(str::to_owned),
            runtime_dir: dir.to_owned(),
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
