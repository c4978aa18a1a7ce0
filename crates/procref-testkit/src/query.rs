//! Queries to the fake service.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Returns the pid of the service that listens on `port`, and `true` if it is healthy.
///
/// # Errors
///
/// Returns an error if the service does not answer, or not in the expected form.
pub fn service(port: u16) -> io::Result<(u32, bool)> {
    service_over(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?)
}

/// Like [`service`], over an existing connection.
///
/// # Errors
///
/// Returns an error if the service does not answer, or not in the expected form.
pub fn service_over(mut stream: TcpStream) -> io::Result<(u32, bool)> {
    let limit = Some(Duration::from_secs(20));
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    stream.write_all(b"status\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let unexpected = || io::Error::other(format!("the service answered {line:?}"));
    let (pid, health) = line.trim().split_once(' ').ok_or_else(unexpected)?;
    let pid = pid.parse().map_err(|_| unexpected())?;
    Ok((pid, health == "healthy"))
}
