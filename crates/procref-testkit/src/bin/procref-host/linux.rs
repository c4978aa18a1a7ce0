//! The modes.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use procref::{
    Ready, Result, ServiceCommand, ServiceHandle, ServiceInfo, SharedService, SharedServiceBuilder,
};

/// What a mode works with.
pub(crate) struct Host {
    dir: PathBuf,
    name: String,
}

pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mode, dir, name) = (arguments.next(), arguments.next(), arguments.next());
    let (Some(mode), Some(dir), Some(name)) = (mode, dir, name) else {
        return ExitCode::from(2);
    };
    let host = Host {
        dir: dir.into(),
        name,
    };
    match mode.as_str() {
        "start" => host.start(),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// Prints a fact at once.
pub(crate) fn tell(fact: &str) {
    let mut out = io::stdout().lock();
    // A test that does not read any more has failed already.
    let _ = writeln!(out, "{fact}").and_then(|()| out.flush());
}

impl Host {
    pub(crate) fn builder(&self, kind: &str) -> SharedServiceBuilder {
        SharedService::builder(&format!("{}-{kind}", self.name))
            .base_dir(&self.dir)
            .start_timeout(Duration::from_secs(20))
            .stop_timeout(Duration::from_secs(2))
    }

    pub(crate) fn by_command(&self) -> SharedServiceBuilder {
        let sleep = ServiceCommand::new("sleep").arg("600");
        self.builder("command")
            .command(sleep.ready(Ready::at_once()))
    }

    pub(crate) fn by_callback(&self) -> SharedServiceBuilder {
        self.builder("callback").on_first_acquire(|| async {
            let child = Command::new("sleep").arg("600").spawn()?;
            Ok(ServiceInfo::with_pid(child.id()))
        })
    }

    /// Starts a service by a command and one by a callback, and releases both.
    pub(crate) fn start(&self) {
        for (kind, builder) in [
            ("command", self.by_command()),
            ("callback", self.by_callback()),
        ] {
            let begun = Instant::now();
            let result = builder
                .build()
                .and_then(|service| service.acquire_blocking());
            report(kind, result, begun);
        }
    }
}

/// Tells what an acquire has come to, and releases the handle.
pub(crate) fn report(kind: &str, result: Result<ServiceHandle>, begun: Instant) {
    let time = begun.elapsed().as_millis();
    match result {
        Ok(handle) => {
            let alive = handle.info().is_alive();
            tell(&format!("{kind} started alive={alive} ms={time}"));
            let released = handle.release_blocking();
            tell(&format!("{kind} released {}", released.is_ok()));
        }
        Err(error) => tell(&format!("{kind} failed ms={time} {error}")),
    }
}
