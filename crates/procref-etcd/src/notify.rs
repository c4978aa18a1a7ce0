//! Reports to the process that has started this one, as `sd_notify(3)` describes.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::error::{Error, Result};
use crate::registry::Found;

/// Sends the address of the service to the local clients, and that the link is ready.
pub(crate) fn ready(found: &Found) -> Result<()> {
    let address = &found.instance.address;
    let (host, port) = split(address);
    let port = port
        .map(|port| format!("PROCREF_PORT={port}\n"))
        .unwrap_or_default();
    send(&format!(
        "{port}PROCREF_META_address={address}\nPROCREF_META_host={host}\nPROCREF_META_fence={}\n\
         PROCREF_META_cluster_host={}\nREADY=1",
        found.fence, found.instance.host
    ))
}

/// Sends that the program has started.
pub(crate) fn started() -> Result<()> {
    send("READY=1")
}

/// Sends what the link waits for.
pub(crate) fn status(text: &str) {
    // Without a status the start works, too.
    let _ = send(&format!("STATUS={}", text.replace('\n', " ")));
}

/// Splits an address into its host and its port. An IPv6 address with a port has brackets.
pub(crate) fn split(address: &str) -> (&str, Option<u16>) {
    let parsed = address
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    match parsed.and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (
            host.trim_start_matches('[').trim_end_matches(']'),
            Some(port),
        ),
        None => (address, None),
    }
}

fn send(message: &str) -> Result<()> {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let sent = || -> io::Result<()> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
        Ok(())
    };
    sent().map_err(|cause| Error::new(format!("report to {}: {cause}", name.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn address_is_split_at_its_port() {
        assert_eq!(split("h:1"), ("h", Some(1)));
        assert_eq!(split("[::1]:2"), ("::1", Some(2)));
        assert_eq!(split("h"), ("h", None));
        assert_eq!(split("::1"), ("::1", None));
        assert_eq!(split("h:x"), ("h:x", None));
    }
}
