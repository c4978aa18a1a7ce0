use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use procref::State;

use crate::args::LogsArgs;
use crate::error::{Error, Failures, Result};
use crate::follow::{Follower, LogFile, Output};
use crate::globals::Globals;
use crate::resolve::NamedService;
use crate::text::shown;

pub(crate) fn run(globals: &Globals, args: &LogsArgs) -> Result<ExitCode> {
    let width = args.names.iter().map(|name| shown(name).chars().count());
    let width = width.max().unwrap_or_default();
    let mut followers = Vec::new();
    let mut failures = Failures::default();
    for name in &args.names {
        let named = NamedService::new(globals, name, &args.which)?;
        let log = match log_file(&named, args.follow) {
            Ok(log) => log,
            Err(error) => {
                failures.add(error);
                continue;
            }
        };
        let output = match args.names.len() {
            1 => Output::plain(),
            _ => Output::prefixed(&format!("{:width$} | ", shown(name))),
        };
        let mut follower = Follower::open(log, args.lines, output)?;
        if !globals.quiet {
            follower.announce_runs();
        }
        followers.push((follower, named.service));
    }
    for (follower, _) in &mut followers {
        follower.print_new()?;
        if !args.follow {
            follower.finish()?;
        }
    }
    if !args.follow {
        return Ok(failures.report());
    }
    let (results, ended) = mpsc::channel();
    for (mut follower, service) in followers {
        let results = results.clone();
        let follow = move || {
            let result = follower.follow(service);
            // The receiver is gone if another log could not be printed.
            let _ = results.send(result);
        };
        let thread = thread::Builder::new().name("procref: logs".to_owned());
        let thread = thread.spawn(follow);
        thread.map_err(|error| Error::io("start a thread for a log", error))?;
    }
    drop(results);
    // After an error, the other threads end with this process.
    ended.into_iter().collect::<Result<()>>()?;
    Ok(failures.report())
}

/// Returns the log of the running instance, or that of the last run. With `follow`, the log may not exist yet.
fn log_file(named: &NamedService<'_>, follow: bool) -> Result<LogFile> {
    let status = named.service.status()?;
    if status.state() != State::Absent {
        return match status.log_path() {
            Some(path) => Ok(LogFile::new(&named.service, path)),
            None => Err(Error::Failed(format!(
                "service `{}` has no log: it was not started by a command",
                shown(named.service.name())
            ))),
        };
    }
    let kept = named.service.kept_log();
    let path = named.spec.log.as_deref().unwrap_or(&kept);
    let is_described = named.spec.start.is_some();
    if path.exists() || follow && is_described {
        return Ok(LogFile::new(&named.service, path));
    }
    Err(named.to_start())
}
