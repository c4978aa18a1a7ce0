//! Links that run in tasks, on hosts whose service is a counter.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use procref_etcd::drive::{Surroundings, drive};
use procref_etcd::link::{Action, Event, Link, Outcome};
use procref_etcd::registry::etcd::{Etcd, Unknown};
use procref_etcd::registry::{Found, Instance, Lease, Registry, Reply, Request, State};
use procref_etcd::timing::Timing;
use tokio::sync::{mpsc, watch};

use crate::common::{Cluster, TTL};

/// What the service itself would log, for all hosts.
#[derive(Default)]
pub struct Log {
    pub live: AtomicUsize,
    pub starts: AtomicUsize,
    pub overlaps: AtomicUsize,
    last_fence: AtomicI64,
}

/// A host whose service is a counter.
struct Host {
    log: Arc<Log>,
    live: bool,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    announced: watch::Sender<Option<Found>>,
}

impl Surroundings for Host {
    fn perform(&mut self, action: Action) {
        match action {
            Action::Start(fence) => {
                let others = self.log.live.fetch_add(1, Ordering::SeqCst);
                let grows = self.log.last_fence.swap(fence, Ordering::SeqCst) < fence;
                self.log
                    .overlaps
                    .fetch_add(usize::from(others > 0 || !grows), Ordering::SeqCst);
                self.log.starts.fetch_add(1, Ordering::SeqCst);
                self.live = true;
                let _ = self.sender.send(Event::Ready("10.0.0.1:5432".to_owned()));
            }
            Action::StopService => {
                if std::mem::take(&mut self.live) {
                    self.log.live.fetch_sub(1, Ordering::SeqCst);
                }
                let _ = self.sender.send(Event::Exited);
            }
            Action::StopLeftover => {
                let _ = self.sender.send(Event::LeftoverStopped);
            }
            Action::Announce(found) => {
                self.announced.send_replace(Some(found));
            }
            _ => {}
        }
    }

    async fn event(&mut self) -> Event {
        self.events.recv().await.unwrap()
    }
}

/// The keys for a link.
pub struct Keys {
    pub own: Etcd,
    /// The host whose instance begins to stop between the join of the link and its next read, its lease, and its instance.
    pub other: Option<(Etcd, Lease, Found)>,
    /// How often the link has read the keys.
    pub reads: Arc<AtomicUsize>,
}

impl Registry for Keys {
    type Unknown = Unknown;

    async fn perform(&mut self, request: &Request) -> Result<Reply, Unknown> {
        let is_read = usize::from(*request == Request::Read);
        self.reads.fetch_add(is_read, Ordering::SeqCst);
        let reply = self.own.perform(request).await?;
        let is_joined = matches!((request, &reply), (Request::Join { .. }, Reply::Done(_)));
        if let Some((mut other, lease, found)) = self.other.take_if(|_| is_joined) {
            let stopping = Found {
                instance: instance("b", State::Stopping),
                fence: found.fence,
            };
            let publish = Request::Publish {
                lease,
                found,
                instance: stopping.instance.clone(),
            };
            assert!(matches!(other.perform(&publish).await?, Reply::Done(_)));
            tokio::spawn(async move {
                // The service needs its time to stop.
                tokio::time::sleep(Duration::from_secs(1)).await;
                let found = Some(stopping);
                let left = other.perform(&Request::Leave { lease, found }).await;
                assert!(matches!(left, Ok(Reply::Done(_))));
            });
        }
        Ok(reply)
    }

    fn revoke(&mut self, lease: Lease) {
        self.own.revoke(lease);
    }

    async fn changed(&mut self) {
        self.own.changed().await;
    }
}

/// A link that runs in a task.
pub struct Running {
    sender: mpsc::UnboundedSender<Event>,
    announced: watch::Receiver<Option<Found>>,
    pub task: tokio::task::JoinHandle<Outcome>,
}

impl Running {
    pub async fn start(
        cluster: &Cluster,
        service: &str,
        name: &str,
        session: Lease,
        log: &Arc<Log>,
    ) -> Self {
        let keys = Keys {
            own: cluster.registry(service, name),
            other: None,
            reads: Arc::default(),
        };
        Self::start_with(keys, name, session, log)
    }

    pub fn start_with(mut registry: Keys, name: &str, session: Lease, log: &Arc<Log>) -> Self {
        let timing = Timing::new(Some(TTL), Duration::from_millis(500)).unwrap();
        let mut link = Link::new(timing, name, session << 24, false);
        let (sender, events) = mpsc::unbounded_channel();
        let (announce, announced) = watch::channel(None);
        let mut host = Host {
            log: log.clone(),
            live: false,
            sender: sender.clone(),
            events,
            announced: announce,
        };
        let task = tokio::spawn(async move { drive(&mut link, &mut registry, &mut host).await });
        Self {
            sender,
            announced,
            task,
        }
    }

    /// Waits until the link announces an instance. Returns `None` if the link exits before.
    pub async fn announced(&mut self) -> Option<Found> {
        self.announced.wait_for(Option::is_some).await.ok()?.clone()
    }

    pub async fn stop(self) -> Outcome {
        let _ = self.sender.send(Event::Stop);
        self.task.await.unwrap()
    }
}

pub fn instance(host: &str, state: State) -> Instance {
    Instance {
        host: host.to_owned(),
        session: 7,
        state,
        address: String::new(),
    }
}
