use std::path::PathBuf;
use std::process::ExitCode;

use procref::{Removed, Services};
use serde::Serialize;

use crate::args::{GcArgs, Globals};
use crate::config;
use crate::error::{Error, FAILED, Result};
use crate::output::{self, shown};
use crate::signals::Unsuspended;

#[derive(Default, Serialize)]
struct Collected {
    removed: Vec<Gone>,
    failures: Vec<String>,
}

#[derive(Serialize)]
struct Gone {
    name: Option<String>,
    runtime_dir: PathBuf,
    stopped: Option<u32>,
    kernel_object: Option<String>,
    files: Vec<PathBuf>,
}

pub(crate) fn run(globals: &Globals, args: &GcArgs) -> Result<ExitCode> {
    let mut all = Collected::default();
    for namespace in config::namespaces(globals, args.all)? {
        let services = match &namespace.dir {
            Some(dir) => Services::in_dir(dir)?,
            None => Services::open()?,
        };
        let collected = {
            let _unsuspended = Unsuspended::begin();
            services.gc_blocking()?
        };
        for removed in collected.removed() {
            let gone = Gone::new(&services, removed);
            if !args.json.json {
                output::print(&gone.line())?;
            }
            all.removed.push(gone);
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

impl Gone {
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
        let name = self
            .name
            .as_deref()
            .map_or_else(|| "a service".to_owned(), shown);
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
