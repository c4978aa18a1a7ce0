//! The description of a service that many hosts share.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use procref::{Ready, ServiceCommand};
use procref_config::files::template::literal;

use crate::cluster::Cluster;

/// The program that runs as a link.
const PROGRAM: &str = "procref-etcd";

/// A service that runs on one host of a cluster, for [`link`].
///
/// ```
/// use std::time::Duration;
///
/// use procref_etcd::LinkSpec;
///
/// let spec = LinkSpec::new("model", "model-server")
///     .args(["--port", "{port}"])
///     .advertise("{host}:{port}")
///     .grace(Duration::from_secs(2));
/// assert_eq!(spec.name(), "model");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a description starts nothing by itself"]
pub struct LinkSpec {
    name: String,
    command: Vec<OsString>,
    options: Vec<(&'static str, OsString)>,
    program: PathBuf,
}

impl LinkSpec {
    /// Describes the service `name` that runs `program`. In the program and its arguments, `{port}` is the port of the
    /// service, and `{dir}` is the runtime directory.
    ///
    /// `name` must be the name of the service that [`link`] is the command of, and all hosts must use it.
    pub fn new(name: impl Into<String>, program: impl AsRef<OsStr>) -> Self {
        Self {
            name: name.into(),
            command: vec![program.as_ref().to_owned()],
            options: Vec::new(),
            program: PROGRAM.into(),
        }
    }

    /// Returns the name of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds arguments of the program.
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        self.command
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    fn option(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.options.push((name, value.into()));
        self
    }

    fn time(self, name: &'static str, time: Duration) -> Self {
        self.option(name, format!("{}ms", time.as_millis()))
    }

    /// Sets the port that the service listens on. By default, the kernel of its host chooses a free one at each start if
    /// `{port}` is used.
    pub fn port(self, port: u16) -> Self {
        self.option("--port", port.to_string())
    }

    /// Sets when the service is ready, as `ready` in `procref.toml`: `tcp`, `http:/path`, `log:REGEX`, `cmd:COMMAND`,
    /// `notify` or `started`. The default is `tcp` if the service has a port, and otherwise `started`.
    pub fn ready(self, when: &str) -> Self {
        self.option("--ready", when)
    }

    /// Sets the time between the stop signal of the service and SIGKILL. The default is 5 s. A reference must last more
    /// than twice as long, so a longer grace makes other hosts wait longer for the loss of a host.
    ///
    /// The [`stop_timeout`](procref::SharedServiceBuilder::stop_timeout) of the service whose command is the [`link`]
    /// must be some seconds longer than this time.
    pub fn grace(self, time: Duration) -> Self {
        self.time("--grace", time)
    }

    /// Sets the time limit for a start of the service. The default is 60 s.
    pub fn start_timeout(self, time: Duration) -> Self {
        self.time("--start-timeout", time)
    }

    /// Sets the address of the service for the clients of all hosts. The default is `{host}:{port}`, with the name of
    /// the service's host.
    pub fn advertise(self, address: &str) -> Self {
        self.option("--advertise", address)
    }

    /// Sets that no host starts the service after an instance that vanished without an orderly stop, until `procref-etcd
    /// forget` allows it.
    pub fn manual_takeover(self) -> Self {
        self.option("--takeover", "manual")
    }

    /// Sets the only host that runs the service, by the name of its system. The links of other hosts wait until it has
    /// started the service, which `procref-etcd serve` does there.
    pub fn at(self, host: &str) -> Self {
        self.option("--at", host)
    }

    /// Sets the path of the program `procref-etcd`. By default, it is searched in the `PATH`.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = path.into();
        self
    }
}

/// Returns the command of the local service that holds a reference to the cluster's service for this host.
///
/// The first local client starts the link, and the last one stops it. The service is ready when the cluster's service
/// is. Its [port](procref::ServiceInfo::port) is that of the cluster's service, and its metadata has `address`, `host` and
/// `fence`. If the cluster's service ends, or this host loses its reference, the link exits, so the local service is
/// dead. The next client starts a new link.
///
/// ```
/// use procref::SharedService;
/// use procref_etcd::{Cluster, LinkSpec, link};
///
/// # let dir = tempfile::tempdir()?;
/// let cluster = Cluster::from_url("etcd://h1,h2,h3/ci")?;
/// let spec = LinkSpec::new("model", "model-server").args(["--port", "{port}"]);
/// let service = SharedService::builder(spec.name())
/// #   .base_dir(dir.path())
///     .command(link(&cluster, &spec))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn link(cluster: &Cluster, spec: &LinkSpec) -> ServiceCommand {
    // The library fills in the link's command line, and the link fills in that of the service.
    let url = cluster.to_string();
    let mut command = ServiceCommand::new(literal(spec.program.as_os_str()))
        .arg("link")
        .args(["--cluster".into(), literal(OsStr::new(&url))])
        .args(["--runtime-dir", "{dir}"]);
    for (name, value) in &spec.options {
        command = command.arg(name).arg(literal(value));
    }
    command = command.arg("--").arg(literal(OsStr::new(&spec.name)));
    command
        .args(spec.command.iter().map(|word| literal(word)))
        .ready(Ready::notify())
}
