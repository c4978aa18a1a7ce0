//! Reads the listening TCP sockets from
//! [proc_pid_net(5)](https://man7.org/linux/man-pages/man5/proc_pid_net.5.html).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a listening socket.
const LISTEN: &str = "0A";

/// Returns the addresses at which a process listens on this port. Empty if the lists cannot be read.
pub(super) fn addresses_of(port: u16) -> Vec<SocketAddr> {
    let lists = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let texts = lists.map(|list| fs::read_to_string(list).unwrap_or_default());
    texts
        .iter()
        .flat_map(|text| text.lines().skip(1))
        .filter_map(parse)
        .filter(|address| address.port() == port)
        .collect()
}

/// Parses the local address of a line, if the socket listens: `0: 0100007F:1F90 00000000:0000 0A …`.
pub(super) fn parse(line: &str) -> Option<SocketAddr> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(address)?)),
        32 => {
            let mut bytes = [0; 16];
            for (nth, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(address.get(nth * 8..nth * 8 + 8)?)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Parses four bytes of an address, which the kernel prints as one number in native byte order.
fn word(digits: &str) -> Option<[u8; 4]> {
    let number = u32::from_str_radix(digits, 16).ok()?;
    Some(number.to_ne_bytes())
}
