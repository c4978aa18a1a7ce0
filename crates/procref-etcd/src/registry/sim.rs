//! The keys in memory, for the model.

use std::collections::BTreeMap;

use crate::registry::{Found, Lease, Reply, Request, State, View};
use crate::timing::Millis;

/// The keys of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Keys {
    /// A mistake that the model must find.
    pub(crate) enters_beside_another: bool,
    revision: i64,
    refs: BTreeMap<String, Lease>,
    found: Option<(Found, Lease)>,
    started: bool,
    /// When each lease was granted.
    leases: BTreeMap<Lease, Millis>,
}

impl Keys {
    /// Performs a request of `host` as one step. The grant of its lease belongs to it.
    pub(crate) fn perform(&mut self, now: Millis, host: &str, request: &Request) -> Reply {
        let done = match request {
            Request::Read => return Reply::View(self.view(host)),
            Request::Join {
                replaces,
                lease,
                found,
            } => {
                self.has_ref(host, *replaces)
                    && self.has_found(Some(found))
                    && self.put_ref(host, *lease, now)
            }
            Request::Enter {
                replaces,
                lease,
                instance,
            } => {
                let free = self.found.is_none() || self.enters_beside_another;
                self.has_ref(host, *replaces) && free && {
                    let found = Found {
                        instance: instance.clone(),
                        fence: self.revision + 1,
                    };
                    self.found = Some((found, *lease));
                    self.started = true;
                    self.put_ref(host, *lease, now)
                }
            }
            Request::Ask { replaces, lease } => {
                self.has_ref(host, *replaces)
                    && self.found.is_none()
                    && self.put_ref(host, *lease, now)
            }
            Request::Rebind { old, lease, found } => {
                self.has_ref(host, Some(*old)) && self.has_found(found.as_ref()) && {
                    if let Some(found) = found {
                        self.found = Some((found.clone(), *lease));
                    }
                    self.put_ref(host, *lease, now)
                }
            }
            Request::Publish {
                lease,
                found,
                instance,
            } => {
                self.has_ref(host, Some(*lease)) && self.has_found(Some(found)) && {
                    self.found = Some((
                        Found {
                            instance: instance.clone(),
                            fence: found.fence,
                        },
                        *lease,
                    ));
                    true
                }
            }
            Request::Leave { lease, found } => {
                self.has_ref(host, Some(*lease)) && self.has_found(found.as_ref()) && {
                    self.refs.remove(host);
                    found.is_none() || self.remove_found()
                }
            }
            Request::Clear { found } => self.has_found(Some(found)) && self.remove_found(),
        };
        if !done {
            return Reply::Refused;
        }
        self.revision += 1;
        // A lease without keys is not interesting.
        self.leases.retain(|lease, _| {
            self.refs.values().any(|used| used == lease)
                || self.found.as_ref().is_some_and(|(_, used)| used == lease)
        });
        Reply::Done(self.revision)
    }

    fn view(&self, host: &str) -> View {
        View {
            own: self.refs.get(host).copied(),
            others: self.refs.keys().any(|other| other != host),
            found: self.found.as_ref().map(|(found, _)| found.clone()),
            started: self.started,
        }
    }

    fn has_ref(&self, host: &str, lease: Option<Lease>) -> bool {
        self.refs.get(host).copied() == lease
    }

    fn has_found(&self, expected: Option<&Found>) -> bool {
        expected.is_none_or(|expected| {
            self.found
                .as_ref()
                .is_some_and(|(found, _)| found == expected)
        })
    }

    fn put_ref(&mut self, host: &str, lease: Lease, now: Millis) -> bool {
        self.leases.insert(lease, now);
        self.refs.insert(host.to_owned(), lease);
        true
    }

    fn remove_found(&mut self) -> bool {
        self.found = None;
        self.started = false;
        true
    }

    /// Returns the leases with their times of grant.
    pub(crate) fn leases(&self) -> impl Iterator<Item = (Lease, Millis)> {
        self.leases
            .iter()
            .map(|(lease, granted)| (*lease, *granted))
    }

    /// Ends a lease, and returns the hosts that lose their reference by it.
    pub(crate) fn expire(&mut self, lease: Lease) -> Vec<String> {
        self.leases.remove(&lease);
        let lost = self
            .refs
            .iter()
            .filter(|(_, used)| **used == lease)
            .map(|(host, _)| host.clone())
            .collect();
        self.refs.retain(|_, used| *used != lease);
        self.found.take_if(|(_, used)| *used == lease);
        lost
    }

    /// Returns `true` if no key is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.refs.is_empty() && self.found.is_none() && !self.started
    }

    /// Returns `true` if an instance is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.found
            .as_ref()
            .is_some_and(|(found, _)| found.instance.state == State::Ready)
    }
}
