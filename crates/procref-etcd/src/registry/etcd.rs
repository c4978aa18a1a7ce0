//! The keys in etcd 3.4 or later. Each step is one transaction.

use std::fmt;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, DeleteOptions, EventType, GetOptions,
    LeaseGrantOptions, PutOptions, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};

use crate::registry::{Found, Instance, Lease, Registry, Reply, Request, View};

mod forget;

pub use forget::Forgotten;

/// Bounds on how long a member may take to answer, which is a tenth of the time to live. Then the next request goes to
/// another member, so that the reference outlasts several members that do not answer.
const ANSWER: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1_500)];

/// The pause after a failure, so that members that refuse connections are not asked without end.
const PAUSE: Duration = Duration::from_millis(200);

/// The keys of one service, for one host.
pub struct Etcd {
    /// One client for each member: a client for all members would not say which of them does not answer.
    members: Vec<Member>,
    options: ConnectOptions,
    /// The member that is asked first.
    member: usize,
    base: String,
    host: String,
    ttl: i64,
    watch: Option<WatchStream>,
    /// The instance that the watch saw last: when it was created, and its value.
    watched: Option<(i64, Vec<u8>)>,
    /// Whether another host runs the service, as far as this value knows.
    runs_elsewhere: bool,
}

struct Member {
    endpoint: String,
    /// `None` before the first request, and after a failure.
    client: Option<Client>,
}

/// A request without an answer.
#[derive(Debug)]
pub struct Unknown {
    endpoint: String,
    keys: String,
    cause: etcd_client::Error,
}

impl Unknown {
    /// Returns `true` if the member refused the user, the password or the permission. Repeating the request is useless
    /// before an administrator has changed them.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        let etcd_client::Error::GRpcStatus(status) = &self.cause else {
            return false;
        };
        // The codes of gRPC: invalid argument, and permission denied. etcd reports a wrong password, and a missing user,
        // as an invalid argument.
        match status.code() as i32 {
            3 => ["user name is empty", "authentication failed"]
                .iter()
                .any(|text| status.message().contains(text)),
            7 => true,
            9 => status.message().contains("authentication is not enabled"),
            _ => false,
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            endpoint,
            keys,
            cause,
        } = self;
        let cause = cause_text(cause);
        let (what, advice) = match self.is_refused() {
            true => (
                "refused access to",
                "check the user, the password, and the permissions of the user's role",
            ),
            false => (
                "gave no answer for",
                advice(&cause).unwrap_or("check the address, and that the cluster has a quorum"),
            ),
        };
        write!(
            f,
            "etcd at {endpoint} {what} the keys below {keys}: {cause} ({advice})"
        )
    }
}

impl std::error::Error for Unknown {}

/// Returns the message of an error, with its first cause if the message does not contain it.
pub(crate) fn cause_text(error: &etcd_client::Error) -> String {
    use etcd_client::Error::{GRpcStatus, TransportError};
    // The error of the client does not return its source.
    let (mut text, mut source) = match error {
        GRpcStatus(status) => (
            status.message().to_owned(),
            std::error::Error::source(status),
        ),
        TransportError(cause) => (cause.to_string(), std::error::Error::source(cause)),
        error => (error.to_string(), None),
    };
    let mut first = None;
    while let Some(cause) = source {
        first = Some(cause.to_string());
        source = cause.source();
    }
    if let Some(first) = first.filter(|first| !text.contains(first)) {
        text += &format!(": {first}");
    }
    text
}

/// Returns what the user can do about a request without an answer. Returns `None` if the cause is not known.
pub(crate) fn advice(cause: &str) -> Option<&'static str> {
    // The messages of rustls, tonic and h2. Another version of them only makes the advice less exact.
    let advices = [
        (
            "invalid peer certificate",
            "check that `ca` is the authority of the members, and that their certificates have this name",
        ),
        (
            "alert",
            "check that `cert` and `key` are of an authority that the members trust",
        ),
        (
            "tls",
            "check that the members use TLS; if they do not, write etcd://",
        ),
        ("dns error", "check the name of the member"),
        ("refused", "check the address, and that the member runs"),
        (
            "http2",
            "check that this is the port of etcd for clients; if the members use TLS, write etcds://",
        ),
    ];
    let found = advices.iter().find(|(part, _)| cause.contains(part));
    found.map(|(_, advice)| *advice)
}

impl Etcd {
    /// Describes the keys of a service. The first request connects to a member. The keys begin with `prefix`. `ttl` is
    /// the time to live of a lease, which etcd counts in whole seconds.
    #[must_use]
    pub fn new(
        endpoints: &[String],
        options: &ConnectOptions,
        prefix: &str,
        service: &str,
        host: &str,
        ttl: Duration,
    ) -> Self {
        let answer = (ttl / 10).clamp(ANSWER[0], ANSWER[1]);
        let member = |endpoint: &String| Member {
            endpoint: endpoint.clone(),
            client: None,
        };
        Self {
            members: endpoints.iter().map(member).collect(),
            options: options
                .clone()
                .with_timeout(answer)
                .with_connect_timeout(answer)
                .with_require_leader(true),
            member: 0,
            base: format!("{prefix}/procref/1/{}/", escape(service)),
            host: escape(host),
            ttl: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            watch: None,
            watched: None,
            runs_elsewhere: false,
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.base)
    }

    fn own(&self) -> String {
        self.key(&format!("ref/{}", self.host))
    }

    /// Returns the client of the current member. Connecting to it also authenticates the user.
    async fn client(&mut self) -> Result<&mut Client, etcd_client::Error> {
        let none = || etcd_client::Error::InvalidArgs("no endpoint".to_owned());
        let member = self.members.get_mut(self.member).ok_or_else(none)?;
        if member.client.is_none() {
            let options = Some(self.options.clone());
            member.client = Some(Client::connect([&member.endpoint], options).await?);
        }
        member.client.as_mut().ok_or_else(none)
    }

    /// Selects the next member after a failure of the current one, and returns the error.
    fn next_member(&mut self, cause: etcd_client::Error) -> Unknown {
        let mut endpoint = String::new();
        if let Some(member) = self.members.get_mut(self.member) {
            endpoint.clone_from(&member.endpoint);
            // A member that was restarted does not know the user's token any more.
            member.client = None;
        }
        self.member = (self.member + 1) % self.members.len().max(1);
        self.watch = None;
        Unknown {
            endpoint,
            keys: self.base.clone(),
            cause,
        }
    }

    fn has_ref(&self, lease: Option<Lease>) -> Compare {
        match lease {
            Some(lease) => Compare::lease(self.own(), CompareOp::Equal, lease),
            None => Compare::create_revision(self.own(), CompareOp::Equal, 0),
        }
    }

    /// Compares the whole description, because a renewal changes the revision of the key and not the description.
    fn has_found(&self, found: &Found) -> [Compare; 2] {
        let key = self.key("inst");
        [
            Compare::create_revision(key.clone(), CompareOp::Equal, found.fence),
            Compare::value(key, CompareOp::Equal, encode(&found.instance)),
        ]
    }

    fn put_ref(&self, lease: Lease) -> TxnOp {
        TxnOp::put(self.own(), "", Some(PutOptions::new().with_lease(lease)))
    }

    fn put_instance(&self, instance: &Instance, lease: Lease) -> TxnOp {
        TxnOp::put(
            self.key("inst"),
            encode(instance),
            Some(PutOptions::new().with_lease(lease)),
        )
    }

    fn remove_instance(&self) -> [TxnOp; 2] {
        [
            TxnOp::delete(self.key("inst"), None::<DeleteOptions>),
            TxnOp::delete(self.key("started"), None),
        ]
    }

    fn transaction(&self, request: &Request) -> (Vec<Compare>, Vec<TxnOp>) {
        match request {
            Request::Read => {
                let refs = GetOptions::new().with_prefix().with_keys_only();
                let reads = [("ref/", Some(refs)), ("inst", None), ("started", None)];
                (
                    Vec::new(),
                    reads
                        .into_iter()
                        .map(|(name, options)| TxnOp::get(self.key(name), options))
                        .collect(),
                )
            }
            Request::Join {
                replaces,
                lease,
                found,
            } => {
                let compares = self
                    .has_found(found)
                    .into_iter()
                    .chain([self.has_ref(*replaces)]);
                (compares.collect(), vec![self.put_ref(*lease)])
            }
            Request::Enter {
                replaces,
                lease,
                instance,
            } => {
                let absent = Compare::create_revision(self.key("inst"), CompareOp::Equal, 0);
                let started = TxnOp::put(self.key("started"), "", None);
                let puts = vec![
                    self.put_ref(*lease),
                    self.put_instance(instance, *lease),
                    started,
                ];
                (vec![absent, self.has_ref(*replaces)], puts)
            }
            Request::Ask { replaces, lease } => {
                let absent = Compare::create_revision(self.key("inst"), CompareOp::Equal, 0);
                let compares = vec![absent, self.has_ref(*replaces)];
                (compares, vec![self.put_ref(*lease)])
            }
            Request::Rebind { old, lease, found } => {
                let mut compares = vec![self.has_ref(Some(*old))];
                let mut puts = vec![self.put_ref(*lease)];
                if let Some(found) = found {
                    compares.extend(self.has_found(found));
                    puts.push(self.put_instance(&found.instance, *lease));
                }
                (compares, puts)
            }
            Request::Publish {
                lease,
                found,
                instance,
            } => {
                let compares = self
                    .has_found(found)
                    .into_iter()
                    .chain([self.has_ref(Some(*lease))]);
                (
                    compares.collect(),
                    vec![self.put_instance(instance, *lease)],
                )
            }
            Request::Leave { lease, found } => {
                let mut compares = vec![self.has_ref(Some(*lease))];
                let mut deletes = vec![TxnOp::delete(self.own(), None)];
                if let Some(found) = found {
                    compares.extend(self.has_found(found));
                    deletes.extend(self.remove_instance());
                }
                (compares, deletes)
            }
            Request::Clear { found } => (
                self.has_found(found).to_vec(),
                self.remove_instance().to_vec(),
            ),
        }
    }

    async fn try_perform(&mut self, request: &Request) -> Result<Reply, etcd_client::Error> {
        let lease = request.new_lease();
        if let Some(lease) = lease {
            let ttl = self.ttl;
            self.client()
                .await?
                .lease_grant(ttl, Some(LeaseGrantOptions::new().with_id(lease)))
                .await?;
        }
        let (compares, operations) = self.transaction(request);
        let response = self
            .client()
            .await?
            .txn(Txn::new().when(compares).and_then(operations))
            .await?;
        if *request == Request::Read {
            let view = self.view(response.op_responses())?;
            let found = view.found.as_ref();
            self.runs_elsewhere = found.is_some_and(|found| self.is_elsewhere(&found.instance));
            return Ok(Reply::View(view));
        }
        if response.succeeded() {
            return Ok(Reply::Done(
                response.header().map_or(0, |header| header.revision()),
            ));
        }
        if let Some(lease) = lease {
            self.revoke(lease);
        }
        Ok(Reply::Refused)
    }

    fn view(&self, responses: Vec<TxnOpResponse>) -> Result<View, etcd_client::Error> {
        let mut ranges = responses.into_iter().filter_map(|response| match response {
            TxnOpResponse::Get(range) => Some(range),
            _ => None,
        });
        let own = self.own().into_bytes();
        let mut view = View::default();
        for kv in ranges.next().iter().flat_map(|range| range.kvs()) {
            if kv.key() == own {
                view.own = Some(kv.lease());
            } else {
                view.others = true;
            }
        }
        if let Some(kv) = ranges.next().as_ref().and_then(|range| range.kvs().first()) {
            let instance = serde_json::from_slice(kv.value()).map_err(|cause| {
                let key = self.key("inst");
                etcd_client::Error::InvalidArgs(format!(
                    "key {key} was not written by this version: {cause}"
                ))
            })?;
            view.found = Some(Found {
                instance,
                fence: kv.create_revision(),
            });
        }
        view.started = ranges.next().is_some_and(|range| !range.kvs().is_empty());
        Ok(view)
    }

    fn is_elsewhere(&self, instance: &Instance) -> bool {
        escape(&instance.host) != self.host
    }

    /// Waits for an event that is more than a renewal.
    ///
    /// A reference of another host concerns only the host that runs the service or may start it. If each link read the
    /// keys then, a hundred hosts that start at once would cause ten thousand reads.
    async fn try_changed(&mut self) -> Result<(), etcd_client::Error> {
        if self.watch.is_none() {
            let base = self.base.clone();
            self.watch = Some(
                self.client()
                    .await?
                    .watch(base, Some(WatchOptions::new().with_prefix()))
                    .await?,
            );
            return Ok(()); // What happened before the watch began is unknown.
        }
        let (own, instance) = (self.own().into_bytes(), self.key("inst").into_bytes());
        while let Some(watch) = &mut self.watch {
            let Some(response) = watch
                .message()
                .await?
                .filter(|response| !response.canceled())
            else {
                self.watch = None;
                break;
            };
            let mut changed = false;
            let mut elsewhere = self.runs_elsewhere;
            for event in response.events() {
                let Some(kv) = event.kv() else { continue };
                if kv.key() == instance {
                    let put = event.event_type() == EventType::Put;
                    let now = put.then(|| (kv.create_revision(), kv.value().to_vec()));
                    changed |= now != self.watched;
                    self.watched = now;
                    let instance = put.then(|| serde_json::from_slice(kv.value()).ok());
                    elsewhere = instance
                        .flatten()
                        .is_some_and(|instance| self.is_elsewhere(&instance));
                } else {
                    let renewal = event.event_type() == EventType::Put && kv.version() > 1;
                    changed |= kv.key() != own && !renewal && !elsewhere;
                }
            }
            self.runs_elsewhere = elsewhere;
            if changed {
                break;
            }
        }
        Ok(())
    }
}

impl Registry for Etcd {
    type Unknown = Unknown;

    async fn perform(&mut self, request: &Request) -> Result<Reply, Unknown> {
        let cause = match self.try_perform(request).await {
            Ok(reply) => return Ok(reply),
            Err(cause) => cause,
        };
        let unknown = self.next_member(cause);
        tokio::time::sleep(PAUSE).await;
        Err(unknown)
    }

    fn revoke(&mut self, lease: Lease) {
        let member = self.members.get(self.member);
        if let Some(mut client) = member.and_then(|member| member.client.clone()) {
            tokio::spawn(async move {
                let _ = client.lease_revoke(lease).await;
            });
        }
    }

    async fn changed(&mut self) {
        if self.try_changed().await.is_err() {
            self.watch = None;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn encode(instance: &Instance) -> Vec<u8> {
    // Maps with keys that are not strings are the only values that this cannot write.
    serde_json::to_vec(instance).unwrap_or_default()
}

/// Replaces `/` and `%`, so that no key of a service is below that of another one.
fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}
