//! `procref-etcd serve`.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use procref::SharedService;
use procref_config::files::{Files, Selection, path_text};
use procref_config::program;
use procref_config::spec::ServiceSpec;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::ServeArguments;
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::host;
use crate::local::report;
use crate::notify;
use crate::registry::etcd::{Etcd, Unknown};
use crate::registry::{Registry, Reply, Request};

/// The time to live that limits how long a member may take to answer, if the URL sets none.
const TTL: Duration = Duration::from_secs(15);

/// A watch can hang on a member that is cut off.
const REREAD: Duration = Duration::from_secs(2);

/// Bounds on the pause after a start that failed, or after a service that exited. The pause doubles after each failure.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

pub(super) async fn run(arguments: ServeArguments) -> Result<ExitCode> {
    let name = arguments.name.clone();
    let failed = |cause: &dyn Display| Error::new(format!("service `{name}`: {cause}"));
    let identity = std::env::var(host::IDENTITY)
        .ok()
        .filter(|text| !text.is_empty());
    let (spec, url) = described(arguments, identity.as_deref())?;
    let service = spec.build(&helper()).map_err(|cause| failed(&cause))?;
    let cluster = Cluster::from_url(&url)?;
    let identity = match identity {
        Some(identity) => identity,
        None => host::id(service.runtime_dir())?,
    };
    let keys = Etcd::new(
        &cluster.endpoints(),
        &cluster.connect_options()?,
        cluster.prefix(),
        &name,
        &identity,
        cluster.ttl().unwrap_or(TTL),
    );
    let handle = |kind| signal(kind).map_err(|cause| failed(&format!("handle signals: {cause}")));
    let mut terminate = handle(SignalKind::terminate())?;
    let mut interrupt = handle(SignalKind::interrupt())?;
    let hosts = Hosts {
        keys,
        has_answered: false,
        is_silent: false,
    };
    tokio::select! {
        refused = serve(&service, hosts) => return Err(failed(&refused)),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // The link stops the service and removes the keys in order, although other hosts use it.
    service.force_stop().await.map_err(|cause| failed(&cause))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the description of the service, and the URL of its cluster.
fn described(arguments: ServeArguments, identity: Option<&str>) -> Result<(ServiceSpec, String)> {
    let ServeArguments {
        config,
        runtime_dir,
        name,
    } = arguments;
    let failed = |cause: &dyn Display| Error::new(format!("service `{name}`: {cause}"));
    let selection = Selection {
        runtime_dir: runtime_dir.clone(),
        file: config,
        option: Some("`--config`"),
        ..Selection::default()
    };
    let files = Files::read(&selection).map_err(|cause| Error::new(cause.to_string()))?;
    let found = files.resolve(runtime_dir.as_deref(), std::slice::from_ref(&name));
    let found = found.map_err(|cause| failed(&cause))?;
    let position = found.named.first().copied().flatten();
    let Some(spec) = position.and_then(|position| found.specs.get(position)) else {
        let paths: Vec<String> = files.paths().map(path_text).collect();
        let place = match paths.is_empty() {
            true => "there is no procref.toml here or above".to_owned(),
            false => format!("it is not in {}", paths.join(" or ")),
        };
        return Err(failed(&format_args!(
            "{place} (describe it as [services.{name}])"
        )));
    };
    let spec = spec.spec.clone();
    let Some(cluster) = &spec.cluster else {
        return Err(failed(
            &"its description has no `cluster`, so other hosts cannot use it",
        ));
    };
    let at = cluster.at.as_deref().unwrap_or(host::ANYONE);
    if at == host::ANYONE {
        return Err(failed(
            &"its description has no `at`, so the host of its first client runs it (name this host by `at`)",
        ));
    }
    if !host::may_run(at, identity) {
        let own = host::name();
        return Err(failed(&format_args!(
            "`at` names the host `{at}`, and this is `{own}` (run this command there, or set {} to the name)",
            host::IDENTITY
        )));
    }
    if spec.start.is_none() {
        return Err(failed(&"its description has no `start`"));
    }
    let url = cluster.url.clone();
    Ok((spec, url))
}

/// Returns the program `procref`, which prepares the data directory of a service: the one beside this program, or the one
/// in the `PATH`.
fn helper() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.with_file_name("procref");
    let path = std::env::var_os("PATH");
    let installed = || program::find_in("procref".as_ref(), path.as_deref());
    match beside.is_file() {
        true => beside,
        false => installed().unwrap_or(beside),
    }
}

/// Holds a local reference to the link as long as another host has a reference. Returns if the members refuse the user.
async fn serve(service: &SharedService, mut hosts: Hosts) -> Unknown {
    let [first, longest] = PAUSE;
    let mut pause = first;
    loop {
        if let Err(refused) = hosts.wait(true).await {
            return refused;
        }
        println!("starting: another host needs `{}`", service.name());
        let link = match service.acquire().await {
            Ok(link) => link,
            Err(cause) => {
                report(cause);
                sleep(pause).await;
                pause = (pause * 2).min(longest);
                continue;
            }
        };
        pause = first;
        let is_dead = tokio::select! {
            waited = hosts.wait(false) => match waited {
                Ok(()) => false,
                Err(refused) => return refused,
            },
            dead = link.wait_dead() => {
                report(dead.map_or_else(
                    |cause| cause.to_string(),
                    |()| format!("the link of `{}` has exited", service.name()),
                ));
                true
            }
        };
        if let Err(cause) = link.release().await {
            report(cause);
        }
        if is_dead {
            sleep(pause).await;
        } else {
            println!("released: no other host needs `{}`", service.name());
        }
    }
}

/// The references of other hosts.
struct Hosts {
    keys: Etcd,
    /// Whether a member has answered since the start.
    has_answered: bool,
    /// Whether the last read failed.
    is_silent: bool,
}

impl Hosts {
    /// Waits until another host has a reference, or until no other host has one. Returns the error if the members refuse the
    /// user before their first answer.
    async fn wait(&mut self, wanted: bool) -> std::result::Result<(), Unknown> {
        loop {
            match self.keys.perform(&Request::Read).await {
                Ok(Reply::View(view)) => {
                    self.is_silent = false;
                    // The first answer shows that the settings of the cluster are right.
                    if !std::mem::replace(&mut self.has_answered, true) {
                        if let Err(cause) = notify::started() {
                            report(cause);
                        }
                    }
                    if view.others == wanted {
                        return Ok(());
                    }
                    // If the time is over, the watch continues with the next wait.
                    let _ = tokio::time::timeout(REREAD, self.keys.changed()).await;
                }
                Ok(_) => {}
                Err(cause) if cause.is_refused() && !self.has_answered => return Err(cause),
                Err(cause) => {
                    // Once, because members that are restarted would fill the log.
                    if !std::mem::replace(&mut self.is_silent, true) {
                        report(cause);
                    }
                }
            }
        }
    }
}
