//! The part of HTTP that a health check needs.

use std::net::SocketAddr;

use super::connection::{connect_tcp, receive, send};
use super::wait::{ProbeResult, ReadinessWait};

/// The longest accepted status line, in bytes.
pub(super) const LONGEST: usize = 4096;

/// The state of a partial answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Status(u16),
    /// It can still become a status line.
    Incomplete,
    /// The answer is not HTTP.
    Garbage,
}

/// Parses `HTTP/1.x SP CODE [SP REASON] LF` as far as it has arrived.
pub(super) fn parse_answer(bytes: &[u8]) -> Answer {
    const BEGIN: &[u8] = b"HTTP/1.";
    let common = bytes.len().min(BEGIN.len());
    if bytes[..common] != BEGIN[..common] {
        return Answer::Garbage;
    }
    let Some(end) = bytes.iter().take(LONGEST).position(|&byte| byte == b'\n') else {
        return if bytes.len() < LONGEST {
            Answer::Incomplete
        } else {
            Answer::Garbage
        };
    };
    let mut words = bytes[..end].trim_ascii_end().split(|&byte| byte == b' ');
    // The version was checked above.
    words.next();
    match words.next() {
        Some(&[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Answer::Status(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        _ => Answer::Garbage,
    }
}

/// Sends one request.
pub(super) fn probe(address: SocketAddr, path: &str, watch: &ReadinessWait<'_>) -> ProbeResult {
    match exchange(address, path, watch) {
        Ok(200..=399) => ProbeResult::Ready,
        Ok(status) => ProbeResult::NotYet(format!("HTTP {status}")),
        Err(found) => found,
    }
}

fn exchange(
    address: SocketAddr,
    path: &str,
    watch: &ReadinessWait<'_>,
) -> Result<u16, ProbeResult> {
    let socket = connect_tcp(address, watch)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: procref\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    send(&socket, request.as_bytes(), watch)?;
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        match receive(&socket, &mut buffer, watch)? {
            0 => return not_yet("it closed the connection without an answer"),
            length => answer.extend_from_slice(&buffer[..length]),
        }
        match parse_answer(&answer) {
            Answer::Status(status) => return Ok(status),
            Answer::Incomplete => {}
            Answer::Garbage => return not_yet("its answer is not HTTP"),
        }
    }
}

fn not_yet<T>(why: &str) -> Result<T, ProbeResult> {
    Err(ProbeResult::NotYet(why.to_owned()))
}
