//! The addresses at which a service's port is probed.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::wait::{ProbeResult, ReadinessWait};

/// The loopback addresses at which a port is probed, in this order.
///
/// A server that listens at `localhost` may use either of them, so procref probes both. It skips an address
/// at which another process listens, because that process could answer in place of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses(Vec<SocketAddr>);

impl Addresses {
    /// Only 127.0.0.1.
    pub(crate) fn v4(port: u16) -> Self {
        Self(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))])
    }

    /// 127.0.0.1 and ::1.
    pub(crate) fn both(port: u16) -> Self {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        Self(Self::v4(port).0.into_iter().chain([v6]).collect())
    }

    /// Probes each address until one is ready.
    pub(super) fn probe(
        &self,
        watch: &ReadinessWait<'_>,
        look: impl Fn(SocketAddr, &ReadinessWait<'_>) -> ProbeResult,
    ) -> ProbeResult {
        let refused = io::ErrorKind::ConnectionRefused.to_string();
        let mut found = refused.clone();
        for &address in &self.0 {
            match look(address, &watch.one_attempt(Duration::ZERO)) {
                // An answer says more than a missing one.
                ProbeResult::NotYet(why) if found == refused => found = why,
                ProbeResult::NotYet(_) => {}
                other => return other,
            }
        }
        ProbeResult::NotYet(found)
    }

    /// Describes the listeners on the port at other addresses. Empty if there are none.
    #[cfg(target_os = "linux")]
    pub(super) fn other_listeners(&self) -> String {
        let Some(port) = self.0.first().map(SocketAddr::port) else {
            return String::new();
        };
        let listening = super::listening::addresses_of(port);
        let other = listening
            .iter()
            .find(|address| !self.0.contains(address) && !address.ip().is_unspecified());
        match other {
            Some(address) => format!(
                " (a process listens on {address}, which procref does not ask: let the service listen on \
                 127.0.0.1 or ::1, or use a command for `ready`)"
            ),
            None => String::new(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn other_listeners(&self) -> String {
        String::new()
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, address) in self.0.iter().enumerate() {
            let before = if nth == 0 { "" } else { " or " };
            write!(f, "{before}{address}")?;
        }
        Ok(())
    }
}
