//! What a link does next.

use super::{Action, Held, Link, Outcome, Process};
use crate::registry::{Found, Instance, Lease, Request, State, View};
use crate::timing::Millis;

/// The number of leases that one link can use.
const LEASES_PER_SESSION: Lease = 1 << 24;

impl Link {
    /// Chooses the next request, and exits when nothing is left to do.
    pub(super) fn decide(&mut self, now: Millis, actions: &mut Vec<Action>) {
        if let Some(outcome) = self.ending {
            if self
                .serving
                .as_ref()
                .is_none_or(|serving| serving.process == Process::Gone)
            {
                self.exited = true;
                actions.push(Action::Exit(outcome));
            }
            return;
        }
        if self.stop {
            self.stop_service(actions);
        }
        if self.request.is_some() {
            return;
        }
        let request = match self.held {
            Some(held) if now >= self.timing.renewal(held.proof) && !self.doubt => {
                Some(self.renew(held))
            }
            Some(held) => self.while_held(now, held, actions),
            None => self.while_not_held(now, actions),
        };
        if let Some(request) = request {
            self.request = Some((request.clone(), now));
            actions.push(Action::Perform(request));
        }
    }

    fn renew(&mut self, held: Held) -> Request {
        let found = self.serving.as_ref().map(|serving| serving.found.clone());
        Request::Rebind {
            old: held.lease,
            lease: self.next_lease(),
            found,
        }
    }

    fn while_held(
        &mut self,
        now: Millis,
        held: Held,
        actions: &mut Vec<Action>,
    ) -> Option<Request> {
        if now >= self.read_at + self.timing.reread {
            self.view = None;
        }
        let Some(view) = &self.view else {
            return Some(Request::Read);
        };
        if let Some(serving) = &self.serving {
            let state = serving.found.instance.state;
            let publish = |state| Request::Publish {
                lease: held.lease,
                found: serving.found.clone(),
                instance: Instance {
                    state,
                    address: serving.address.clone(),
                    ..serving.found.instance.clone()
                },
            };
            return match serving.process {
                Process::Gone => Some(Request::Leave {
                    lease: held.lease,
                    found: Some(serving.found.clone()),
                }),
                Process::Stopping if state != State::Stopping => Some(publish(State::Stopping)),
                Process::Running if state == State::Starting => Some(publish(State::Ready)),
                Process::Running => {
                    if !self.announced {
                        self.announced = true;
                        actions.push(Action::Announce(serving.found.clone()));
                    }
                    None
                }
                Process::Starting | Process::Stopping => None,
            };
        }
        if self.joined.is_none() {
            let vanished = view.found.is_none() && view.started;
            if self.stop || (vanished && self.manual) {
                return Some(Request::Leave {
                    lease: held.lease,
                    found: None,
                });
            }
            // These keys contain the reference and the instance at once, as after a join.
            let ready = |found: &Found| found.instance.state == State::Ready;
            self.joined = view.found.clone().filter(ready);
            self.joined.as_ref()?;
        }
        let joined = self.joined.as_ref().map(|found| found.fence);
        let same = view
            .found
            .as_ref()
            .filter(|found| Some(found.fence) == joined && found.instance.state == State::Ready);
        let Some(found) = same.filter(|_| !self.stop) else {
            return Some(Request::Leave {
                lease: held.lease,
                found: None,
            });
        };
        if !self.announced {
            self.announced = true;
            actions.push(Action::Announce(found.clone()));
        }
        None
    }

    fn while_not_held(&mut self, now: Millis, actions: &mut Vec<Action>) -> Option<Request> {
        if self.stop {
            self.end(Outcome::Released, actions);
            self.exited = true;
            actions.push(Action::Exit(Outcome::Released));
            return None;
        }
        if now >= self.read_at + self.timing.reread {
            self.view = None;
        }
        let Some(View {
            own: replaces,
            found,
            started,
            ..
        }) = self.view.clone()
        else {
            return Some(Request::Read);
        };
        let host = self.host.clone();
        match found {
            Some(found) if found.instance.host == host => {
                if self.leftover_stopped {
                    return Some(Request::Clear { found });
                }
                if !self.leftover_asked {
                    self.leftover_asked = true;
                    actions.push(Action::StopLeftover);
                }
                None
            }
            Some(found) if found.instance.state == State::Ready => Some(Request::Join {
                replaces,
                lease: self.next_lease(),
                found,
            }),
            Some(_) => None,
            None if started && self.manual => {
                self.end(Outcome::NeedsForget, actions);
                self.exited = true;
                actions.push(Action::Exit(Outcome::NeedsForget));
                None
            }
            None if self.elsewhere => Some(Request::Ask {
                replaces,
                lease: self.next_lease(),
            }),
            None => {
                let instance = Instance {
                    host,
                    session: self.session,
                    state: State::Starting,
                    address: String::new(),
                };
                Some(Request::Enter {
                    replaces,
                    lease: self.next_lease(),
                    instance,
                })
            }
        }
    }

    fn next_lease(&mut self) -> Lease {
        self.used = self.used % (LEASES_PER_SESSION - 1) + 1;
        self.session + self.used
    }
}
