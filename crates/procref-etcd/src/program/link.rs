//! `procref-etcd link`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::pending;
use std::hash::{BuildHasher as _, RandomState};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use procref::SharedService;
use tokio::sync::watch;

use super::{LinkArguments, Takeover};
use crate::drive::drive;
use crate::error::{Error, Result};
use crate::fuse::Fuse;
use crate::host;
use crate::link::{Link, Outcome};
use crate::local::{Host, Local, burn, report};
use crate::notify;
use crate::registry::etcd::{Etcd, Unknown};
use crate::registry::{Lease, Registry, Reply, Request};
use crate::timing::Timing;

/// The bits of a lease that a link may change.
const LOW: u32 = 24;

pub(super) async fn run(arguments: LinkArguments) -> Result<ExitCode> {
    let name = arguments.name.clone();
    let failed = |cause: &dyn std::fmt::Display| Error::new(format!("service `{name}`: {cause}"));
    let cluster = arguments.cluster;
    let timing = Timing::new(cluster.ttl(), arguments.grace).map_err(|cause| failed(&cause))?;
    let options = cluster.connect_options()?;

    let mut builder = SharedService::builder(&name);
    if let Some(dir) = arguments.runtime_dir {
        builder = builder.base_dir(dir);
    }
    let own = builder.build().map_err(|cause| failed(&cause))?;
    let local = Local {
        name: name.clone(),
        runtime_dir: own.runtime_dir().to_owned(),
        command: arguments.program,
        port: arguments.port,
        ready: arguments.ready,
        stop_signal: arguments.stop_signal,
        grace: arguments.grace,
        start_timeout: arguments.start_timeout,
        advertise: arguments.advertise,
        advertised_host: arguments.advertise_host.unwrap_or_else(host::name),
        filled: arguments.fill,
    };
    local.check().map_err(|cause| failed(&cause))?;
    let at = arguments.at.as_deref();
    let may_run = at.is_none_or(|at| host::may_run(at, arguments.host.as_deref()));
    let host_id = match arguments.host {
        Some(host) => host,
        None => host::id(&local.runtime_dir)?,
    };

    let mut fuse = Fuse::start(&local.runtime_dir, &local.instance(), local.grace)?;
    let (times, armed) = watch::channel(None);
    let (announce, announced) = watch::channel(false);
    let mut host = Host::new(local, times, announce)?;
    let ttl = Duration::from_millis(timing.ttl);
    let etcd = Etcd::new(
        &cluster.endpoints(),
        &options,
        cluster.prefix(),
        &name,
        &host_id,
        ttl,
    );
    let contact = Rc::new(Contact::new());
    let mut registry = Watched {
        registry: etcd,
        contact: contact.clone(),
    };
    let manual = arguments.takeover == Takeover::Manual;
    let mut link = Link::new(timing, &host_id, session(), manual);
    if !may_run {
        link = link.elsewhere();
    }

    let outcome = tokio::select! {
        outcome = drive(&mut link, &mut registry, &mut host) => outcome,
        error = burn(&mut fuse, armed) => {
            report(failed(&error));
            Outcome::Lost
        }
        error = contact.given_up(announced, arguments.wait_timeout) => return Err(failed(&error)),
    };
    let (code, text) = match outcome {
        Outcome::Released => return Ok(ExitCode::SUCCESS),
        Outcome::ServiceGone => (3, "the service has ended (the next client starts it again)"),
        Outcome::Lost => (
            4,
            "this host has lost its reference (the next client starts or joins the service again)",
        ),
        Outcome::NeedsForget => (
            5,
            "an earlier instance vanished without an orderly stop, and the takeover is manual (make sure that it is dead, \
             and run `procref-etcd forget`)",
        ),
    };
    report(failed(&text));
    Ok(ExitCode::from(code))
}

/// Returns a random session, whose low bits are 0.
fn session() -> Lease {
    // The keys of this hasher are random in each process.
    let random = RandomState::new().hash_one(std::process::id());
    let high = (random >> (LOW + 1)).max(1);
    Lease::try_from(high << LOW).unwrap_or(1 << LOW)
}

/// What the link knows about the members of the cluster.
struct Contact {
    answered: Cell<Instant>,
    error: RefCell<Option<String>>,
    /// The errors since the last answer.
    reported: RefCell<BTreeSet<String>>,
    refused: watch::Sender<bool>,
}

impl Contact {
    fn new() -> Self {
        Self {
            answered: Cell::new(Instant::now()),
            error: RefCell::new(None),
            reported: RefCell::default(),
            refused: watch::Sender::new(false),
        }
    }

    fn answer(&self) {
        self.answered.set(Instant::now());
        self.error.replace(None);
        self.reported.borrow_mut().clear();
    }

    fn failure(&self, error: &Unknown) {
        let text = error.to_string();
        // Once, because several members and their errors alternate.
        if self.reported.borrow_mut().insert(text.clone()) {
            report(&text);
            notify::status(&text);
        }
        self.error.replace(Some(text));
        if error.is_refused() {
            self.refused.send_replace(true);
        }
    }

    /// Returns when the link must give up because no member answers, or because they refuse it. A link that is ready
    /// never gives up before its reference is lost, because an administrator may repair the cluster in time.
    async fn given_up(&self, announced: watch::Receiver<bool>, limit: Duration) -> Error {
        let mut refused = self.refused.subscribe();
        loop {
            if *announced.borrow() {
                return pending().await;
            }
            let silent = self.answered.get().elapsed();
            if silent >= limit || *refused.borrow() {
                let cause = self.error.borrow().clone();
                return Error::new(
                    cause.unwrap_or_else(|| "no member of the cluster answers".to_owned()),
                );
            }
            tokio::select! {
                () = tokio::time::sleep(limit - silent) => {}
                _ = refused.changed() => {}
            }
        }
    }
}

/// A registry whose answers and failures are noted.
struct Watched {
    registry: Etcd,
    contact: Rc<Contact>,
}

impl Registry for Watched {
    type Unknown = Unknown;

    async fn perform(&mut self, request: &Request) -> std::result::Result<Reply, Unknown> {
        let reply = self.registry.perform(request).await;
        match &reply {
            Ok(_) => self.contact.answer(),
            Err(error) => self.contact.failure(error),
        }
        reply
    }

    fn revoke(&mut self, lease: Lease) {
        self.registry.revoke(lease);
    }

    async fn changed(&mut self) {
        self.registry.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_is_positive_random_and_leaves_the_low_bits_to_the_leases() {
        let sessions: std::collections::HashSet<Lease> = (0..100).map(|_| session()).collect();
        assert_eq!(sessions.len(), 100);
        assert!(
            sessions
                .iter()
                .all(|session| *session > 0 && session % (1 << LOW) == 0)
        );
    }
}
