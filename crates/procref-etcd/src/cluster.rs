//! The address of a cluster, and the credentials for it.
//!
//! ```text
//! etcd://HOST[:PORT][,HOST…][/PREFIX][?OPTION=VALUE[&OPTION=VALUE…]]      etcds:// for TLS
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Result};

mod credentials;

pub use credentials::PASSWORD;

/// The port of etcd for clients.
const PORT: u16 = 2379;

/// The shortest time to live that etcd grants, and a bound far from the limits of its integers.
const TTL: [u64; 2] = [2, 86_400];

/// The options of the URL, in the order in which messages list them.
const OPTIONS: [&str; 6] = ["ttl", "user", "password-file", "ca", "cert", "key"];

/// The characters of a prefix, a user or a path that need no escape in a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A cluster of etcd members, which keeps the state of services that many hosts share.
///
/// [`Display`](fmt::Display) writes its URL, which contains no password.
///
/// ```
/// use procref_etcd::Cluster;
///
/// let cluster = Cluster::from_url("etcd://h1,h2:2380,[::1]/team/ci?ttl=25s")?;
/// assert_eq!(cluster.endpoints(), ["http://h1:2379", "http://h2:2380", "http://[::1]:2379"]);
/// assert_eq!(cluster.prefix(), "team/ci");
/// # Ok::<(), procref_etcd::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    tls: bool,
    /// Names or addresses with their ports.
    members: Vec<String>,
    prefix: String,
    ttl: Option<Duration>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Cluster {
    /// Parses a URL. Paths of files are relative to the working directory.
    ///
    /// The port is 2379 by default. The options are `ttl` (the time to live of a reference, in whole seconds), `user`,
    /// `password-file`, `ca` (the certificate of the authority that signed those of the members), and `cert` and `key`
    /// (the certificate and the key of this client). The URL must not contain a password, because other users see it
    /// in the list of processes. The password comes from `password-file` or from the variable `PROCREF_CLUSTER_PASSWORD`.
    ///
    /// # Errors
    /// If the URL cannot be parsed, contains a password, or has options that contradict each other.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::parse(url).map_err(|reason| {
            // The text may contain a password that is in the wrong place.
            let shown = match url.contains('@') || url.contains("password") {
                true => String::new(),
                false => format!(" `{}`", url.escape_debug()),
            };
            Error::new(format!("the URL of the cluster{shown}: {reason}"))
        })
    }

    fn parse(url: &str) -> std::result::Result<Self, String> {
        let (tls, rest) = match (url.strip_prefix("etcds://"), url.strip_prefix("etcd://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => {
                return Err("it begins neither with etcd:// nor with etcds://".to_owned());
            }
        };
        if rest.contains('#') {
            return Err("it contains `#` (write %23 for this character)".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (in_authority, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        if in_authority.is_some_and(|user| user.contains(':')) {
            return Err(format!(
                "it contains a password, which other users see in the list of processes (set {PASSWORD}, or name a file \
                 with ?password-file=)"
            ));
        }
        let members: Vec<String> = hosts
            .split(',')
            .map(member)
            .collect::<std::result::Result<_, _>>()?;
        let prefix = decoded("the prefix", path.trim_matches('/'))?;
        let mut options = options(query)?;
        let user = options.remove("user");
        if user.is_some() && in_authority.is_some() {
            return Err("it names two users (write USER@ or ?user=USER)".to_owned());
        }
        let user = match in_authority {
            Some(user) => Some(decoded("the user", user)?),
            None => user,
        };
        let ttl = options.remove("ttl").map(|text| ttl(&text)).transpose()?;
        let mut path = |name: &str| {
            options
                .remove(name)
                .map(|path| absolute(name, &path))
                .transpose()
        };
        let cluster = Self {
            tls,
            members,
            prefix,
            ttl,
            user,
            password_file: path("password-file")?,
            ca: path("ca")?,
            cert: path("cert")?,
            key: path("key")?,
        };
        cluster.check()?;
        Ok(cluster)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.user.as_deref() == Some("") {
            return Err("the name of the user is empty".to_owned());
        }
        if self.password_file.is_some() && self.user.is_none() {
            return Err("`password-file` needs `user`".to_owned());
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err("`cert` and `key` need each other".to_owned());
        }
        if !self.tls && (self.ca.is_some() || self.cert.is_some()) {
            return Err(
                "`ca`, `cert` and `key` need TLS (write etcds:// instead of etcd://)".to_owned(),
            );
        }
        if self.tls && !cfg!(feature = "tls") {
            return Err(
                "this program was built without TLS (build it with the feature `tls`)".to_owned(),
            );
        }
        Ok(())
    }

    /// Returns the URLs of the members for a client of etcd, such as `http://h1:2379`.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = if self.tls { "https" } else { "http" };
        let members = self.members.iter();
        members
            .map(|member| format!("{scheme}://{member}"))
            .collect()
    }

    /// Returns the prefix of all keys, without `/` at its ends.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns `true` if the members can identify this client, by a user or a certificate.
    pub(crate) fn has_credentials(&self) -> bool {
        self.user.is_some() || self.cert.is_some()
    }

    /// Returns the time to live that the URL sets.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let scheme = if self.tls { "etcds" } else { "etcd" };
        let mut url = format!("{scheme}://{}", self.members.join(","));
        if !self.prefix.is_empty() {
            let _ = write!(url, "/{}", escaped(&self.prefix));
        }
        let path = |path: &Option<PathBuf>| path.as_deref().and_then(Path::to_str).map(escaped);
        let values = [
            self.ttl.map(|ttl| format!("{}s", ttl.as_secs())),
            self.user.as_deref().map(escaped),
            path(&self.password_file),
            path(&self.ca),
            path(&self.cert),
            path(&self.key),
        ];
        let mut separator = '?';
        for (name, value) in OPTIONS.into_iter().zip(values) {
            if let Some(value) = value {
                let _ = write!(url, "{separator}{name}={value}");
                separator = '&';
            }
        }
        f.write_str(&url)
    }
}

impl FromStr for Cluster {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        Self::from_url(url)
    }
}

/// Returns a member with its port.
fn member(text: &str) -> std::result::Result<String, String> {
    let shown = text.escape_debug();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest
                .split_once(']')
                .ok_or_else(|| format!("`]` is missing in `{shown}`"))?;
            let address: std::net::Ipv6Addr = address
                .parse()
                .map_err(|_| format!("`{shown}` contains no IPv6 address"))?;
            (format!("[{address}]"), port)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (text[..end].to_owned(), &text[end..])
        }
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if host.is_empty() {
        return Err("the name of a member is empty (write etcd://h1,h2,h3)".to_owned());
    }
    if !host.starts_with('[') && !host.chars().all(valid) {
        return Err(format!(
            "`{shown}` is not the name or the address of a member"
        ));
    }
    let port = match port {
        "" => PORT,
        port => port
            .strip_prefix(':')
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("`{shown}`: the port is not a number from 1 to 65535"))?,
    };
    Ok(format!("{host}:{port}"))
}

fn options(query: &str) -> std::result::Result<BTreeMap<String, String>, String> {
    let mut options = BTreeMap::new();
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if name == "password" {
            return Err(format!(
                "it contains a password (set {PASSWORD}, or write password-file=)"
            ));
        }
        if !OPTIONS.contains(&name) {
            let name = name.escape_debug();
            return Err(format!(
                "unknown option `{name}` (the options are {})",
                OPTIONS.join(", ")
            ));
        }
        let value = decoded(name, value)?;
        if value.is_empty() {
            return Err(format!("the option `{name}` has no value"));
        }
        if options.insert(name.to_owned(), value).is_some() {
            return Err(format!("the option `{name}` is repeated"));
        }
    }
    Ok(options)
}

fn decoded(what: &str, text: &str) -> std::result::Result<String, String> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| format!("{what} is not UTF-8"))?;
    match text.contains('\0') {
        true => Err(format!("{what} contains a NUL character")),
        false => Ok(text.into_owned()),
    }
}

fn ttl(text: &str) -> std::result::Result<Duration, String> {
    let ttl = procref_config::value_parsers::duration(text)
        .map_err(|reason| format!("`ttl`: {reason}"))?;
    let [shortest, longest] = TTL;
    match ttl.subsec_nanos() == 0 && (shortest..=longest).contains(&ttl.as_secs()) {
        true => Ok(ttl),
        false => Err(format!(
            "`ttl` is not a number of whole seconds from {shortest}s to {longest}s"
        )),
    }
}

fn absolute(name: &str, path: &str) -> std::result::Result<PathBuf, String> {
    let path = std::path::absolute(path).map_err(|cause| format!("`{name}`: {cause}"))?;
    match path.to_str() {
        Some(_) => Ok(path),
        None => Err(format!(
            "`{name}`: the path of the working directory is not UTF-8"
        )),
    }
}

#[cfg(test)]
mod tests;
