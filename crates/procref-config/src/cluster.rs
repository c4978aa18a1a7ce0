//! A service that the hosts of a cluster share: its local service is a link, the program `procref-etcd`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use procref::ServiceCommand;

use crate::files::template::{literal, uses_port};
use crate::prestart::command_line;
use crate::program;
use crate::spec::ServiceSpec;
use crate::value_parsers::{self, Port, When};

/// The program that holds a reference of this host in a cluster.
pub const PROGRAM: &str = "procref-etcd";

/// The grace of a service that sets none, as the library's default.
const GRACE: Duration = Duration::from_secs(10);

/// The time limit of a start, as the library's default.
const START: Duration = Duration::from_secs(60);

/// How much longer the link may take to stop than its service: for the keys, and for the fuse.
const STOP_LONGER: Duration = Duration::from_secs(5);

/// How much longer the link may take to start than its service: for the end of the lease of a lost host.
const START_LONGER: Duration = Duration::from_secs(60);

/// The cluster of a service, and what the other hosts see of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSpec {
    /// The URL, with its options.
    pub url: String,
    /// The address of the service for the clients of all hosts.
    pub advertise: Option<String>,
    /// When a host may start the service after an instance that vanished.
    pub takeover: Option<String>,
    /// The only host that may run the service.
    pub at: Option<String>,
}

/// Fails if a text is not the URL of a cluster. The link checks the rest of it.
///
/// # Errors
///
/// Returns the reason.
pub fn check_url(url: &str) -> Result<(), String> {
    let rest = url
        .strip_prefix("etcds://")
        .or_else(|| url.strip_prefix("etcd://"));
    let Some(rest) = rest else {
        return Err("the URL of a cluster begins with etcd:// or etcds://".to_owned());
    };
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("the URL of a cluster contains a space or a control character".to_owned());
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'))
    {
        return Err(
            "the URL of a cluster contains a password (set PROCREF_CLUSTER_PASSWORD, or name a file with `password-file`)"
                .to_owned(),
        );
    }
    Ok(())
}

/// Appends an option to a URL.
pub(crate) fn add_option(url: &mut String, name: &str, value: &str) {
    url.push(if url.contains('?') { '&' } else { '?' });
    url.push_str(name);
    url.push('=');
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                url.push(char::from(byte))
            }
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// Returns the program beside `helper`, or its name, which is searched in the `PATH`.
fn link_program(helper: &Path) -> OsString {
    let beside = helper.with_file_name(PROGRAM);
    match beside.is_file() {
        true => beside.into(),
        false => PROGRAM.into(),
    }
}

/// Returns `true` if the program is installed beside `helper` or in the `PATH`.
#[must_use]
pub fn is_installed(helper: &Path) -> bool {
    let path = env::var_os("PATH");
    program::find_in(&link_program(helper), path.as_deref()).is_some()
}

impl ServiceSpec {
    /// Returns the reason why a cluster cannot share this service.
    #[must_use]
    pub fn unshareable_reason(&self) -> Option<&'static str> {
        self.cluster.as_ref()?;
        if self.health.is_some() {
            return Some(
                "`health` connects to this host, and a service of a cluster may run on another one",
            );
        }
        if !self.prestart.depends_on.is_empty() {
            return Some(
                "`depends-on` names services of one host, and a service of a cluster may run on another one",
            );
        }
        None
    }

    /// Returns how long the local service may take to stop.
    pub(crate) fn stop_timeout(&self) -> Option<Duration> {
        match self.cluster {
            Some(_) => Some(self.grace.unwrap_or(GRACE).saturating_add(STOP_LONGER)),
            None => self.grace,
        }
    }

    /// Returns the time limit for a start of the local service.
    pub(crate) fn start_limit(&self) -> Option<Duration> {
        match self.cluster {
            Some(_) => Some(
                self.start_timeout
                    .unwrap_or(START)
                    .saturating_add(START_LONGER),
            ),
            None => self.start_timeout,
        }
    }

    /// Returns the command of the link, which starts this service if no host runs it.
    pub(crate) fn link_command(
        &self,
        cluster: &ClusterSpec,
        helper: &Path,
    ) -> Option<ServiceCommand> {
        let program = command_line::wrap(self, helper, self.start.as_ref()?);
        let mut options: Vec<(&str, OsString)> = vec![("--cluster", cluster.url.clone().into())];
        let mut option =
            |name, value: Option<OsString>| options.extend(value.map(|value| (name, value)));
        let time = |time: Duration| format!("{}ms", time.as_millis()).into();
        option("--grace", Some(time(self.grace.unwrap_or(GRACE))));
        option("--start-timeout", self.start_timeout.map(time));
        option(
            "--stop-signal",
            self.stop_signal.map(|signal| signal.to_string().into()),
        );
        option("--advertise", cluster.advertise.clone().map(Into::into));
        option("--takeover", cluster.takeover.clone().map(Into::into));
        option("--at", cluster.at.clone().map(Into::into));
        option("--ready", self.ready_text.clone().map(Into::into));
        option(
            "--port",
            match self.port {
                Some(Port::Fixed(port)) => Some(port.to_string().into()),
                Some(Port::Auto) => Some("auto".into()),
                None => None,
            },
        );
        let Ok(When::Asked(notify)) = value_parsers::ready("notify") else {
            return None;
        };
        // The library fills in the words of the link, and the link fills in those of the service.
        let mut command = ServiceCommand::new(literal(&link_program(helper)))
            .args(["link", "--runtime-dir", "{dir}"])
            .ready(notify);
        for (name, value) in options {
            command = command.arg(name).arg(literal(&value));
        }
        for (name, value) in &self.env {
            if uses_port(value) {
                command = command.arg("--fill").arg(literal(OsStr::new(name)));
            }
        }
        let words = program.iter().map(|word| literal(word));
        Some(
            command
                .arg("--")
                .arg(literal(OsStr::new(&self.name)))
                .args(words),
        )
    }
}
