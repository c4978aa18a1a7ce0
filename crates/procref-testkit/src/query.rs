//! Talking to the fake service.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Asks the service behind `port` who it is and whether it is well.
///
/// # Errors
///
/// It does not answer, or strangely.
pub fn service(port: u16) -> io::Result<(u32, bool)> {
    service_over(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?)
}

/// [`service`], over a connection that is there already.
///
/// # Errors
///
/// It does not answer, or strangely.
pub fn service_over(mut stream: TcpStream) -> io::Result<(u32, bool)> {
    let limit = Some(Duration::from_secs(20));
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    stream.write_all(b"who?\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let strange = || io::Error::other(format!("the service answered {line:?}"));
    let (pid, health) = line.trim().split_once(' ').ok_or_else(strange)?;
    let pid = pid.parse().map_err(|_| strange())?;
    Ok((pid, health == "healthy"))
}
